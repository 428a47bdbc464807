"""Fréchet distance of Gaussians with the features' moments, and its limit for infinitely many samples."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor
from torch.linalg import vecdot

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked

BLOCK = 4096
N_FOR_INTERVAL = 2048
EPSILON = torch.finfo(torch.float64).eps


def frechet_distance(real: Tensor, generated: Tensor) -> Estimate:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians with the means and covariances (n - 1) of the
    features [n, d] (Heusel et al. 2017, equation 6):

        |m1 - m2|² + tr(S1 + S2 - 2 (S1^½ S2 S1^½)^½)

    With S1 = AᵀA and S2 = BᵀB the last trace is the nuclear norm of A Bᵀ: no matrix root is taken, and A may
    be the centred features themselves. So the distance is real, and exact also where n < d.

    0 for identical laws, but biased upwards by sample size (N(0, I): d(d+5) / (2n)): compare at equal n. Blind
    to everything but two moments, and to copying. The interval is over the generated samples, given the real
    ones, to first order.
    """
    real, generated = checked(2, real=real, generated=generated)
    first, second = _Gaussian.fit(real), _Gaussian.fit(generated)
    eigenvalues, projection = _spectrum(first, second, with_projection=True)
    # For an interval float32 is enough, and some of the samples: its width is then known to 1/√(2 · 2048) = 2 %.
    x = (generated[:: -(-len(generated) // N_FOR_INTERVAL)] - second.mean).float()
    carried = x @ projection.mT
    influence = vecdot(x, x) - vecdot(carried, carried) + 2 * x @ (second.mean - first.mean).float()
    error = float(influence.std()) / math.sqrt(len(generated))
    return Estimate.normal(_distance(first, second, eigenvalues), error)


def frechet_at_infinity(real: Tensor, generated: Tensor, *, n_points: int = 15, seed: int = 0) -> Estimate:
    """The Fréchet distance of infinitely many generated samples: the intercept of a line through the distances of
    random subsets over 1 / size, at n_points sizes between n / 10 and n (Chong & Forsyth 2020, section 3).

    Takes away the generated samples' bias only; the real ones' remains (N(0, I): d(d+5) / (4 n_real)). Linear
    once n / 10 is well above d. The interval adds the fit's error to that of `frechet_distance`.
    """
    real, generated = checked(20, real=real, generated=generated)  # 2 in the smallest subset
    reference, n = _Gaussian.fit(real), len(generated)
    rng = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(n / 10, n, n_points, dtype=torch.float64).round()
    distances = []
    for size in sizes.tolist():
        subset = _Gaussian.fit(generated[torch.randperm(n, generator=rng)[: int(size)]])
        eigenvalues, _ = _spectrum(reference, subset)
        distances.append(_distance(reference, subset, eigenvalues))

    design = torch.stack([torch.ones_like(sizes), 1 / sizes], dim=1)
    observed = torch.tensor(distances, dtype=torch.float64)
    inverse = torch.linalg.inv(design.mT @ design)
    line = inverse @ design.mT @ observed
    fit_variance = float((observed - design @ line).square().sum() / (n_points - 2) * inverse[0, 0])
    of_samples = frechet_distance(real, generated).standard_error
    return Estimate.normal(float(line[0]), math.hypot(math.sqrt(fit_variance), of_samples))


@dataclass(frozen=True)
class _Gaussian:
    """Mean [d], trace of the covariance and a factor of it [r, d], r <= min(n, d): covariance = factorᵀ factor."""

    mean: Tensor
    trace: float
    factor: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> "_Gaussian":
        n, d = features.shape
        mean = features.mean(0, dtype=torch.float64)
        factor = (features - mean) / math.sqrt(n - 1) if n <= d else _factor(_covariance(features, mean))
        return cls(mean, float(factor.square().sum()), factor)


def _covariance(features: Tensor, mean: Tensor) -> Tensor:
    """With n - 1, float64 [d, d]: its lower triangle."""
    total = np.zeros((features.shape[1],) * 2, order="F")
    for block in features.split(BLOCK):
        total = _gram(block - mean, total)
    return torch.from_numpy(total) / (len(features) - 1)


def _gram(x: Tensor, total: np.ndarray) -> np.ndarray:
    """total + xᵀx, in place. Only the lower triangle is right, and it is all that Cholesky's method and eigh
    read: half the work of a whole product."""
    return dsyrk(1.0, x.numpy().T, beta=1.0, c=total, lower=True, overwrite_c=True)


def _factor(covariance: Tensor) -> Tensor:
    """[r, d] with factorᵀ factor = covariance: Cholesky's, or of the eigenvectors where it is singular."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    pivots = lower.diagonal().square()
    if not failed and pivots.min() > _rounding(pivots):
        return lower.mT
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    kept = eigenvalues > _rounding(eigenvalues)
    return (vectors[:, kept] * eigenvalues[kept].sqrt()).mT


def _spectrum(first: _Gaussian, second: _Gaussian, *, with_projection: bool = False) -> tuple[Tensor, Tensor]:
    """Eigenvalues of S1^½ S2 S1^½, and P [r, d] with PᵀP = S1^½ (S1^½ S2 S1^½)^-½ S1^½: the map that carries
    the second Gaussian onto the first (no rows unless asked for)."""
    cross = first.factor @ second.factor.mT
    nothing = first.factor.new_zeros(0, first.factor.shape[1]).float()
    if not cross.numel():  # all points of one set are the same
        return torch.zeros(0, dtype=torch.float64), nothing
    wide = cross.shape[0] <= cross.shape[1]
    smaller = cross.mT if wide else cross  # the larger gram matrix has the same eigenvalues, and zeros
    gram = torch.from_numpy(_gram(smaller, np.zeros((smaller.shape[1],) * 2, order="F")))
    if not with_projection:
        return torch.linalg.eigvalsh(gram), nothing
    eigenvalues, vectors = torch.linalg.eigh(gram)
    kept = eigenvalues > _rounding(eigenvalues)
    vectors, roots = vectors[:, kept], eigenvalues[kept].sqrt()
    left = vectors if wide else cross @ vectors / roots
    return eigenvalues, (left / roots.sqrt()).mT.float() @ first.factor.float()


def _distance(first: _Gaussian, second: _Gaussian, eigenvalues: Tensor) -> float:
    overlap = float(eigenvalues.clamp(min=0).sqrt().sum())
    return float((first.mean - second.mean).square().sum()) + first.trace + second.trace - 2 * overlap


def _rounding(eigenvalues: Tensor) -> float:
    """What a float64 eigenvalue may be off by."""
    return len(eigenvalues) * EPSILON * float(eigenvalues.max())
