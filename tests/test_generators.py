import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.data.spec import DataSpec
from aigc_lab.data.tokens import Bytes
from aigc_lab.decoding import Sampling
from aigc_lab.generators import (
    Autoregressive,
    Generator,
    Implicit,
    LatentVariable,
    NeuralGenerator,
    sliding_windows,
)
from aigc_lab.nets.codes import Strided, nearest
from aigc_lab.nets.mlp import MLP
from aigc_lab.nets.transformer import Transformer
from aigc_lab.objectives.likelihoods import Bernoulli, DiscretisedLogistic
from aigc_lab.quantised import Quantised


def spec_of(modality: str, shape: tuple[int, ...], vocab_size: int, passage: int = 0) -> DataSpec:
    return DataSpec(
        name="toy",
        modality=modality,
        shape=shape,
        vocab_size=vocab_size,
        tokenizer=Bytes() if modality == "text" else None,
        passage=passage,
        n_classes=0,
        n_train=1,
        n_held_out=1,
        content_hash="",
    )


def random_transformer(spec: DataSpec) -> Autoregressive:
    torch.manual_seed(0)
    network = Transformer(
        shape=spec.shape,
        vocab_size=spec.vocab_size,
        width=8,
        n_layers=2,
        n_heads=2,
        dropout=0.5,
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return Autoregressive(spec=spec, network=network)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_image(levels: int, n_pixels: int) -> Images:
    values = torch.tensor(list(itertools.product(range(levels), repeat=n_pixels)), dtype=torch.uint8)
    return Images(values.view(-1, 1, 1, n_pixels), levels)


@pytest.fixture
def pixels() -> Autoregressive:
    return random_transformer(spec_of("image", (1, 1, 3), 3))


@pytest.fixture
def vae() -> LatentVariable:
    torch.manual_seed(0)
    model = LatentVariable(
        spec=spec_of("image", (1, 1, 3), 2),
        encoder=MLP(hidden=[6]),
        decoder=MLP(hidden=[6]),
        likelihood=Bernoulli(),
        latent_dim=1,
        emit="sample",
    )
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter)
    return model


def test_the_pixel_models_likelihood_is_a_probability(pixels: Autoregressive) -> None:
    """Exact means exact: over all 27 images of three pixels it sums to one."""
    likelihood = pixels.log_likelihood(every_image(3, 3), rng=rng())
    assert float(likelihood.nats.logsumexp(0)) == pytest.approx(0, abs=1e-5)
    assert likelihood.kind == "exact"


def test_samples_follow_the_likelihood(pixels: Autoregressive) -> None:
    n = 20_000
    drawn = pixels.sample(n, rng=rng()).pixels.flatten(1).long() @ torch.tensor([9, 3, 1])
    p = pixels.log_likelihood(every_image(3, 3), rng=rng()).nats.exp()
    frequency = torch.bincount(drawn, minlength=27) / n
    assert (frequency - p).abs().max() < 4 * 0.5 / n**0.5


def exact_log_likelihood(vae: LatentVariable, images: Images) -> Tensor:
    """log ∫ p(x | z) N(z) dz over a fine grid of the one latent dimension."""
    z = torch.linspace(-8, 8, 4001)
    log_prior = torch.distributions.Normal(0, 1).log_prob(z) + math.log(16 / 4000)
    with torch.no_grad():
        maps = vae.decoder(z[:, None])
        rows = [vae.likelihood.log_prob(maps, image.expand(len(z), -1, -1, -1), 2) for image in images.pixels]
    return torch.stack([(row + log_prior).logsumexp(0) for row in rows])


def test_the_vaes_bounds_stand_below_the_exact_likelihood_and_reach_it(vae: LatentVariable) -> None:
    images = every_image(2, 3)
    exact = exact_log_likelihood(vae, images)
    assert float(exact.logsumexp(0)) == pytest.approx(0, abs=1e-4)

    def mean_bound(k: int, repeats: int) -> Tensor:
        found = [vae.log_likelihood(images, rng=rng(i), importance_samples=k) for i in range(repeats)]
        assert {f.kind for f in found} == {"lower bound"}
        return torch.stack([f.nats for f in found]).mean(0)

    elbo, tighter, tight = mean_bound(1, 400), mean_bound(8, 200), mean_bound(10_000, 4)
    assert (elbo < exact).all()
    assert (tighter > elbo).all()
    torch.testing.assert_close(tight.float(), exact, atol=0.03, rtol=0)


