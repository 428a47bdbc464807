"""Laws whose distances are known (gan_theory_and_metrics.md, part B): S1 a shift, S5 equal moments."""

import torch
from torch import Tensor


def gaussian(n: int, d: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def two_modes(n: int, seed: int = 0) -> Tensor:
    """Half N(-2, 1/4), half N(2, 1/4): mean 0, variance 4.25."""
    signs = torch.randint(2, (n, 1), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return 2.0 * signs + 0.5 * gaussian(n, 1, seed + 1)


def same_moments(n: int, seed: int = 0) -> Tensor:
    """A Gaussian with the mean and variance of `two_modes`."""
    return 4.25**0.5 * gaussian(n, 1, seed)
