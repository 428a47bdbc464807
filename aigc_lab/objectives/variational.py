"""The evidence lower bound, its importance-weighted refinement, and what else autoencoders are trained by.

Shapes: k draws, B images, d latent dimensions.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from aigc_lab.types import NonNegativeFloat, PositiveInt


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) in nats, [B] (Kingma & Welling 2014, appendix B)."""
    return gaussian_kl_terms(mean, log_variance).sum(-1)


def gaussian_kl_terms(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The same of each dimension by itself, [B, d]."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def gaussian_log_density(z: Tensor, mean: Tensor | float, log_variance: Tensor) -> Tensor:
    """log N(z; mean, diag exp(log_variance)), summed over the last dimension."""
    return -0.5 * ((z - mean).square() / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(-1)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """L_k = log 1/k Σ_i p(x, z_i) / q(z_i | x) for log-weights [k, B] (Burda et al. 2016, equation 8).

    L_1 is the evidence lower bound; in expectation L_k rises with k towards log p(x).
    """
    return torch.logsumexp(log_weights, 0) - math.log(log_weights.shape[0])


@dataclass(frozen=True)
class WeightSums:
    """What is kept of k log-weights, however many: logarithms of the sums of the weights and of their squares.

    Attributes:
        k: how many.
        first, second: log Σ w and log Σ w², float64 [B].
    """

    k: int
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, log_weights: Tensor) -> "WeightSums":
        """Of log-weights [k, B]."""
        nats = log_weights.double()
        return cls(len(nats), nats.logsumexp(0), (2 * nats).logsumexp(0))

    def __add__(self, other: "WeightSums") -> "WeightSums":
        first, second = torch.logaddexp(self.first, other.first), torch.logaddexp(self.second, other.second)
        return WeightSums(self.k + other.k, first, second)

    def bound(self) -> Tensor:
        """`importance_weighted_bound` of all of them, [B]."""
        return self.first - math.log(self.k)

    def draw_error(self) -> Tensor:
        """Standard deviation of the bound over the draws, to first order, [B] nats: that of the weights' mean,
        divided by it. Half its square is how far the bound lies below log p(x), to the same order; where a few
        draws have all the weight, both are too small. NaN of one draw."""
        relative = (math.log(self.k) + self.second - 2 * self.first).exp() - 1
        return (relative.clamp(min=0) / (self.k - 1 or math.nan)).sqrt()


@dataclass(frozen=True)
class Draws:
    """k latents for each of B images, z ~ q(z | x) = N(mean, diag exp(log_variance)), and what they explain.

    Attributes:
        z: [k, B, d], a function of mean and log_variance.
        mean, log_variance: [B, d].
        log_p_x: log p(x | z), [k, B] nats.
    """

    z: Tensor
    mean: Tensor
    log_variance: Tensor
    log_p_x: Tensor

    def kl(self) -> Tensor:
        """KL(q || N(0, I)), [B] nats."""
        return gaussian_kl(self.mean, self.log_variance)

    def elbo(self) -> Tensor:
        """E_q log p(x | z), estimated with the draws, less the KL, [B] nats (Kingma & Welling 2014, eq. 10)."""
        return self.log_p_x.mean(0) - self.kl()

    def log_weights(self) -> Tensor:
        """log p(x, z) - log q(z | x), [k, B]."""
        log_prior = gaussian_log_density(self.z, 0.0, torch.zeros_like(self.log_variance))
        return self.log_p_x + log_prior - gaussian_log_density(self.z, self.mean, self.log_variance)


class Bound(Protocol):
    """What a variational autoencoder is trained by. Whatever it is, likelihoods are reported by a true bound."""

    @property
    def samples(self) -> int:
        """Draws of z for each image."""
        ...

    def loss(self, draws: Draws) -> Tensor:
        """What is minimised: a mean over the batch, in nats per image."""
        ...


@dataclass(frozen=True)
class ELBO:
    """The evidence lower bound itself (Kingma & Welling 2014, equation 10)."""

    samples: ClassVar[int] = 1

    def loss(self, draws: Draws) -> Tensor:
        """-ELBO."""
        return -draws.elbo().mean()


@dataclass(frozen=True, kw_only=True)
class Beta:
    """E_q log p(x | z) - β KL (Higgins et al. 2017, equation 4). It is a bound where β is at least 1.

    Args:
        beta: β; more than 1 for few and independent factors, less for sharper reconstructions.
    """

    beta: NonNegativeFloat
    samples: ClassVar[int] = 1

    def loss(self, draws: Draws) -> Tensor:
        """β KL - E_q log p(x | z)."""
        return (self.beta * draws.kl() - draws.log_p_x.mean(0)).mean()


@dataclass(frozen=True, kw_only=True)
class FreeBits:
    """No reward for a KL below λ: Σ_j max(λ, mean over the batch of KL_j) (Kingma et al. 2016, equation 15), the
    groups being the latent dimensions.

    Args:
        nats: λ, of each latent dimension.
    """

    nats: NonNegativeFloat
    samples: ClassVar[int] = 1

    def loss(self, draws: Draws) -> Tensor:
        """Σ_j max(λ, KL_j) - E_q log p(x | z). Each process takes the mean over its own share of a batch."""
        kl = gaussian_kl_terms(draws.mean, draws.log_variance).mean(0)
        return kl.clamp(min=self.nats).sum() - draws.log_p_x.mean()


@dataclass(frozen=True, kw_only=True)
class ImportanceWeighted:
    """L_k (Burda et al. 2016): `importance_weighted_bound`.

    Args:
        samples: k. A step costs k times a decoder's.
    """

    samples: PositiveInt

    def loss(self, draws: Draws) -> Tensor:
        """-L_k."""
        return -importance_weighted_bound(draws.log_weights()).mean()


@dataclass(frozen=True, kw_only=True)
class DoublyReparameterised:
    """L_k, with an estimate of the encoder's gradient whose signal does not drown in noise as k grows, and which
    has none at all where q is the posterior (Tucker et al. 2019, equation 8).

    Args:
        samples: k.
    """

    samples: PositiveInt

    def loss(self, draws: Draws) -> Tensor:
        """A loss of that gradient, unbiased of -L_k's; its value, Σ_i w_i log w_i, means nothing by itself."""
        given = Draws(draws.z, draws.mean.detach(), draws.log_variance.detach(), draws.log_p_x)
        log_weights = given.log_weights()
        share = log_weights.detach().softmax(0)
        if draws.z.requires_grad:  # the encoder's gradient passes through z, and is weighted once more there
            draws.z.register_hook(lambda gradient: share[..., None] * gradient)
        return -(share * log_weights).sum(0).mean()