def test_a_conditional_vaes_bound_is_of_the_likelihood_over_all_classes() -> None:
    """log p(x) = log Σ_y p(y) p(x | y), each by quadrature over the latent dimension; a class may be absent."""
    torch.manual_seed(0)
    spec = replace(spec_of("image", (1, 1, 3), 2), n_classes=3, class_counts=(30, 0, 10))
    settings = {"encoder": MLP(hidden=[6]), "decoder": MLP(hidden=[6]), "likelihood": Bernoulli(), "latent_dim": 1}
    vae = LatentVariable(spec=spec, **settings, emit="sample", conditional=True)
    for parameter in vae.decoder.parameters():
        torch.nn.init.normal_(parameter)
    images = every_image(2, 3)
    z = torch.linspace(-8, 8, 4001)[:, None]
    log_prior = torch.distributions.Normal(0, 1).log_prob(z[:, 0]) + math.log(16 / 4000)
    p_x_given = torch.zeros(3, 8)
    for y in (0, 2):
        maps = vae.decode(z, torch.full((4001,), y)).detach()
        for i, image in enumerate(images.pixels):
            log_p = vae.likelihood.log_prob(maps, image.expand(4001, -1, -1, -1), 2)
            p_x_given[y, i] = (log_p + log_prior).logsumexp(0).exp()
    exact = (p_x_given * torch.tensor([[0.75], [0.0], [0.25]])).sum(0)
    assert float(exact.sum()) == pytest.approx(1, abs=1e-4)

    one = torch.stack([vae.log_likelihood(images, rng=rng(i)).nats for i in range(300)]).mean(0)
    tight = vae.log_likelihood(images, rng=rng(), importance_samples=20_000)
    assert (one < exact.log()).all()
    assert tight.draw_error is not None and float(tight.draw_error.max()) < 0.03
    assert ((tight.nats - exact.log()).abs() < 5 * tight.draw_error + 1e-3).all()

    n = 20_000
    ones = vae.sample_classes(torch.full((n,), 2), rng=rng()).pixels.flatten(1).long() @ torch.tensor([4, 2, 1])
    assert (torch.bincount(ones, minlength=8) / n - p_x_given[2]).abs().max() < 4 * 0.5 / n**0.5
    whole = vae.sample(n, rng=rng()).pixels.flatten(1).long() @ torch.tensor([4, 2, 1])
    assert (torch.bincount(whole, minlength=8) / n - exact).abs().max() < 4 * 0.5 / n**0.5


GENERATORS = {
    "text": lambda: random_transformer(spec_of("text", (8,), 256, passage=20)),
    "pixels": lambda: random_transformer(spec_of("image", (1, 2, 2), 5)),
    "gan": lambda: Implicit(spec=spec_of("image", (3, 4, 4), 256), generator=MLP(hidden=[4]), latent_dim=3),
    "vae": lambda: LatentVariable(
        spec=spec_of("image", (1, 4, 4), 17),
        encoder=MLP(hidden=[4]),
        decoder=MLP(hidden=[4]),
        likelihood=DiscretisedLogistic(),
        latent_dim=2,
        emit="sample",
    ),
}


def with_codes(spec: DataSpec) -> Quantised:
    codes = Strided(n_codes=64, code_dim=4, width=8, halvings=1, blocks=1)
    model = Quantised(spec=spec, codes=codes, likelihood=DiscretisedLogistic(), emit="sample")
    with torch.no_grad():
        model.codebook.copy_(model.features(torch.randint(256, (64, *spec.shape)))[:, 0])
    return model


def with_latents(spec: DataSpec) -> LatentVariable:
    networks = {"encoder": MLP(hidden=[16]), "decoder": MLP(hidden=[16])}
    return LatentVariable(spec=spec, **networks, likelihood=DiscretisedLogistic(), latent_dim=4, emit="sample")


@pytest.mark.parametrize("build", [with_codes, with_latents])
def test_under_autocast_a_bound_is_nearly_what_it_is_without(build: Callable[[DataSpec], NeuralGenerator]) -> None:
    """Of 256 levels: a quarter of their bins have no width, and so no mass, in bfloat16."""
    torch.manual_seed(0)
    generator = build(spec_of("image", (1, 8, 8), 256))
    images = Images(torch.randint(256, (100, 1, 8, 8), dtype=torch.uint8), 256)
    exact = generator.log_likelihood(images, rng=rng(1)).nats
    with torch.autocast("cpu", torch.bfloat16):
        found = generator.log_likelihood(images, rng=rng(1)).nats
    torch.testing.assert_close(found, exact, rtol=0.005, atol=0)


