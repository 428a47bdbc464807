import math

import pytest
import torch

from aigc_lab.data.images import Digits
from aigc_lab.data.samples import Images, Texts
from aigc_lab.data.text import Pydoc
from aigc_lab.data.tokenizing import ByBytes
from aigc_lab.evaluation.controls import CONTROLS, ByteTrigrams, PixelMarginals
from aigc_lab.generators import Generator

RNG = torch.Generator()


@pytest.fixture(scope="module")
def datasets() -> dict[str, Digits | Pydoc]:
    return {
        "image": Digits(batch_size=8, levels=None, held_out=0.25),
        "text": Pydoc(batch_size=8, context=32, tokenizer=ByBytes(), packing=False, passage=64, held_out=0.2),
    }


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("name", CONTROLS)
def test_controls_keep_the_generators_interface(datasets: dict, modality: str, name: str) -> None:
    control = CONTROLS[name](datasets[modality])
    assert isinstance(control, Generator)
    assert control.modality == modality
    samples = control.sample(50, rng=RNG.manual_seed(0))
    assert samples.bytes_per_item() == [control.cost().bytes_per_sample] * 50
    items = datasets[modality].likelihood_items("held_out")
    likelihood = control.log_likelihood(items, rng=RNG)
    if name in ("oracle", "copycat", "noisy_copycat"):
        assert likelihood is None
    else:
        assert likelihood.kind == "exact" and (likelihood.nats < 0).all()


def test_the_oracle_and_the_copycat_replay_their_own_split(datasets: dict) -> None:
    def passages(name: str) -> set[bytes]:
        return set(CONTROLS[name](datasets["text"]).sample(200, rng=RNG.manual_seed(0)).passages)

    assert passages("oracle") <= set(datasets["text"].real("held_out").passages)
    assert passages("copycat") <= set(datasets["text"].real("train").passages)


def test_uniform_noise_costs_log2_of_the_values(datasets: dict) -> None:
    for modality, bits in (("text", 8.0), ("image", math.log2(17))):
        items = datasets[modality].likelihood_items("held_out")
        likelihood = CONTROLS["noise"](datasets[modality]).log_likelihood(items, rng=RNG)
        assert likelihood.bits_per_byte() == pytest.approx(bits)


def test_pixel_marginals_are_bernoulli_for_binary_images() -> None:
    train = Images(torch.tensor([[0, 1], [1, 1], [0, 1]], dtype=torch.uint8).view(3, 1, 1, 2), levels=2)
    model = PixelMarginals(train)
    p = model.log_likelihood(Images(torch.tensor([[[[1, 0]]]], dtype=torch.uint8), 2), rng=RNG).nats.exp()
    assert float(p) == pytest.approx(2 / 5 * 1 / 5), "add-one smoothed: (1+1)/(3+2) and (0+1)/(3+2)"
    drawn = model.sample(20_000, rng=RNG.manual_seed(0)).pixels.float().mean(0).flatten()
    torch.testing.assert_close(drawn, torch.tensor([2 / 5, 4 / 5]), atol=0.015, rtol=0)


@pytest.fixture(scope="module")
def trigrams() -> ByteTrigrams:
    return ByteTrigrams(b"the cat sat on the mat. the cat ran. " * 3, passage=12)


def test_trigrams_are_probabilities_in_every_context(trigrams: ByteTrigrams) -> None:
    for table in (trigrams.unigram, trigrams.bigram, trigrams.trigram):
        assert abs(table.sum(-1) - 1).max() < 1e-12
        assert table.min() > 0, "nothing is impossible"


def test_trigrams_by_hand() -> None:
    """After "ab" came c twice and d once: p(c | ab) = (2 + 2 p(c | b)) / (3 + 2), and so down (Witten-Bell)."""
    model = ByteTrigrams(b"abcabcabd", passage=4)
    unigram = (2 + 4 / 256) / (9 + 4)
    bigram = (2 + 2 * unigram) / (3 + 2)
    trigram = (2 + 2 * bigram) / (3 + 2)
    likelihood = model.log_likelihood(Texts([b"abc", b"ab"]), rng=RNG).nats
    assert float((likelihood[0] - likelihood[1]).exp()) == pytest.approx(trigram)


def test_trigram_samples_follow_their_likelihood(trigrams: ByteTrigrams) -> None:
    samples = trigrams.sample(400, rng=RNG.manual_seed(0))
    own = trigrams.log_likelihood(samples, rng=RNG).bits_per_byte()
    noise = Texts([bytes(p) for p in torch.randint(256, (400, 12)).tolist()])
    entropy = -sum(float(p) * math.log2(float(p)) for p in trigrams.unigram)
    assert own < entropy < trigrams.log_likelihood(noise, rng=RNG).bits_per_byte()
