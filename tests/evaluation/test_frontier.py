"""MAUVE and the divergence frontier."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import gaussian
from torch import Tensor

from aigc_lab.evaluation.metrics import (
    divergence_frontier,
    frontier,
    frontier_integral,
    mauve,
    mauve_of_histograms,
)


def histogram(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("p", "q", "area", "integral"),
    [
        ((0.5, 0.5), (0.5, 0.5), 1, 0),
        ((0.5, 0.5), (0.25, 0.75), 0.941004, 0.045229),
        ((0.5, 0.5), (1, 0), 0.278114, 0.306853),
        ((1, 0), (0, 1), 0.004072, 1),
    ],
)
def test_known_frontiers(p: tuple, q: tuple, area: float, integral: float) -> None:
    p, q = histogram(*p), histogram(*q)
    assert float(mauve_of_histograms(p, q)) == pytest.approx(area, abs=1e-6)
    assert float(frontier_integral(p, q)) == pytest.approx(integral, abs=1e-6)


def test_the_frontier_of_disjoint_laws_is_that_of_the_paper() -> None:
    """(w^c, (1 - w)^c): KL(q | r) = -log(1 - w) and KL(p | r) = -log w."""
    x, y = divergence_frontier(histogram(1, 0), histogram(0, 1))[1:-1].unbind(1)
    torch.testing.assert_close(x ** (1 / 5) + y ** (1 / 5), torch.ones(25, dtype=torch.float64))
    assert math.comb(10, 5) ** -1 == pytest.approx(0.004072, abs=2e-4)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=12), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_frontier_summaries_are_bounded_symmetric_and_blind_to_order(counts: list, seed: int) -> None:
    p, q = (torch.tensor(c, dtype=torch.float64) + 1e-9 for c in zip(*counts, strict=True))
    p, q = p / p.sum(), q / q.sum()
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))
    for summary in (mauve_of_histograms, frontier_integral):
        value = float(summary(p, q))
        assert -1e-9 <= value <= 1 + 1e-9
        assert float(summary(q, p)) == pytest.approx(value, abs=1e-9)
        assert float(summary(p[order], q[order])) == pytest.approx(value, abs=1e-9)


def test_frontier_integral_is_the_integral() -> None:
    p, q = histogram(0.2, 0.5, 0.3, 0), histogram(0.21, 0.1, 0.4, 0.29)
    weights = torch.linspace(0, 1, 20_001, dtype=torch.float64)[1:-1, None]
    r = weights * p + (1 - weights) * q
    kl_p, kl_q = ((torch.xlogy(v, v) - torch.xlogy(v, r)).sum(1) for v in (p, q))
    w = weights[:, 0]
    assert float(frontier_integral(p, q)) == pytest.approx(float(2 * (w * kl_p + (1 - w) * kl_q).mean()), abs=1e-4)


def test_mauve_of_identical_and_of_disjoint_samples() -> None:
    """Identical laws: .962 at the default number of cells, not 1; smoothed it is higher. Disjoint ones: .004."""
    found = [mauve(gaussian(1000, 2, 2 * i), gaussian(1000, 2, 2 * i + 1), seed=i) for i in range(4)]
    assert np.mean([f.mauve.value for f in found]) == pytest.approx(0.962, abs=0.02)
    assert all(f.mauve_star.value > f.mauve.value for f in found)
    assert all(f.frontier_integral_star.value < f.frontier_integral.value for f in found)
    x = gaussian(500, 3)
    far = mauve(x + 30 * torch.eye(3)[0], x - 30 * torch.eye(3)[0])
    assert far.mauve.value == pytest.approx(0.004072, abs=1e-6)
    assert far.frontier_integral.value == pytest.approx(1)
    assert mauve(x, x).mauve.value == pytest.approx(1)
    assert far.frontier.shape == (27, 2)


def test_mauve_is_a_mean_over_k_means_and_its_interval_holds_their_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of five k-means tell the two sets apart, three do not: the mean of 0, 1, 0, 1 and 0 is .4 ± .24."""
    blind, sharp = torch.arange(200) % 2, torch.arange(200) // 100
    monkeypatch.setattr(frontier, "_quantise", lambda points, n_cells, seed: sharp if seed % 2 else blind)
    found = mauve(gaussian(100, 2), gaussian(100, 2, 1), n_cells=2)
    assert found.mauve.value == pytest.approx((3 + 2 * 0.004072) / 5, abs=1e-6)
    assert found.frontier_integral.value == pytest.approx(0.4)
    assert found.frontier_integral.high == pytest.approx(0.4 + 1.96 * 0.245, abs=0.01)


def test_mauve_falls_with_the_damage() -> None:
    x = gaussian(1000, 4, shift=1)
    values = [
        mauve(x, gaussian(1000, 4, 1, 1 + shift) * torch.tensor([1, 1, 1, -1.0])).mauve.value
        for shift in (0, 1, 2)
    ]
    assert values == sorted(values, reverse=True)


def test_frontier_agrees_with_the_authors() -> None:
    theirs = pytest.importorskip("mauve.compute_mauve")
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(30))
    curve = theirs.get_divergence_curve_for_multinomials(p, q, np.linspace(1e-6, 1 - 1e-6, 25), 5)
    area = theirs.compute_area_under_curve(curve[:, 0], curve[:, 1])
    ours = torch.from_numpy(p), torch.from_numpy(q)
    assert float(mauve_of_histograms(*ours)) == pytest.approx(area, rel=1e-9)
    assert float(frontier_integral(*ours)) == pytest.approx(theirs.get_fronter_integral(p, q), rel=1e-6)
