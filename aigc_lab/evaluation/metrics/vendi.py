"""Diversity of one set, by the entropy of its similarities."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked


def vendi_score(features: Tensor) -> Estimate:
    """Vendi score (Friedman & Dieng 2023, equation 1) of features [n, d] under cosine similarity: exp of the
    entropy of the eigenvalues of K / n, the effective number of different items.

    In [1, min(n, d)]: 1 for copies of one item, c for c equal orthogonal clusters. It grows with n and has no
    reference: noise scores best, so compare with real features (`vendi_ratio`). Blind to fidelity and to
    copying, and nearly constant where the features' mean is long beside their spread.
    """
    (features,) = checked(features=features)
    log = _entropy(features)
    return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))


def vendi_ratio(real: Tensor, generated: Tensor) -> Estimate:
    """Vendi score of the generated over that of the real features, both cut to the smaller n.

    1 for identical laws; above 1 for noise. The interval is over both samples.
    """
    real, generated = checked(real=real, generated=generated)
    n = min(len(real), len(generated))
    ours, theirs = _entropy(generated[:n]), _entropy(real[:n])
    log = Estimate.normal(ours.value - theirs.value, math.hypot(ours.standard_error, theirs.standard_error))
    return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))


def _entropy(features: Tensor) -> Estimate:
    """-tr(ρ log ρ) of ρ = E x xᵀ, which has the eigenvalues of K / n but for zeros; an item adds -xᵀ log(ρ) x."""
    unit = normalize(features.double())
    n, d = unit.shape
    if n < d:  # the same eigenvalues from the smaller matrix; xᵀ log(ρ) x there is a row of vectors² n λ
        eigenvalues, vectors = torch.linalg.eigh(unit @ unit.mT / n)
        weights = vectors.square() * n * eigenvalues
    else:
        eigenvalues, vectors = torch.linalg.eigh(unit.mT @ unit / n)
        weights = (unit @ vectors).square()
    surprise = -eigenvalues.clamp(min=torch.finfo(torch.float64).tiny).log()
    return Estimate.linear(float(-torch.xlogy(*[eigenvalues.clamp(min=0)] * 2).sum()), weights @ surprise)
