"""Known answers first, then agreement with independent libraries, then properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import gaussian
from torch import Tensor

from aigc_lab.evaluation.metrics import (
    DensityCoverage,
    Estimate,
    PrecisionRecall,
    authenticity,
    density_coverage,
    distances,
    frechet_at_infinity,
    frechet_distance,
    manifold,
    nearest_neighbours,
    precision_recall,
    two_sample_accuracy,
)


def with_moments(mean: list[float], covariance: list[list[float]], n: int = 500) -> Tensor:
    """A sample whose own mean and covariance are exactly these."""
    x = gaussian(n, len(mean))
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.atleast_2d(torch.cov(x.mT)))).mT
    return x @ torch.linalg.cholesky(torch.tensor(covariance, dtype=torch.float64)).mT + torch.tensor(mean)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        (([0.0], [[1.0]]), ([1.0], [[4.0]]), 2.0),
        (([0.0, 0.0], [[1.0, 0], [0, 1]]), ([1.0, 2.0], [[2, 0.5], [0.5, 1]]), 5.247842043423),
        (([0.0, 0.0], [[2, 0.5], [0.5, 1]]), ([0.0, 0.0], [[1, -0.3], [-0.3, 3]]), 0.929311854968),
    ],
)
def test_frechet_distance_of_gaussians(first: tuple, second: tuple, distance: float) -> None:
    found = frechet_distance(with_moments(*first), with_moments(*second))
    assert found.value == pytest.approx(distance, abs=1e-9)


def test_frechet_distance_has_the_known_bias_for_identical_laws() -> None:
    """E FD = d(d+5) / (2n) for two samples of N(0, I): .026 at d = 8, n = 2000."""
    values = [frechet_distance(gaussian(2000, 8, 2 * i), gaussian(2000, 8, 2 * i + 1)).value for i in range(40)]
    assert np.mean(values) == pytest.approx(0.026, abs=4 * np.std(values) / 40**0.5)


@pytest.mark.parametrize(("n", "d"), [(300, 512), (1000, 64)], ids=["singular", "regular"])
def test_frechet_distance_agrees_with_torch_fidelity(n: int, d: int) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = gaussian(n, d), 1.3 * gaussian(n, d, 1, shift=0.1)
    statistics = [fid_features_to_statistics(f) for f in (x, y)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(x, y).value == pytest.approx(theirs, rel=1e-7)


def test_frechet_intervals_cover_repeated_draws() -> None:
    real = gaussian(4000, 4)
    values, inside = [], 0
    estimates = [frechet_distance(real, gaussian(500, 4, 10 + i, shift=0.3)) for i in range(60)]
    centre = np.mean([e.value for e in estimates])
    inside = sum(e.low <= centre <= e.high for e in estimates)
    assert 0.85 <= inside / len(estimates) <= 1, values


@pytest.mark.parametrize(("n", "m", "d"), [(40, 60, 64), (200, 30, 64), (30, 200, 64), (300, 300, 8)])
def test_frechet_distance_is_exact_where_covariances_are_singular(n: int, m: int, d: int) -> None:
    """Against the nuclear norm of the centred data's cross product, by singular values."""
    x, y = gaussian(n, d), 1.3 * gaussian(m, d, 1, shift=0.1)
    x[:, 3], y[:, 3], y[:, 5] = 2.0, 2.0, y[:, 4]  # a dead feature, a doubled one
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    overlap = torch.linalg.svdvals(a @ b.mT).sum()
    exact = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * overlap
    assert frechet_distance(x, y).value == pytest.approx(float(exact), rel=1e-8)
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-5)


def test_frechet_standard_error_is_the_bootstraps() -> None:
    real, generated = gaussian(3000, 5), 1.4 * gaussian(800, 5, 1, shift=0.2)
    rng = torch.Generator().manual_seed(0)
    resampled = [generated[torch.randint(800, (800,), generator=rng)] for _ in range(200)]
    error = np.std([frechet_distance(real, resample).value for resample in resampled])
    assert frechet_distance(real, generated).standard_error == pytest.approx(error, rel=0.15)


