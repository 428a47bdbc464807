import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lab.objectives.likelihoods import Bernoulli, DiscretisedLogistic, to_levels, to_unit

numbers = st.floats(-3, 3, width=32)


@given(st.integers(2, 256), numbers, st.floats(-9, 4, width=32))
def test_the_probabilities_of_all_levels_sum_to_one(levels: int, location: float, log_scale: float) -> None:
    maps = torch.tensor([location, log_scale], dtype=torch.float64).view(1, 2, 1, 1).expand(levels, -1, -1, -1)
    log_p = DiscretisedLogistic().log_prob(maps, torch.arange(levels).view(-1, 1, 1, 1), levels)
    assert float(log_p.logsumexp(0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_pixel_far_from_the_location_keeps_a_finite_likelihood_and_gradient(levels: int) -> None:
    maps = torch.tensor([-30.0, -9.0]).view(1, 2, 1, 1).requires_grad_()
    log_p = DiscretisedLogistic().log_prob(maps, torch.tensor([levels - 2]).view(1, 1, 1, 1), levels)
    log_p.sum().backward()
    assert torch.isfinite(log_p).all() and torch.isfinite(maps.grad).all()


def test_a_logistic_of_17_levels_by_hand() -> None:
    """Level 8 of 17 is 0 in [-1, 1]; its bin is ±1/16, so p = tanh(1 / (32 s)) for location 0, scale s."""
    scale = 0.3
    maps = torch.tensor([0.0, math.log(scale)], dtype=torch.float64).view(1, 2, 1, 1)
    log_p = DiscretisedLogistic().log_prob(maps, torch.tensor([8]).view(1, 1, 1, 1), 17)
    assert float(log_p.exp()) == pytest.approx(math.tanh(1 / (32 * scale)), rel=1e-6)


@pytest.mark.parametrize("likelihood", [Bernoulli(), DiscretisedLogistic()], ids=["bernoulli", "logistic"])
def test_samples_follow_the_law_that_is_scored(likelihood: Bernoulli | DiscretisedLogistic) -> None:
    levels, n = 2 if isinstance(likelihood, Bernoulli) else 9, 40_000
    maps = torch.tensor([0.4, -0.7])[: likelihood.n_maps].view(1, -1, 1, 1)
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
