"""Metrics: pure functions of features, tensors [n, d] in, estimates with an interval out.

Distances are computed in float64 and in blocks of rows, so that no n x n matrix is held and a copy lies at
distance zero. Intervals are 95 %, over the generated samples, given the real ones.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1024
Z95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.value

    @classmethod
    def normal(cls, value: float, standard_error: float) -> "Estimate":
        return cls(value, value - Z95 * standard_error, value + Z95 * standard_error)

    @classmethod
    def mean_of(cls, values: Tensor) -> "Estimate":
        """The mean of one value per item, and its standard error."""
        values = values.double()
        error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
        return cls.normal(float(values.mean()), error)


@dataclass(frozen=True)
class PrecisionRecall:
    precision: Estimate
    recall: Estimate


@dataclass(frozen=True)
class DensityCoverage:
    density: Estimate
    coverage: Estimate


def frechet_distance(real: Tensor, generated: Tensor, *, n_bootstrap: int = 20, seed: int = 0) -> Estimate:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians with the features' means and covariances:
    |m1 - m2|² + tr(S1 + S2 - 2 (S1^½ S2 S1^½)^½) (Heusel et al. 2017), covariances with n - 1.

    The trace of the root is the sum of the roots of a symmetric matrix's eigenvalues, so the distance is
    real and exact also where n < d. It is biased upwards by sample size: compare at equal n. The interval
    is the bootstrap's standard error around the value (a resample's own value has more bias).
    """
    mean, root, trace = _gaussian(real)

    def distance(features: Tensor) -> float:
        other_mean, covariance = _moments(features)
        eigenvalues = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0)
        fit = (mean - other_mean).square().sum() + trace + covariance.trace() - 2 * eigenvalues.sqrt().sum()
        return float(fit)

    rng = torch.Generator().manual_seed(seed)
    n = len(generated)
    resampled = [distance(generated[torch.randint(n, (n,), generator=rng)]) for _ in range(n_bootstrap)]
    error = float(torch.tensor(resampled, dtype=torch.float64).std()) if n_bootstrap > 1 else math.inf
    return Estimate.normal(distance(generated), error)


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019): the share of generated points inside some
    real point's ball, and of real points inside some generated point's. A ball is closed and reaches its
    centre's k-th neighbour in its own set.

    For identical laws neither is 1; compare with held-out real points at the same n.
    """
    inside_real = _any_ball_holds(real, _radii(real, k), generated)
    inside_generated = _any_ball_holds(generated, _radii(generated, k), real)
    return PrecisionRecall(Estimate.mean_of(inside_real), Estimate.mean_of(inside_generated))


def density_coverage(real: Tensor, generated: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020), balls open: how many real balls hold a generated point, over
    k (for identical laws 1 in expectation), and the share of real balls that hold one."""
    radii = _radii(real, k)
    counts = torch.zeros(len(generated), dtype=torch.float64)
    covered = torch.empty(len(real), dtype=torch.bool)
    for rows, distances in _distance_blocks(real, generated):
        inside = distances < radii[rows, None]
        counts += inside.sum(0)
        covered[rows] = inside.any(1)
    return DensityCoverage(Estimate.mean_of(counts / k), Estimate.mean_of(covered))


def two_sample_accuracy(real: Tensor, generated: Tensor) -> Estimate:
    """Leave-one-out accuracy of a nearest neighbour that tells real from generated (Lopez-Paz & Oquab 2017).

    1/2 for identical laws, 1 for disjoint ones, 0 for copies. The larger set is cut to the smaller.
    """
    n = min(len(real), len(generated))
    both = torch.cat([real[:n], generated[:n]])
    nearest = torch.empty(2 * n, dtype=torch.long)
    for rows, distances in _distance_blocks(both, both):
        distances[torch.arange(len(distances)), torch.arange(rows.start, rows.stop)] = math.inf
        nearest[rows] = distances.argmin(1)
    is_generated = torch.arange(2 * n) >= n
    return Estimate.mean_of(is_generated[nearest] == is_generated)


def authenticity(train: Tensor, generated: Tensor) -> Estimate:
    """The share of generated points that lie further from their nearest training point than that point lies
    from its own nearest neighbour in the training set (Alaa et al. 2022, section 4.3).

    0 for copies. For fresh real data it is not 1 but depends on the dimension: compare with held-out data.
    """
    nearest, distance = nearest_neighbours(train, generated)
    needed, place = nearest.unique(return_inverse=True)
    own_neighbour = _kth_smallest(train[needed], train, 2)
    return Estimate.mean_of(distance > own_neighbour[place])


def nearest_neighbours(reference: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Index of, and distance to, the nearest reference point of each point: int64 [n], float64 [n]."""
    found = [distances.min(1) for _, distances in _distance_blocks(points, reference)]
    return torch.cat([f.indices for f in found]), torch.cat([f.values for f in found])


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double()
    return features.mean(0), torch.atleast_2d(torch.cov(features.mT))


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, symmetric root of the covariance and its trace."""
    mean, covariance = _moments(features)
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    return mean, (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.mT, covariance.trace()


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other point, float64 [n]."""
    assert len(points) > k, f"{len(points)} points have no {k}-th neighbour"
    return _kth_smallest(points, points, k + 1)


def _kth_smallest(points: Tensor, others: Tensor, k: int) -> Tensor:
    """The k-th smallest distance from each point to the others, float64 [n] (topk: kthvalue is 9 times slower)."""
    return torch.cat([d.topk(k, largest=False).values[:, -1] for _, d in _distance_blocks(points, others)])


def _any_ball_holds(centres: Tensor, radii: Tensor, points: Tensor) -> Tensor:
    """Whether each point lies in the closed ball of some centre, bool [n]."""
    return torch.cat([(distances <= radii).any(1) for _, distances in _distance_blocks(points, centres)])


def _distance_blocks(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(rows, distances of these points to all others), a block of rows at a time, float64.

    |x|² + |y|² - 2xy loses half the digits where x is near y: what is below rounding error is set to 0, so
    that a copy lies at distance 0 exactly.
    """
    points, others = points.double(), others.double()
    squares = others.square().sum(1)
    for begin in range(0, len(points), BLOCK):
        block = points[begin : begin + BLOCK]
        scale = block.square().sum(1, keepdim=True) + squares
        squared = torch.addmm(scale, block, others.mT, alpha=-2)
        yield slice(begin, begin + len(block)), squared.masked_fill_(squared < 1e-13 * scale, 0).sqrt_()
