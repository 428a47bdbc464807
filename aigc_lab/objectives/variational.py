"""The evidence lower bound and its importance-weighted refinement."""

import math

import torch
from torch import Tensor


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) in nats, [B] (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def gaussian_log_density(z: Tensor, mean: Tensor | float, log_variance: Tensor) -> Tensor:
    """log N(z; mean, diag exp(log_variance)), summed over the last dimension."""
    return -0.5 * ((z - mean).square() / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(-1)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """L_k = log 1/k Σ_i p(x, z_i) / q(z_i | x) for log-weights [k, B] (Burda et al. 2016, equation 8).

    L_1 is the evidence lower bound; in expectation L_k rises with k towards log p(x).
    """
    return torch.logsumexp(log_weights, 0) - math.log(log_weights.shape[0])
