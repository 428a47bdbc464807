import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lab.objectives.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretisedGaussian,
    DiscretisedLogistic,
    Likelihood,
    to_levels,
    to_unit,
)

numbers = st.floats(-3, 3, width=32)
BINNED = {"logistic": DiscretisedLogistic(), "gaussian": DiscretisedGaussian(scale=None)}


@pytest.mark.parametrize("name", BINNED)
@given(st.integers(2, 256), numbers, st.floats(-9, 30, width=32))
def test_the_probabilities_of_all_levels_sum_to_one(
    name: str, levels: int, location: float, log_scale: float
) -> None:
    maps = torch.tensor([location, log_scale], dtype=torch.float64).view(1, 2, 1, 1).expand(levels, -1, -1, -1)
    log_p = BINNED[name].log_prob(maps, torch.arange(levels).view(-1, 1, 1, 1), levels)
    assert float(log_p.logsumexp(0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", BINNED)
@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("location", "log_scale"), [(-30.0, -9.0), (30.0, -9.0), (0.0, 90.0)])
def test_a_pixel_far_from_the_location_keeps_a_finite_likelihood_and_gradient(
    name: str, levels: int, location: float, log_scale: float
) -> None:
    maps = torch.tensor([location, log_scale]).view(1, 2, 1, 1).requires_grad_()
    log_p = BINNED[name].log_prob(maps, torch.tensor([levels - 2]).view(1, 1, 1, 1), levels)
    log_p.sum().backward()
    assert torch.isfinite(log_p).all() and torch.isfinite(maps.grad).all()


@pytest.mark.parametrize("scale", [0.05, 0.4, 3.0])
def test_a_binned_gaussian_is_the_difference_of_its_distribution_function(scale: float) -> None:
    """Of torch.distributions, where that has the digits; a fixed scale is a learnt one that has this value."""
    levels, every = 17, torch.arange(17).view(-1, 1, 1, 1)
    edges = (2 * torch.arange(16, dtype=torch.float64) + 1) / (levels - 1) - 1
    below = torch.distributions.Normal(0.1, scale).cdf(edges)
    p = torch.cat([below, torch.ones(1).double()]) - torch.cat([torch.zeros(1).double(), below])
    location = torch.full((levels, 1, 1, 1), 0.1, dtype=torch.float64)
    fixed = DiscretisedGaussian(scale=scale).log_prob(location, every, levels)
    learnt = torch.cat([location, torch.full_like(location, math.log(scale))], 1)
    torch.testing.assert_close(fixed.exp(), p, atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(BINNED["gaussian"].log_prob(learnt, every, levels), fixed)


def test_a_categorical_is_torchs_and_channels_do_not_mix() -> None:
    levels, (n, channels, side) = 5, (3, 2, 4)
    torch.manual_seed(0)
    maps, pixels = torch.randn(n, levels * channels, side, side), torch.randint(levels, (n, channels, side, side))
    law = torch.distributions.Categorical(logits=maps.view(n, levels, channels, side, side).movedim(1, -1))
    torch.testing.assert_close(Categorical().log_prob(maps, pixels, levels), law.log_prob(pixels).sum((1, 2, 3)))
    half = Categorical().median(maps, levels)
    below = law.probs.cumsum(-1)
    assert (below.gather(-1, half[..., None]) >= 0.5).all()
    assert (below.gather(-1, (half - 1).clamp(min=0)[..., None])[half[..., None] > 0] < 0.5).all()


def test_a_logistic_of_17_levels_by_hand() -> None:
    """Level 8 of 17 is 0 in [-1, 1]; its bin is ±1/16, so p = tanh(1 / (32 s)) for location 0, scale s."""
    scale = 0.3
    maps = torch.tensor([0.0, math.log(scale)], dtype=torch.float64).view(1, 2, 1, 1)
    log_p = DiscretisedLogistic().log_prob(maps, torch.tensor([8]).view(1, 1, 1, 1), 17)
    assert float(log_p.exp()) == pytest.approx(math.tanh(1 / (32 * scale)), rel=1e-6)


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), *BINNED.values(), DiscretisedGaussian(scale=0.5), Categorical()], ids=str
)
def test_samples_follow_the_law_that_is_scored(likelihood: Likelihood) -> None:
    levels, n = 2 if isinstance(likelihood, Bernoulli) else 9, 40_000
    maps = torch.linspace(0.4, -0.7, likelihood.n_maps(levels)).view(1, -1, 1, 1)
    drawn = likelihood.sample(maps.expand(n, -1, 1, 1), levels, torch.Generator().manual_seed(0))
    frequency = torch.bincount(drawn.flatten(), minlength=levels) / n
    every = torch.arange(levels).view(-1, 1, 1, 1)
    p = likelihood.log_prob(maps.expand(levels, -1, 1, 1), every, levels).exp()
    torch.testing.assert_close(frequency, p, rtol=0, atol=4 * 0.5 / n**0.5)


def test_bernoulli_is_the_cross_entropy_of_bits_and_refuses_grey() -> None:
    maps = torch.tensor([0.0, math.log(3)]).view(1, 1, 1, 2)
    log_p = Bernoulli().log_prob(maps, torch.tensor([1, 0]).view(1, 1, 1, 2), 2)
    assert float(log_p) == pytest.approx(math.log(0.5) + math.log(0.25))
    with pytest.raises(ValueError, match="17 levels"):
        Bernoulli().check(17)


@given(st.integers(2, 256))
@settings(max_examples=30)
def test_levels_survive_the_way_to_the_unit_interval_and_back(levels: int) -> None:
    pixels = torch.arange(levels)
    unit = to_unit(pixels, levels)
    assert float(unit.min()) == -1 and float(unit.max()) == pytest.approx(1)
    assert torch.equal(to_levels(unit, levels), pixels)
