"""Kernel distances: squared maximum mean discrepancy (Gretton et al. 2012) of two sets of features."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked

BLOCK = 512
"""Points along either side of a tile: 2 MB of kernel values."""

Kernel = Callable[[Tensor, Tensor], Tensor]
"""k(x, y): [n, d] and [m, d] to [n, m]."""


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """(x·y / d + 1)³, the kernel of KID."""
    return torch.addmm(x.new_ones(()), x, y.mT, alpha=1 / x.shape[1]).pow_(3)


@dataclass(frozen=True)
class Gaussian:
    """exp(-|x - y|² / (2 bandwidth²)): characteristic, it tells any two laws apart."""

    bandwidth: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        squared = torch.addmm(x.square().sum(1, keepdim=True) + y.square().sum(1), x, y.mT, alpha=-2)
        return squared.clamp_(min=0).div_(-2 * self.bandwidth**2).exp_()


def kernel_distance(real: Tensor, generated: Tensor) -> Estimate:
    """KID (Bińkowski et al. 2018, section 4): the unbiased squared MMD under the cubic kernel, over all pairs
    rather than random blocks of them, so it needs no seed.

    0 for identical laws at any n (it may be negative), features [n, d]. Blind to what three moments do not
    show, and to copying. N(0, 1) against N(1, 1): 22; against N(0, 4): 27.
    """
    return mmd(real, generated, kernel=cubic)


def mmd(real: Tensor, generated: Tensor, *, kernel: Kernel | None = None) -> Estimate:
    """Unbiased squared maximum mean discrepancy of features [n, d] and [m, d] (Gretton et al. 2012, lemma 6):
    E k(x, x') + E k(y, y') - 2 E k(x, y), no point paired with itself. The `kernel` is, unless given, a `Gaussian`
    with the median distance between real points as its bandwidth.

    0 for identical laws at any n. What it is blind to is the kernel's choice: with `Gaussian`, scales far from
    the bandwidth; copying always. The interval is over both samples; it is wide by up to √2 at identical laws,
    where the first order vanishes.
    """
    real, generated = checked(2, real=real, generated=generated)
    kernel = Gaussian(median_distance(real) or 1.0) if kernel is None else kernel  # 0: of points all alike
    return _discrepancy(real.double(), generated.double(), kernel, paired_with_self=False)


def cmmd(real: Tensor, generated: Tensor, *, bandwidth: float = 10.0, scale: float = 1000.0) -> Estimate:
    """CMMD's convention (Jayasumana et al. 2024): features of unit length, a Gaussian kernel, every point also
    paired with itself, times 1,000. Meant for CLIP embeddings.

    Biased: above 0 for identical laws, 0 for identical sets. In [0, 39.6] at the default bandwidth, where the
    kernel is nearly linear on the unit sphere: about 10 |mean - mean|², blind to most else, and to copying.
    """
    real, generated = checked(2, real=real, generated=generated)
    both = normalize(real.double()), normalize(generated.double())
    found = _discrepancy(*both, Gaussian(bandwidth), paired_with_self=True)
    return Estimate(scale * found.value, scale * found.low, scale * found.high)


def median_distance(points: Tensor, *, n: int = 1000) -> float:
    """The median distance between (at most n, evenly spaced) points: the usual bandwidth for `Gaussian`."""
    return float(torch.pdist(points[:: -(-len(points) // n)].double()).median())


def _discrepancy(x: Tensor, y: Tensor, kernel: Kernel, *, paired_with_self: bool) -> Estimate:
    own_x = _mean_within(x, kernel, paired_with_self)
    own_y = _mean_within(y, kernel, paired_with_self)
    other_x, other_y = _means_between(x, y, kernel)
    value = float(own_x.mean() + own_y.mean() - 2 * other_x.mean())
    return Estimate.linear(value, 2 * (own_x - other_x), 2 * (own_y - other_y))


def _mean_within(x: Tensor, kernel: Kernel, paired_with_self: bool) -> Tensor:
    """Mean kernel of each point with the points of its own set, [n]. Kernels are symmetric: half are computed."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for i in range(0, len(x), BLOCK):
        for j in range(i, len(x), BLOCK):
            values = kernel(x[i : i + BLOCK], x[j : j + BLOCK])
            total[i : i + BLOCK] += values.sum(1)
            if i < j:
                total[j : j + BLOCK] += values.sum(0)
            elif not paired_with_self:
                total[i : i + BLOCK] -= values.diagonal()
    return total / (len(x) - (not paired_with_self))


def _means_between(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Mean kernel of each x with the y [n], and of each y with the x [m]."""
    rows, columns = (torch.zeros(len(points), dtype=torch.float64) for points in (x, y))
    for i in range(0, len(x), BLOCK):
        for j in range(0, len(y), BLOCK):
            values = kernel(x[i : i + BLOCK], y[j : j + BLOCK])
            rows[i : i + BLOCK] += values.sum(1)
            columns[j : j + BLOCK] += values.sum(0)
    return rows / len(y), columns / len(x)
