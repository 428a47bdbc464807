"""Optimizers and schedules against the formulas they state."""

import math

import pytest
import torch
from torch import nn

from aigc_lab.optimizers import SGD, Adam, ExponentialDecay, LinearRamp, WarmupCosine

OF_2014 = SGD(
    momentum=LinearRamp(start=0.5, end=0.7, steps=125_000), schedule=ExponentialDecay(rate=4e-6, floor=1e-5)
)


@pytest.mark.parametrize(
    ("step", "momentum"), [(0, 0.5), (25_000, 0.54), (62_500, 0.6), (125_000, 0.7), (500_000, 0.7)]
)
def test_the_momentum_of_2014_rises_over_250_epochs(step: int, momentum: float) -> None:
    assert OF_2014.settings(step, 1)["momentum"] == pytest.approx(momentum)


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (125_000, math.exp(-0.499999)), (10**8, 1e-5)])
def test_the_learning_rate_of_2014_decays_to_its_floor(step: int, factor: float) -> None:
    assert OF_2014.lr_factor(step, 1) == pytest.approx(factor, rel=1e-5)


def test_momentum_adds_up_gradients_as_the_ramp_says() -> None:
    """Gradient 1 thrice with momenta 0.5, 0.6, 0.7: velocities 1, 1.6, 2.12."""
    sgd = SGD(momentum=LinearRamp(start=0.5, end=0.7, steps=2), schedule=ExponentialDecay(rate=0.0, floor=0.0))
    weight = nn.Parameter(torch.zeros(1))
    optimizer = sgd([weight], lr=0.1)
    for step in range(3):
        for group in optimizer.param_groups:
            group.update(sgd.settings(step, 3), lr=0.1 * sgd.lr_factor(step, 3))
        weight.grad = torch.ones(1)
        optimizer.step()
    assert float(weight.detach()) == pytest.approx(-0.1 * (1 + 1.6 + 2.12))


def test_adam_moves_nothing_but_the_learning_rate() -> None:
    schedule = WarmupCosine(warmup=0, final=1.0)
    assert not Adam(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, schedule=schedule).settings(3, 10)
