"""Mode counting: hand-made samples, the published ceilings, and the ceilings against simulation."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from aigc_lab.minimax import modes

MNIST_DIGITS = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
"""Labels of MNIST's training set."""


def centres(mixture: torch.distributions.MixtureSameFamily) -> Tensor:
    return mixture.component_distribution.mean


def test_the_mixtures_are_those_of_the_papers() -> None:
    ring, grid = modes.ring(), modes.grid()
    torch.testing.assert_close(centres(ring).norm(dim=1), torch.ones(8, dtype=torch.float64))
    assert len(centres(ring).round(decimals=9).unique(dim=0)) == 8  # not 7, as np.linspace(0, 2π, 8) would give
    assert sorted(centres(grid).unique().tolist()) == [-4, -2, 0, 2, 4] and len(centres(grid).unique(dim=0)) == 25
    assert float(ring.component_distribution.stddev.unique()) == 0.01
    assert float(grid.component_distribution.stddev.unique()) == 0.05


def test_samples_on_three_modes_and_one_in_the_wild() -> None:
    grid = modes.grid()
    where = centres(grid)
    samples = torch.cat([where[:3], where[:1], where[3:4] + 0.3])
    report = modes.coverage(samples, grid)
    assert report.modes == 3  # the fourth is nearest to a sample of low quality only
    assert report.high_quality == pytest.approx(0.8)
    shares = [0.4, 0.2, 0.2, 0.2]
    assert report.reverse_kl == pytest.approx(sum(s * math.log(25 * s) for s in shares))
    quality = 1 - math.exp(-4.5)
    binned = sum(s * math.log(25 * s / quality) for s in shares[:3]) + 0.2 * math.log(0.2 / (1 - quality))
    assert report.binned_kl == pytest.approx(binned)


def test_a_collapsed_generator() -> None:
    """One of n modes, exactly on it: reverse KL log n."""
    ring = modes.ring()
    report = modes.coverage(centres(ring)[2].expand(2500, 2).float(), ring)
    assert report.modes == 1 and report.high_quality == 1
    assert report.reverse_kl == pytest.approx(math.log(8))


@pytest.mark.parametrize(("mixture", "kl"), [(modes.ring(), 0.0014), (modes.grid(), 0.0048)], ids=["ring", "grid"])
def test_the_ceilings_of_a_perfect_sampler(mixture: torch.distributions.MixtureSameFamily, kl: float) -> None:
    perfect = modes.perfect_coverage(mixture, 2500)
    assert perfect.high_quality == pytest.approx(0.988891, abs=6e-7)
    assert perfect.reverse_kl == pytest.approx(kl, abs=6e-5)
    assert perfect.reverse_kl == pytest.approx((len(centres(mixture)) - 1) / 5000, rel=0.01)
    assert perfect.modes == pytest.approx(len(centres(mixture)), abs=1e-9)


def test_the_ceilings_are_what_perfect_samplers_reach_on_average() -> None:
    mixture, n = modes.grid(), 100  # few samples, so that every bias shows
    torch.manual_seed(0)
    found = [modes.coverage(mixture.sample((n,)), mixture) for _ in range(300)]
    expected = modes.perfect_coverage(mixture, n)
    for name in ("modes", "high_quality", "reverse_kl", "binned_kl"):
        values = torch.tensor([float(getattr(report, name)) for report in found], dtype=torch.float64)
        error = 4 * float(values.std()) / math.sqrt(len(found))
        assert getattr(expected, name) == pytest.approx(float(values.mean()), abs=error), name


def test_stacked_digits_are_counted_as_triples() -> None:
    every = torch.cartesian_prod(*[torch.arange(10)] * 3)
    assert modes.stacked_coverage(every) == modes.StackedReport(modes=1000, kl=pytest.approx(0, abs=1e-12))
    one = modes.stacked_coverage(torch.tensor([[1, 2, 3]] * 7))
    assert one.modes == 1 and one.kl == pytest.approx(math.log(1000))
    assert modes.stacked_coverage(torch.tensor([[1, 2, 3], [3, 2, 1]])).modes == 2


def test_the_ceiling_of_stacked_mnist() -> None:
    """26,000 samples: 0.0192 (to first order) for equal digits, 0.0043 more for MNIST's; 0.0235 was measured."""
    perfect = modes.perfect_stacked_coverage(26_000)
    assert perfect.kl == pytest.approx(0.01934, abs=6e-6) and round(999 / 52_000, 4) == 0.0192
    mnist = modes.perfect_stacked_coverage(26_000, MNIST_DIGITS)
    shares = MNIST_DIGITS / MNIST_DIGITS.sum()
    assert 3 * float((shares * (10 * shares).log()).sum()) == pytest.approx(0.0043, abs=6e-5)
    assert mnist.kl == pytest.approx(0.0235, abs=3e-4)
    assert mnist.modes == pytest.approx(1000, abs=1e-6)
    torch.manual_seed(0)
    found = modes.stacked_coverage(Categorical(MNIST_DIGITS.double()).sample((26_000, 3)))
    assert found.modes == 1000 and found.kl == pytest.approx(mnist.kl, abs=0.003)


@pytest.mark.parametrize("samples", [torch.full((4, 2), math.nan), torch.zeros(0, 2), torch.zeros(4, 3)])
def test_what_are_no_points_of_the_plane_has_no_modes(samples: Tensor) -> None:
    with pytest.raises(ValueError, match="sample"):
        modes.coverage(samples, modes.ring())


def test_unequal_modes_and_missing_digits_are_refused() -> None:
    unequal = MixtureSameFamily(
        Categorical(torch.tensor([0.9, 0.1])), Independent(Normal(torch.eye(2), torch.full((2, 2), 0.1)), 1)
    )
    with pytest.raises(ValueError, match="one width and one weight"):
        modes.coverage(torch.zeros(4, 2), unequal)
    for shares in (torch.ones(9), torch.tensor([0.0] + 9 * [1.0])):
        with pytest.raises(ValueError, match="10 digits"):
            modes.perfect_stacked_coverage(100, shares)


@pytest.mark.parametrize("labels", [torch.zeros(5, 2).long(), torch.zeros(5, 3), torch.tensor([[0, 1, 10]])])
def test_labels_that_are_not_three_digits(labels: Tensor) -> None:
    with pytest.raises(ValueError, match="labels must be"):
        modes.stacked_coverage(labels)
