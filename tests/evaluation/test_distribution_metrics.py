"""Kernel distances, sliced Wasserstein, Vendi and classifier scores: known answers, agreement, properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import gaussian, same_moments, two_modes
from torch import Tensor

from aigc_lab.evaluation.metrics import (
    Gaussian,
    classifier_score,
    classifier_test,
    cmmd,
    frechet_distance,
    kernel_distance,
    kernels,
    median_distance,
    mmd,
    sliced_wasserstein,
    vendi_ratio,
    vendi_score,
)


def test_kid_of_two_points() -> None:
    """-13 exactly, as torchmetrics and torch-fidelity have it."""
    assert kernel_distance(torch.tensor([[0.0], [1]]), torch.tensor([[0.0], [2]])).value == -13


@pytest.mark.parametrize(("shift", "scale", "distance"), [(1, 1, 22), (0, 2, 27)])
def test_kid_of_gaussians(shift: float, scale: float, distance: float) -> None:
    found = kernel_distance(gaussian(4000, 1), scale * gaussian(4000, 1, 1) + shift)
    assert found.low < distance < found.high
    assert found.high - found.low < 12


@pytest.mark.parametrize("d", [1, 8])
def test_mmd_of_gaussians(d: int) -> None:
    """2 (s²/(s²+2))^(d/2) (1 - exp(-|m|² / (2 (s²+2)))): .177267635 at d = s = m = 1."""
    exact = 2 * (1 / 3) ** (d / 2) * (1 - math.exp(-d / 6))
    found = mmd(gaussian(4000, d), gaussian(4000, d, 1, shift=1), kernel=Gaussian(1.0))
    assert found.value == pytest.approx(exact, abs=4 * found.standard_error)
    assert found.standard_error < 0.1 * exact
    assert d > 1 or exact == pytest.approx(0.177267635, abs=1e-9)


def test_three_moments_are_all_that_kid_sees() -> None:
    """S5: Fréchet and KID are 0 in population, a Gaussian kernel finds .1418, W1 .7352, a classifier .7575."""
    x, y = two_modes(4000), same_moments(4000, 7)
    kid, found = kernel_distance(x, y), mmd(x, y, kernel=Gaussian(1.0))
    assert abs(kid.value) < 3 * kid.standard_error
    assert frechet_distance(x, y).value < 0.02
    assert found.value == pytest.approx(0.141841401, abs=4 * found.standard_error)
    assert sliced_wasserstein(x, y, order=1, n_directions=4).value == pytest.approx(0.735206, abs=0.05)
    assert classifier_test(x, y).accuracy.value == pytest.approx(0.757451688, abs=0.03)


def test_kid_agrees_with_torchmetrics() -> None:
    functions = pytest.importorskip("torchmetrics.image.kid")
    x, y = gaussian(60, 5), gaussian(60, 5, 1, shift=0.5)
    theirs = functions.poly_mmd(x, y, degree=3, gamma=None, coef=1.0)
    assert kernel_distance(x, y).value == pytest.approx(float(theirs), rel=1e-9)


def test_kernel_intervals_hold_the_truth() -> None:
    kernel, exact = Gaussian(1.0), 2 / 3 * (1 - math.exp(-2 * 0.16 / 6))
    estimates = [mmd(gaussian(300, 2, 2 * i), gaussian(300, 2, 2 * i + 1, 0.4), kernel=kernel) for i in range(80)]
    assert np.mean([e.low <= exact <= e.high for e in estimates]) >= 0.88
    null = [mmd(gaussian(200, 2, 2 * i), gaussian(200, 2, 2 * i + 1), kernel=kernel) for i in range(80)]
    assert np.mean([e.low <= 0 <= e.high for e in null]) >= 0.9


def test_cmmd_is_bounded_and_nearly_the_distance_of_means() -> None:
    x = torch.tensor([[1.0, 0, 0]])
    assert cmmd(x.repeat(3, 1), -x.repeat(3, 1)).value == pytest.approx(39.602653, abs=1e-6)
    y, z = gaussian(500, 8, 1, 1.0), gaussian(400, 8, 2)
    means = [(v / v.norm(dim=1, keepdim=True)).mean(0) for v in (y, z)]
    assert cmmd(y, z).value == pytest.approx(10 * float((means[0] - means[1]).square().sum()), rel=0.03)
    assert cmmd(y, y).value == pytest.approx(0, abs=1e-9)


def test_median_distance() -> None:
    assert median_distance(torch.tensor([[0.0], [1], [5]])) == 4
    assert median_distance(gaussian(5000, 64)) == pytest.approx(math.sqrt(128), rel=0.02)


def test_kernel_distances_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussian(50, 3), gaussian(40, 3, 1)
    whole = kernel_distance(x, y)
    monkeypatch.setattr(kernels, "BLOCK", 7)
    assert kernel_distance(x, y).value == pytest.approx(whole.value, rel=1e-12)
    assert kernel_distance(x, y).high == pytest.approx(whole.high, rel=1e-12)


@pytest.mark.parametrize(("d", "w1"), [(2, 0.636620), (64, 0.100126)])
def test_sliced_wasserstein_of_shifted_copies(d: int, w1: float) -> None:
    """W1 = |m| Γ(d/2) / (√π Γ((d+1)/2)); W2² = |m|² / d."""
    x = gaussian(50, d)
    moved = x + torch.nn.functional.one_hot(torch.tensor(0), d)
    first, second = (sliced_wasserstein(x, moved, order=p, n_directions=4096) for p in (1, 2))
    assert first.low < w1 < first.high
    assert second.low < d**-0.5 < second.high
    assert first.value == pytest.approx(w1, rel=0.05)
    assert second.value == pytest.approx(d**-0.5, rel=0.05)


def test_sliced_wasserstein_of_scaled_gaussians() -> None:
    """W2² = (s - 1)²."""
    found = sliced_wasserstein(gaussian(5000, 3), 1.5 * gaussian(5000, 3, 1))
    assert found.value == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("n", "m"), [(7, 7), (12, 5), (5, 12)])
def test_wasserstein_on_a_line_agrees_with_scipy(n: int, m: int) -> None:
    from scipy.stats import wasserstein_distance

    x, y = gaussian(n, 1), gaussian(m, 1, 1, shift=0.3)
    found = sliced_wasserstein(x, y, order=1, n_directions=3).value
    assert found == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-12)


def test_sliced_wasserstein_agrees_with_pot() -> None:
    ot = pytest.importorskip("ot")
    x, y = gaussian(80, 4), gaussian(50, 4, 1, shift=0.5)
    theirs = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), n_projections=5000, seed=0)
    assert sliced_wasserstein(x, y, n_directions=5000).value == pytest.approx(theirs, rel=0.02)


def test_sliced_wasserstein_standard_error_is_the_bootstraps() -> None:
    real, generated = gaussian(1000, 2), gaussian(500, 2, 1, shift=0.5)
    rng = torch.Generator().manual_seed(0)
    resampled = [generated[torch.randint(500, (500,), generator=rng)] for _ in range(40)]
    error = np.std([sliced_wasserstein(real, r, n_directions=200).value for r in resampled])
    found = sliced_wasserstein(real, generated, n_directions=200)
    assert error < found.standard_error < 2 * error, "and the directions' share"


def equicorrelated(n: int, correlation: float) -> Tensor:
    kernel = torch.full((n, n), correlation, dtype=torch.float64).fill_diagonal_(1)
    return torch.linalg.cholesky(kernel)


@pytest.mark.parametrize(
    ("features", "score"),
    [
        (torch.eye(9), 9),
        (torch.ones(9, 4), 1),
        (torch.eye(4).repeat(5, 1), 4),
        (torch.eye(30)[:4].repeat(5, 1), 4),
        (equicorrelated(2, 0.5), 1.754765351),
        (equicorrelated(10, 0.5), 5.348894337),
    ],
)
def test_vendi_score(features: Tensor, score: float) -> None:
    assert vendi_score(features).value == pytest.approx(score, abs=1e-9)


def test_vendi_score_agrees_with_its_authors() -> None:
    vendi = pytest.importorskip("vendi_score.vendi")
    x = gaussian(40, 6, shift=0.5)
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    assert vendi_score(x).value == pytest.approx(vendi.score_K(unit @ unit.T), rel=1e-9)


def test_vendi_ratio_and_its_interval() -> None:
    x, y = gaussian(900, 6), gaussian(600, 6, 1)
    same, collapsed = vendi_ratio(x, y), vendi_ratio(x, y * torch.tensor([1, 1, 1, 0.0, 0, 0]))
    assert same.low < 1 < same.high
    assert collapsed.value == pytest.approx(0.5, abs=0.01)
    found = [vendi_score(1 + gaussian(400, 3, i)) for i in range(60)]
    error = np.std([f.value for f in found])
    assert np.mean([f.standard_error for f in found]) == pytest.approx(error, rel=0.25)


def test_classifier_score() -> None:
    uniform, certain = torch.full((50, 10), 0.1), torch.eye(10).repeat(5, 1)
    assert classifier_score(uniform).value == pytest.approx(1)
    assert classifier_score(certain).value == pytest.approx(10)
    assert classifier_score(torch.eye(10)[[0] * 20]).value == pytest.approx(1)


def test_classifier_score_agrees_with_torchmetrics() -> None:
    inception = pytest.importorskip("torchmetrics.image.inception")
    logits = 3 * gaussian(200, 5)

    class Same(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    theirs = inception.InceptionScore(feature=Same(), splits=1)
    theirs.update(logits)
    assert classifier_score(logits.softmax(1)).value == pytest.approx(float(theirs.compute()[0]), rel=1e-6)


def test_a_classifier_tells_shifted_gaussians_apart_as_well_as_can_be() -> None:
    """S1: accuracy (1 + TV) / 2 = .691462461, AUC Φ(1/√2) = .760249939."""
    found = classifier_test(gaussian(10_000, 1), gaussian(9_000, 1, 1, shift=1))
    assert found.accuracy.value == pytest.approx(0.691462461, abs=3 * found.accuracy.standard_error)
    assert found.auc.value == pytest.approx(0.760249939, abs=3 * found.auc.standard_error)
    null = classifier_test(gaussian(2000, 4), gaussian(2000, 4, 1))
    assert null.accuracy.value == pytest.approx(0.5, abs=0.05)
    of_items = 1 / (2 * math.sqrt(2000))
    assert of_items / math.sqrt(2) < null.accuracy.standard_error < 1.5 * of_items, "half of it is of every split"


def test_what_a_classifier_happens_to_learn_is_in_the_interval() -> None:
    """Of 450 items one network finds much or nothing."""
    found = [classifier_test(gaussian(450, 8, 2 * i), gaussian(450, 8, 2 * i + 1, 0.3)).auc for i in range(8)]
    moves = np.std([f.value for f in found], ddof=1)
    assert np.sqrt(np.mean([f.standard_error**2 for f in found])) > 0.7 * moves


MEASURES = {
    "frechet": frechet_distance,
    "kid": kernel_distance,
    "mmd": lambda x, y: mmd(x, y, kernel=Gaussian(1.0)),
    "sliced": lambda x, y: sliced_wasserstein(x, y, n_directions=64),
}


@pytest.mark.parametrize("name", MEASURES)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_distances_do_not_depend_on_the_order_of_items(name: str, seed: int) -> None:
    x, y = gaussian(40, 3, seed), gaussian(30, 3, seed + 1, 0.5)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    assert MEASURES[name](x, y[order]).value == pytest.approx(MEASURES[name](x, y).value, rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_distances_do_not_change_under_rotation(seed: int) -> None:
    x, y = gaussian(40, 3, seed), gaussian(30, 3, seed + 1, 0.5)
    turn, _ = torch.linalg.qr(gaussian(3, 3, seed + 2))
    for name in ("frechet", "kid", "mmd"):
        turned = MEASURES[name](x @ turn, y @ turn).value
        assert turned == pytest.approx(MEASURES[name](x, y).value, rel=1e-6, abs=1e-9)
    assert vendi_score(x @ turn).value == pytest.approx(vendi_score(x).value)


@pytest.mark.parametrize("name", MEASURES)
def test_distances_grow_with_the_damage(name: str) -> None:
    x, y = gaussian(800, 4), gaussian(800, 4, 1)
    shifted = [MEASURES[name](x, y + 0.4 * step).value for step in range(4)]
    assert shifted == sorted(shifted)
