"""Unmasking in any order: the bound on known laws, samples of those laws, and runs through the command line."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aigc_lab.any_order import AnyOrder
from aigc_lab.cli import main
from aigc_lab.data.samples import Images, Texts
from aigc_lab.data.spec import DataSpec
from aigc_lab.data.tokens import Characters
from aigc_lab.generators import load
from aigc_lab.nets.transformer import Transformer
from aigc_lab.objectives.any_order import bound, draw_mask

LENGTH, VALUES = 3, 2
EVERY = torch.cartesian_prod(*[torch.arange(VALUES)] * LENGTH)
"""Every sequence: [8, 3]."""


def joint() -> Tensor:
    """A law of three dependent bits: p of each row of `EVERY`."""
    return (3 * torch.rand(len(EVERY), generator=torch.Generator().manual_seed(0), dtype=torch.float64)).softmax(0)


def exact_logits(symbols_BL: Tensor, masked_BL: Tensor) -> Tensor:
    """log p(x_i = v | the symbols that are not masked) of the joint law, [B, L, V]."""
    fits = ((symbols_BL[:, None] == EVERY) | masked_BL[:, None]).all(-1).double()  # [B, 8]
    mass = torch.einsum("be,e,eiv->biv", fits, joint(), torch.nn.functional.one_hot(EVERY, VALUES).double())
    return (mass / mass.sum(-1, keepdim=True)).log()


def tiny(at_once: int, logits: Callable[[Tensor, Tensor], Tensor] | None = None) -> AnyOrder:
    spec = DataSpec(
        name="bits",
        modality="text",
        shape=(LENGTH,),
        vocab_size=VALUES,
        tokenizer=Characters("ab"),
        passage=LENGTH,
        n_classes=0,
        n_train=1,
        n_held_out=1,
        content_hash="",
    )
    torch.manual_seed(0)
    network = Transformer(
        shape=spec.shape, vocab_size=VALUES, width=8, n_layers=1, n_heads=2, position_embedding=True, causal=False
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    generator = AnyOrder(spec=spec, network=network, at_once=at_once)
    if logits is not None:
        generator.logits = lambda symbols, masked, documents=None: logits(symbols, masked)
    return generator.eval()


def texts(symbols: Tensor) -> Texts:
    return Texts(["".join("ab"[i] for i in row).encode() for row in symbols.tolist()])


def exact_bound(logits: Callable[[Tensor, Tensor], Tensor], at_once: int) -> Tensor:
    """The mean over every step and every order, for each sequence: [8]."""
    n_steps = -(-LENGTH // at_once)
    orders = torch.tensor(list(itertools.permutations(range(LENGTH)))).double()
    found = []
    for step in range(n_steps):
        for order in orders.expand(len(EVERY), -1, -1).unbind(1):
            where = torch.full((len(EVERY),), (step + 0.5) / n_steps)
            mask, weight = draw_mask(torch.ones_like(EVERY, dtype=torch.bool), at_once, where, order)
            found.append(bound(logits(EVERY, mask), EVERY, mask, weight))
    return torch.stack(found).mean(0)


def law_of_unmasking(logits: Callable[[Tensor, Tensor], Tensor], at_once: int) -> tuple[Tensor, Tensor]:
    """p(x) of every sequence, and E_order log p(x | order), by going through every order step by step."""
    p, log_p = torch.zeros(len(EVERY)).double(), torch.zeros(len(EVERY)).double()
    orders = list(itertools.permutations(range(LENGTH)))
    for order in orders:
        of_order = torch.zeros(len(EVERY)).double()
        for begin in range(0, LENGTH, at_once):
            masked = torch.zeros_like(EVERY, dtype=torch.bool)
            masked[:, order[begin:]] = True
            found = logits(EVERY, masked).log_softmax(-1).gather(2, EVERY[..., None])[..., 0]
            of_order += found[:, order[begin : begin + at_once]].sum(1).double()
        p += of_order.exp() / len(orders)
        log_p += of_order / len(orders)
    return p, log_p


def test_with_the_exact_conditionals_the_bound_is_the_entropy() -> None:
    """Every order tells the same joint law, so nothing is lost: for each sequence, and in the mean."""
    p = joint()
    found = exact_bound(exact_logits, at_once=1)
    torch.testing.assert_close(found.double(), p.log(), rtol=1e-5, atol=1e-5)
    entropy = -float((p * p.log()).sum())
    drawn = tiny(1, exact_logits).log_likelihood(
        texts(EVERY), rng=torch.Generator().manual_seed(0), importance_samples=2000
    )
    assert drawn.kind == "lower bound" and drawn.is_estimate
    assert -float((p * drawn.nats).sum()) == pytest.approx(entropy, abs=0.03)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_the_bound_is_that_of_the_law_that_is_sampled(at_once: int) -> None:
    """Of a network that is no joint law, by going through every order; and below log p."""
    generator = tiny(at_once)
    with torch.inference_mode():
        p, expected = law_of_unmasking(generator.logits, at_once)
        assert float(p.sum()) == pytest.approx(1)
        torch.testing.assert_close(exact_bound(generator.logits, at_once).double(), expected, rtol=1e-5, atol=1e-5)
        assert (expected <= p.log() + 1e-9).all()
    n = 4000
    samples = generator.sample(n, rng=torch.Generator().manual_seed(1))
    assert isinstance(samples, Texts)
    counts = Counter(samples.passages)
    frequency = torch.tensor([counts[text] / n for text in texts(EVERY).passages])
    assert ((frequency - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**31))
def test_every_mask_leaves_the_given_symbols_and_the_weights_sum_to_all(
    n_free: int, at_once: int, seed: int
) -> None:
    """Weight · masked symbols is S times what a step unmasks; over the steps, these are all free symbols."""
    rng = torch.Generator().manual_seed(seed)
    free = torch.randperm(10, generator=rng).expand(100, -1) < n_free
    n_steps = -(-n_free // at_once)
    steps = (torch.arange(100) % n_steps + 0.5) / n_steps
    mask, weight = draw_mask(free, at_once, steps, torch.rand(100, 10, generator=rng))
    assert not (mask & ~free).any() and mask.any(1).all()
    assert float((weight * mask.sum(1) / n_steps)[:n_steps].sum()) == pytest.approx(n_free)


def test_samples_do_not_depend_on_their_company() -> None:
    """Nor on how many windows the others take."""
    generator = tiny(1)
    prompt = torch.tensor([[0], [1], [1], [0]])

    def rows(n: int) -> list[list[int]]:
        return generator.continue_bytes(prompt[:n], 20, rng=torch.Generator().manual_seed(3)).tolist()

    four = rows(4)
    assert rows(1)[0] == four[0] and rows(3) == four[:3]
    assert all(len(row) >= 21 and row[0] == p for row, [p] in zip(four, prompt.tolist(), strict=True))


def test_a_long_text_is_bounded_window_by_window() -> None:
    """With the exact conditionals of a window: the first three symbols, then each next one given two."""
    text = torch.tensor([[0, 1, 1, 0, 1]])
    found = tiny(1, exact_logits).log_likelihood(
        texts(text), rng=torch.Generator().manual_seed(0), importance_samples=2000
    )
    p = joint().view(2, 2, 2)
    expected = math.log(p[0, 1, 1])
    for a, b, c in ((1, 1, 0), (1, 0, 1)):
        expected += math.log(p[a, b, c] / p[a, b].sum())
    assert float(found.nats) == pytest.approx(expected, abs=0.08)


def test_a_network_that_sees_one_side_is_refused() -> None:
    with pytest.raises(ValueError, match="see to both sides"):
        AnyOrder(
            spec=tiny(1).spec,
            network=Transformer(shape=(3,), vocab_size=2, width=8, n_layers=1, n_heads=2),
            at_once=1,
        )


SMALL = [
    "model=masked",
    "model.network={width: 16, n_layers: 1, n_heads: 2}",
    "logger=none",
    "trainer.num_threads=1",
]


def losses(path: Path) -> list[float]:
    rows = [line.split(",") for line in (path / "metrics.csv").read_text().splitlines()[1:]]
    return [float(value) for _, name, value in rows if name == "val/loss"]


def train(name: str, *overrides: str) -> Path:
    assert main(["train", *SMALL, f"run_id={name}", f"name={name}", *overrides]) == 0
    return Path("runs", name, name)


def test_training_tightens_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On lines that repeat, packed."""
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text(";".join(f"{i} says the same" for i in range(300)))
    data = ["data=text_file", "data.path=lines.txt", "data.context=40", "data.passage=16", "data.batch_size=16"]
    more = ["model.lr=1e-2", "trainer.max_steps=100", "trainer.limit_val_batches=4"]
    more += ["trainer.val_check_interval=10"]
    first, *_, last = losses(train("lines", *data, *more, "data.packing=true", 'data.separator=";"'))
    assert last < 0.7 * first < 0.7 * math.log(256)


def test_images_are_unmasked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = [
        "data.batch_size=4",
        "trainer.max_steps=2",
        "model.at_once=8",
        "+model.network.position_embedding=true",
    ]
    generator = load(train("digits", "data=digits", *sizes[:3]))
    images = generator.sample(2, rng=torch.Generator().manual_seed(0))
    assert isinstance(images, Images) and len(images) == 2
    found = generator.log_likelihood(images, rng=torch.Generator().manual_seed(0), importance_samples=3)
    assert found is not None and found.kind == "lower bound"
    assert 2 < found.bits_per_byte() < 8, "about log2 17 before training"
