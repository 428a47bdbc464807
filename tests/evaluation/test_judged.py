"""What a judge says: fluency, coherence, and whether a sample matches its condition."""

import math
import random

import pytest
import torch

from aigc_lab.evaluation.metrics import (
    Estimate,
    bits_per_byte,
    conditional_accuracy,
    dependence,
    fluency_distance,
    halves,
    reordered,
)
from aigc_lab.evaluation.metrics.judged import UNIT


def test_fluency_is_bits_over_bytes_not_a_mean_of_ratios() -> None:
    nats = -torch.tensor([8.0, 1.0]).double() * math.log(2)
    found = bits_per_byte(nats, torch.tensor([4, 1]))
    assert found.value == pytest.approx(9 / 5)
    assert found.low < 1.8 < found.high


def test_the_interval_of_fluency_covers_the_truth() -> None:
    rng, covered = torch.Generator().manual_seed(0), 0
    for _ in range(300):
        size = torch.randint(1, 9, (60,), generator=rng)
        bits = size * (2 + torch.randn(60, generator=rng))
        found = bits_per_byte(-bits.double() * math.log(2), size)
        covered += found.low < 2 < found.high
    assert 0.9 < covered / 300 < 0.99


def test_fluency_distance_of_shifted_and_of_mixed_laws() -> None:
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(400, generator=rng).double()
    assert fluency_distance(real, real).value == 0
    assert fluency_distance(real, real + 0.7).value == pytest.approx(0.7)
    assert fluency_distance(torch.zeros(3), torch.tensor([-2.0, 2.0])).value == 2, "means are alike, laws are not"
    other = torch.randn(300, generator=rng).double() + 0.7
    scipy = pytest.importorskip("scipy.stats")
    found = fluency_distance(real, other)
    assert found.value == pytest.approx(scipy.wasserstein_distance(real, other))
    assert found.standard_error == pytest.approx(math.sqrt(1 / 400 + 1 / 300), rel=0.15), "that of a shift"


def test_dependence_under_an_exact_judge_is_the_jeffreys_divergence() -> None:
    """A fair bit and its copy that flips with probability e: (1 - 2e)/2 · log2((1 - e)/e) bits."""
    e, random_bits = 0.1, random.Random(0)
    first = [random_bits.randrange(2) for _ in range(20_000)]
    second = [a ^ (random_bits.random() < e) for a in first]
    foreign = first[-1:] + first[:-1]

    def log_p(given: list[int]) -> torch.Tensor:
        return torch.tensor([math.log(1 - e if a == b else e) for a, b in zip(given, second, strict=True)])

    found = dependence(log_p(first), log_p(foreign), torch.ones(20_000))
    assert found.gain.value == pytest.approx((1 - 2 * e) / 2 * math.log2((1 - e) / e), rel=0.03)
    # own wins when it agrees and the foreign one does not: (1 - e)/2 + e/2 · 0 + ties (half of all)/2
    assert found.preferred.value == pytest.approx((1 - e) / 2 + 0.25, abs=0.01)
    nothing = dependence(log_p(foreign), log_p(foreign), torch.ones(20_000))
    assert (nothing.gain.value, nothing.preferred.value) == (0, 0.5)


def test_halves_share_the_bridge() -> None:
    cut = halves([b"abcdefgh", b"ABCDEFGH"], bridge=2)
    assert cut.own == [b"abcdef", b"ABCDEF"]
    assert cut.foreign == [b"ABCDef", b"abcdEF"]
    assert cut.text == [b"gh", b"GH"]


def test_reordered_texts_are_of_the_same_whole_lines_and_sentences() -> None:
    texts = [
        b"t off\none\ntwo. three!\n\nfour\ncut o",
        "尾。一二。三四！五六？断".encode(),
        b"a\nsame\nsame\nz",
        b"no line",
    ]
    own, other = reordered(texts, rng=torch.Generator().manual_seed(0))
    assert own == [b"one\ntwo. three!\n\nfour\n", "一二。三四！五六？".encode()]
    assert own[0] != other[0] and sorted(UNIT.findall(own[0])) == sorted(UNIT.findall(other[0]))
    assert other[1].decode() != own[1].decode() and sorted(other[1]) == sorted(own[1])


def test_conditional_accuracy() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]])
    found = conditional_accuracy(probabilities, torch.tensor([0, 1, 1, 0]))
    assert found.value == 0.75
    assert 0.3 < found.low < 0.75 < found.high < 0.96


def test_wilsons_interval() -> None:
    """10 of 20: (0.299, 0.701) (Newcombe 1998's method 3); never a point at the ends."""
    half = Estimate.share(10, 20)
    assert (half.low, half.high) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    none = Estimate.share(0, 100)
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(0.037, abs=1e-3)
