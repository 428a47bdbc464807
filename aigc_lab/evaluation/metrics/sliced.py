"""Wasserstein distance averaged over lines."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked

LINES = 32
"""Directions projected at a time."""


def sliced_wasserstein(
    real: Tensor, generated: Tensor, *, order: int = 2, n_directions: int = 256, seed: int = 0
) -> Estimate:
    """Sliced Wasserstein distance (Bonneel et al. 2015): (E_u W_p(u·x, u·y)^p)^(1/p) over random unit vectors u,
    of features [n, d] and [m, d]. On a line the optimal plan pairs quantiles, exactly so for n ≠ m too.

    0 for identical laws in the limit, biased upwards at finite n: compare at equal n. For a shift by m its square
    (order 2) is |m|² / d. Blind to copying; in many dimensions random lines see little but mean and variance.
    The interval is over the generated samples and over the directions.
    """
    real, generated = checked(real=real, generated=generated)
    x, y = real.double(), generated.double()
    rng = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(n_directions, x.shape[1], generator=rng, dtype=torch.float64))
    pairs, mass = _quantile_pairs(len(x), len(y))
    costs, potential = [], torch.zeros(len(y), dtype=torch.float64)
    for lines in directions.split(LINES):
        projected_x, projected_y = (x @ lines.mT).sort(0).values, (y @ lines.mT).sort(0)
        gap = (projected_y.values[pairs[1]] - projected_x[pairs[0]]).abs()
        costs.append((mass[:, None] * gap**order).sum(0))
        own = _potential(projected_x, projected_y.values, order)
        potential += torch.empty_like(own).scatter_(0, projected_y.indices, own).sum(1)
    power = Estimate.linear(float(torch.cat(costs).mean()), potential / n_directions, torch.cat(costs))
    value = power.value ** (1 / order)
    slope = value / (order * power.value) if power.value > 0 else 0.0
    return Estimate.normal(value, slope * power.standard_error).within(0, math.inf)


def _quantile_pairs(n: int, m: int) -> tuple[Tensor, Tensor]:
    """Which order statistics of n and of m points the optimal plan pairs, int64 [2, L], and their mass [L]."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1 / (n m)
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    return torch.stack([begins // m, begins // n]), (ends - begins).double() / (n * m)


def _potential(x: Tensor, y: Tensor, order: int) -> Tensor:
    """Kantorovich's potential at the sorted y, up to a constant: its slope is that of |y - x|^p at the partner."""
    level = (torch.arange(len(y)) * len(x) + len(x) // 2) // len(y)
    difference = y - x[level.clamp(max=len(x) - 1)]
    slope = order * difference.abs() ** (order - 1) * difference.sign()
    steps = (slope[1:] + slope[:-1]) / 2 * y.diff(dim=0)
    return torch.cat([torch.zeros_like(y[:1]), steps.cumsum(0)])