def test_codes_are_the_nearest_under_autocast_too() -> None:
    torch.manual_seed(0)
    z, codebook = torch.randn(500, 8), torch.randn(64, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest(z, codebook)
    assert torch.equal(found, torch.cdist(z, codebook).argmin(1))


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_keeps_the_interface(name: str) -> None:
    generator = GENERATORS[name]()
    assert isinstance(generator, Generator)
    generator.train()
    samples = generator.sample(5, rng=rng())
    assert generator.training, "sampling leaves the mode as it was"
    again, other = generator.sample(5, rng=rng()), generator.sample(5, rng=rng(1))
    assert same(samples, again) and not same(samples, other)
    most = generator.cost().bytes_per_sample
    assert all(most - 3 <= size <= most + 3 for size in samples.bytes_per_item()), "a cut character is left out"
    likelihood = generator.log_likelihood(samples, rng=rng())
    if name == "gan":
        assert likelihood is None
    else:
        assert likelihood.nats.shape == (5,) and (likelihood.nats < 0).all()
        assert likelihood.n_bytes.tolist() == samples.bytes_per_item()
    cost = generator.cost()
    assert 0 < cost.parameters <= sum(p.numel() for p in generator.parameters())
    assert cost.flops_per_sample > 0
    if isinstance(generator, Autoregressive):  # each symbol meets every matrix but the embedding
        network = generator.network
        entries = sum(p.numel() for p in network.parameters() if p.dim() == 2) - network.embedding.weight.numel()
        n_symbols = math.prod(generator.spec.shape) if generator.modality == "image" else generator.spec.passage
        assert 2 * entries * n_symbols <= cost.flops_per_sample < 4 * entries * n_symbols


def same(a: Samples, b: Samples) -> bool:
    if isinstance(a, Texts):
        return a.passages == b.passages
    return torch.equal(a.pixels, b.pixels)


def test_a_text_longer_than_the_context_is_scored_once_symbol_by_symbol() -> None:
    generator = random_transformer(spec_of("text", (8,), 256, passage=20))
    text = bytes(range(60, 83))
    whole = generator.log_likelihood(Texts([text]), rng=rng())
    by_hand = 0.0
    with torch.no_grad():
        generator.eval()
        for begin, score_from, end in sliding_windows(len(text), 8):
            symbols = torch.tensor(list(text[begin:end]))[None]
            log_p = generator.logits(symbols).log_softmax(-1)[0].gather(1, symbols[0][:, None])
            by_hand += float(log_p[score_from - begin :].sum())
    assert float(whole.nats) == pytest.approx(by_hand, rel=1e-5)
    together = generator.log_likelihood(Texts([b"", text, b"abc"]), rng=rng())
    assert together.nats[0] == 0 and float(together.nats[1]) == pytest.approx(by_hand, rel=1e-5)


@given(st.integers(0, 200), st.integers(1, 40))
def test_windows_partition_the_text_and_keep_half_a_context(length: int, context: int) -> None:
    windows = list(sliding_windows(length, context))
    assert [i for _, score_from, end in windows for i in range(score_from, end)] == list(range(length))
    for begin, score_from, end in windows:
        assert end - begin <= context
        assert score_from - begin >= min(score_from, context // 2)


def test_continuing_beyond_the_context_keeps_the_prompt_and_goes_on() -> None:
    generator = random_transformer(spec_of("text", (8,), 256, passage=20))
    prompt = torch.randint(256, (2, 11))
    symbols = generator.continue_symbols(prompt, 30, rng=rng())
    assert symbols.shape == (2, 41) and torch.equal(symbols[:, :11], prompt)
    greedy = generator.continue_symbols(prompt[:1], 3, rng=rng(), sampling=Sampling(temperature=0))
    visible = prompt[:1, -7:]
    with torch.no_grad():
        start = torch.full((1, 1), 256)
        expected = generator.network.eval()(torch.cat([start, visible], 1))[:, -1].argmax(-1)
    assert greedy[0, 11] == expected