def test_frechet_at_infinity_takes_the_generated_samples_bias_away() -> None:
    """d(d+5) / (4 n) at n = 500, d = 16: .168; the real side's is .004."""
    real, shift = gaussian(20_000, 16), 0.1
    found = [
        (frechet_distance(real, y).value, frechet_at_infinity(real, y, seed=i).value)
        for i, y in enumerate(gaussian(500, 16, 1 + i, shift=shift) for i in range(12))
    ]
    finite, infinite = np.mean(found, axis=0)
    assert finite == pytest.approx(16 * shift**2 + 0.172, abs=0.06)
    assert infinite == pytest.approx(16 * shift**2, abs=0.08)
    assert infinite < finite - 0.08


CASES = {
    "overlapping": (gaussian(300, 6), gaussian(200, 6, 1, shift=0.5)),
    "far": (gaussian(50, 3), gaussian(60, 3, 1, shift=100)),
    "collapsed": (gaussian(200, 4), 0.05 * gaussian(150, 4, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_precision_recall_density_coverage_agree_with_prdc(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    from prdc import compute_prdc

    real, generated = CASES[case]
    theirs = compute_prdc(real.numpy(), generated.numpy(), nearest_k=5)
    ours, density = precision_recall(real, generated, k=5), density_coverage(real, generated, k=5)
    assert ours.precision.value == pytest.approx(theirs["precision"])
    assert ours.recall.value == pytest.approx(theirs["recall"])
    assert density.density.value == pytest.approx(theirs["density"])
    assert density.coverage.value == pytest.approx(theirs["coverage"])


def test_precision_and_recall_are_not_swapped() -> None:
    """A generator collapsed onto one mode is precise and does not cover."""
    real = torch.cat([gaussian(300, 2), gaussian(300, 2, 1, shift=50)])
    found = precision_recall(real, gaussian(300, 2, 2))
    assert found.precision.value > 0.9
    assert found.recall.value < 0.55


def test_identical_sets_and_far_sets() -> None:
    x = gaussian(100, 3)
    same, far = precision_recall(x, x), precision_recall(x, x + 1e6)
    assert (same.precision.value, same.recall.value) == (1, 1)
    assert (far.precision.value, far.recall.value) == (0, 0)
    assert density_coverage(x, x).coverage.value == 1
    assert density_coverage(x, x).density.value == pytest.approx(1, abs=1e-12), "balls are open"


def test_all_four_at_once_are_the_same_four() -> None:
    real, generated = CASES["overlapping"]
    found = manifold(real, generated)
    assert precision_recall(real, generated) == PrecisionRecall(found.precision, found.recall)
    assert density_coverage(real, generated) == DensityCoverage(found.density, found.coverage)


def test_ties_count_as_on_the_radius() -> None:
    """On a grid most distances are equal: closed balls hold what lies at their radius, open ones do not."""
    grid = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    moved = (grid + 1)[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    turn = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
    turned, moved_and_turned = (points.double() @ turn + 17.3 for points in (grid, moved))
    assert manifold(turned, moved_and_turned, k_precision=1) == manifold(grid, moved, k_precision=1)
    assert precision_recall(grid, moved, k=1).precision.value == (64 - 1) / 64


@pytest.mark.parametrize(
    ("n", "m", "k", "coverage"),
    [(1000, 1000, 5, 0.968984140), (1000, 1000, 3, 0.875375094), (1000, 500, 5, 0.868971559)],
)
def test_coverage_and_density_of_identical_laws(n: int, m: int, k: int, coverage: float) -> None:
    """E[coverage] = 1 - Π_{i=1..k} (N-i) / (N+M-i); E[density] = 1, in any dimension."""
    found = [density_coverage(gaussian(n, 5, 2 * i), gaussian(m, 5, 2 * i + 1), k=k) for i in range(12)]
    assert np.mean([f.coverage.value for f in found]) == pytest.approx(coverage, abs=0.008)
    assert np.mean([f.density.value for f in found]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("d", "precision", "recall"), [(2, 0.994, 0.994), (64, 0.751, 0.757)])
def test_perfect_samples_are_not_of_precision_and_recall_1(d: int, precision: float, recall: float) -> None:
    """N = M = 500, k = 5 (gan_theory, section B)."""
    found = [precision_recall(gaussian(500, d, 2 * i), gaussian(500, d, 2 * i + 1), k=5) for i in range(12)]
    assert np.mean([f.precision.value for f in found]) == pytest.approx(precision, abs=0.02)
    assert np.mean([f.recall.value for f in found]) == pytest.approx(recall, abs=0.02)


def test_two_sample_accuracy() -> None:
    x, y = gaussian(600, 8), gaussian(900, 8, 1)
    assert two_sample_accuracy(x, y).value == pytest.approx(0.5, abs=0.06)
    assert two_sample_accuracy(x, x).value == 0, "the nearest neighbour of a copy is its original"
    assert two_sample_accuracy(x, y + 100).value == 1


@pytest.mark.parametrize(("d", "share"), [(1, 0.33), (2, 0.39), (8, 0.59), (64, 0.81)])
def test_authenticity_of_fresh_samples_depends_on_the_dimension(d: int, share: float) -> None:
    """N(0, I), 1,000 training points: 33, 39, 59 and 81 % (gan_theory, section B)."""
    values = [authenticity(gaussian(1000, d, 3 * i), gaussian(1000, d, 3 * i + 1)).value for i in range(4)]
    assert np.mean(values) == pytest.approx(share, abs=0.025)


def test_authenticity_of_copies_is_zero_and_of_far_points_one() -> None:
    train = gaussian(200, 5)
    assert authenticity(train, train[:50]).value == 0
    assert authenticity(train, train[:50] + 1e-9).value == 0
    assert authenticity(train, train[:50] + 100).value == 1


def test_results_do_not_depend_on_the_tile_size(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = CASES["overlapping"]
    measures = (manifold, two_sample_accuracy, authenticity)
    whole = [measure(real, generated) for measure in measures]
    monkeypatch.setattr(distances, "ROWS", 7)
    monkeypatch.setattr(distances, "COLUMNS", 64)
    assert whole == [measure(real, generated) for measure in measures]


@given(st.integers(0, 10_000), st.floats(-50, 50), st.floats(0.1, 20))
@settings(max_examples=25, deadline=None)
def test_neighbour_metrics_do_not_change_under_shift_rotation_and_scale(
    seed: int, shift: float, scale: float
) -> None:
    real, generated = gaussian(60, 3, seed), gaussian(50, 3, seed + 1, shift=0.3)
    rotation, _ = torch.linalg.qr(gaussian(3, 3, seed + 2))

    def move(x: Tensor) -> Tensor:
        return scale * (x @ rotation) + shift

    for metric in (precision_recall, density_coverage, two_sample_accuracy, authenticity):
        assert metric(move(real), move(generated)) == metric(real, generated)
    expected = frechet_distance(real, generated).value * scale**2
    assert frechet_distance(move(real), move(generated)).value == pytest.approx(expected, rel=1e-6)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_nearest_neighbours_are_the_nearest(n: int, m: int, d: int) -> None:
    reference, points = gaussian(n, d), gaussian(m, d, 1)
    index, distance = nearest_neighbours(reference, points)
    everything = torch.cdist(points, reference)
    assert torch.equal(index, everything.argmin(1))
    torch.testing.assert_close(distance, everything.min(1).values)


def test_intervals_of_shares_are_binomial() -> None:
    estimate = Estimate.mean_of(torch.arange(1000) < 300)
    assert estimate.value == pytest.approx(0.3)
    assert estimate.high - estimate.value == pytest.approx(1.96 * math.sqrt(0.3 * 0.7 / 1000), rel=1e-3)
