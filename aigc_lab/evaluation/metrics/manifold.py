"""Fidelity and diversity by nearest neighbours: balls around the points of one set, points of the other inside."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked
from aigc_lab.evaluation.metrics.distances import pairs_within, squared_radii

TIE = 1e-9
"""Two squared distances that differ by less, relatively, are equal: closed balls grow by it, open ones shrink."""


@dataclass(frozen=True)
class PrecisionRecall:
    precision: Estimate
    recall: Estimate


@dataclass(frozen=True)
class DensityCoverage:
    density: Estimate
    coverage: Estimate


@dataclass(frozen=True)
class Manifold(PrecisionRecall, DensityCoverage):
    """All four, of one look at the distances."""


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, equations 1 and 2): the share of generated points
    [m, d] inside some real point's ball, and of real points [n, d] inside some generated point's. A ball is
    closed and reaches its centre's k-th neighbour in its own set.

    For identical laws neither is 1 (N(0, I), n = 500, k = 5: .99 at d = 2, .75 at d = 64): compare with
    held-out real points at the same n. Blind to copying, and to density inside the support; a single real
    outlier's ball holds much noise.
    """
    found = manifold(real, generated, k_precision=k, k_density=k)
    return PrecisionRecall(precision=found.precision, recall=found.recall)


def density_coverage(real: Tensor, generated: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, equations 4 and 5), balls open: how many real balls hold a
    generated point, over k, and the share of real balls that hold one.

    For identical laws E density = 1 and E coverage = 1 - Π_{i=1..k} (n-i) / (n+m-i), in any dimension. Blind
    to copying; density does not see dropped modes and can exceed 1, so 1 is the target and not the best.
    """
    found = manifold(real, generated, k_precision=k, k_density=k)
    return DensityCoverage(density=found.density, coverage=found.coverage)


def manifold(real: Tensor, generated: Tensor, *, k_precision: int = 3, k_density: int = 5) -> Manifold:
    """Precision and recall at one k, density and coverage at another: the radii are looked for once."""
    if min(k_precision, k_density) < 1:
        raise ValueError(f"k={min(k_precision, k_density)}: neighbours are counted from 1")
    real, generated = checked(max(k_precision, k_density) + 1, real=real, generated=generated)
    real_radii = squared_radii(real, max(k_precision, k_density))
    real_closed = real_radii[:, k_precision - 1] * (1 + TIE)
    real_open = real_radii[:, k_density - 1] * (1 - TIE)
    generated_closed = squared_radii(generated, k_precision)[:, -1] * (1 + TIE)

    precise = torch.zeros(len(generated), dtype=torch.bool)
    covered, recalled = (torch.zeros(len(real), dtype=torch.bool) for _ in range(2))
    n_holding = torch.zeros(len(generated), dtype=torch.long)
    real_limit = torch.maximum(real_closed, real_open)
    for of_real, of_generated, squared in pairs_within(real, generated, real_limit, generated_closed):
        precise[of_generated[squared <= real_closed[of_real]]] = True
        in_open = squared < real_open[of_real]
        covered[of_real[in_open]] = True
        n_holding += of_generated[in_open].bincount(minlength=len(generated))
        recalled[of_real[squared <= generated_closed[of_generated]]] = True

    return Manifold(
        precision=Estimate.share_of(precise),
        recall=Estimate.share_of(recalled),
        density=Estimate.mean_of(n_holding.double() / k_density).within(0, math.inf),
        coverage=Estimate.share_of(covered),
    )
