"""The Parzen window estimate of a generator's log-likelihood (Goodfellow et al. 2014, section 5).

A Gaussian of width σ stands on each generated sample; σ is chosen on a validation set; the mean log-density of
the test set is reported with its standard error. It is kept for comparison with 2014: in high dimensions it
ranks wrong models above the truth (Theis, van den Oord & Bethge 2016, section 4; see the tests).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1 << 22
"""Distances held at once: 32 MB."""
SIGMAS = tuple(10 ** (-1 + i / 9) for i in range(10))
"""The ten widths of 2014, from 0.1 to 1 in equal ratios."""

N_TRAIN_2014, N_VALIDATION_2014 = 50_000, 1_000
"""Of the training images, those to train on, and how many of those after them choose σ."""


@dataclass(frozen=True)
class ParzenEstimate:
    """Nats per item."""

    mean: float
    standard_error: float
    sigma: float


def estimate(
    samples: Tensor, validation: Tensor, test: Tensor, *, sigmas: Sequence[float] = SIGMAS
) -> ParzenEstimate:
    """The mean log-likelihood of test under samples, σ being the best of sigmas on validation; all are [n, d].

    Raises:
        ValueError: there is no sample, no σ or no point to choose it on, or fewer than two to test; they are not
            points of one space, or not finite; a σ is not positive.
    """
    for name, given, least in (
        ("samples", samples, 1),
        ("sigmas", sigmas, 1),
        ("validation", validation, 1),
        ("test", test, 2),  # one has no standard error
    ):
        if len(given) < least:
            raise ValueError(f"{name}: at least {least}, not {len(given)}")
    for name, points in (("samples", samples), ("validation", validation), ("test", test)):
        if points.dim() != 2 or points.shape[1] != samples.shape[-1]:
            raise ValueError(f"{name}: points [n, {samples.shape[-1]}], not {list(points.shape)}")
        if not points.isfinite().all():
            raise ValueError(f"{name}: a point is NaN or infinite")
    if not min(sigmas) > 0:
        raise ValueError(f"sigmas: must be positive, not {min(sigmas)}")
    scores = log_likelihood(samples, validation, sigmas).mean(1)
    sigma = sigmas[int(scores.argmax())]
    found = log_likelihood(samples, test, [sigma])[0]
    return ParzenEstimate(float(found.mean()), float(found.std()) / math.sqrt(len(found)), sigma)


def protocol_2014(samples: Tensor, train: Tensor, test: Tensor) -> ParzenEstimate:
    """The estimate as Goodfellow et al. made it for MNIST: images [n, ...] with intensities in [0, 1].

    σ is chosen on the first 1,000 training images after the 50,000 that a model may train on.

    Raises:
        ValueError: there are no training images after those.
    """
    validation = train[N_TRAIN_2014 : N_TRAIN_2014 + N_VALIDATION_2014]
    if not len(validation):
        raise ValueError(f"{len(train)} training images: σ is chosen on those after the first {N_TRAIN_2014:,}")
    return estimate(samples.flatten(1), validation.flatten(1), test.flatten(1))


def log_likelihood(samples: Tensor, points: Tensor, sigmas: Sequence[float]) -> Tensor:
    """log 1/n Σ_i N(x; s_i, σ² I) of each point x [N, d] for samples s [n, d]: float64 [len(sigmas), N]."""
    samples, points = samples.double(), points.double()
    n, d = samples.shape
    norms = samples.square().sum(1)
    found = []
    for block in points.split(max(1, CHUNK // n)):
        squared = torch.addmm(block.square().sum(1, keepdim=True) + norms, block, samples.mT, alpha=-2).clamp(
            min=0
        )
        log_sums = [torch.logsumexp(squared / (-2 * sigma**2), 1) for sigma in sigmas]
        found.append(torch.stack(log_sums))
    scales = [math.log(n) + d / 2 * math.log(2 * math.pi * sigma**2) for sigma in sigmas]
    return torch.cat(found, 1) - torch.tensor(scales, dtype=torch.float64)[:, None]


def k_means(points: Tensor, k: int, *, rounds: int, rng: torch.Generator) -> Tensor:
    """The centroids of k clusters of points [n, d] after so many rounds of Lloyd's algorithm: float32 [k, d].

    They begin at k of the points. A centroid that no point is nearest to stays where it is. As "samples" of a
    generator they beat real data on the Parzen estimate (Theis et al. 2016, table 1): means are smoother.

    Raises:
        ValueError: there are fewer points than clusters.
    """
    n, d = points.shape
    if n < k:
        raise ValueError(f"{k} clusters of {n} points")
    points = points.float()
    centroids = points[torch.randperm(n, generator=rng)[:k]]
    for _ in range(rounds):
        nearest = torch.cat([nearest_of(block, centroids) for block in points.split(max(1, CHUNK // k))])
        sums = torch.zeros(k, d).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=k)[:, None]
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids


def nearest_of(points: Tensor, centroids: Tensor) -> Tensor:
    """The index of the centroid nearest to each point, int64 [n]."""
    return torch.addmm(centroids.square().sum(1), points, centroids.mT, alpha=-2).argmin(1)
