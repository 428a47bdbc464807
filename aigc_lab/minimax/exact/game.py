"""The minimax game itself (Goodfellow et al. 2014, section 4): the optimal discriminator, the value of the game
at it and at any other, and the generator's gradient there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid, softplus

from aigc_lab.minimax.exact import densities
from aigc_lab.minimax.exact.divergences import JS, NEGLIGIBLE, expected_gain
from aigc_lab.minimax.exact.integrals import Integrand, integrate, pair, weigh
from aigc_lab.minimax.exact.pointwise import Pointwise


@dataclass(frozen=True)
class Discriminator:
    """D(x) = σ(logit(x)). The logit is kept because D rounds to 1, and log(1 - D) to -∞, where it exceeds 37."""

    logit: Callable[[Tensor], Tensor]

    @overload
    def __call__(self, x: float) -> float: ...

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...

    def __call__(self, x: float | Tensor) -> float | Tensor:
        return Pointwise(lambda points: self.logit(points).sigmoid())(x)


def optimal_discriminator(p: Distribution, q: Distribution) -> Discriminator:
    """D* = p / (p + q) (proposition 1), 1/2 where neither law has mass; x is [N, *event_shape]."""
    laws = pair(p, q)

    def logit(x: Tensor) -> Tensor:
        log_p, log_q = laws.log_densities(x)
        r = log_p - log_q
        return r.masked_fill(r.isnan(), 0)

    return Discriminator(Pointwise(logit))


def jensen_shannon(p: Distribution, q: Distribution) -> float:
    """JSD(p, q) = ½ KL(p || m) + ½ KL(q || m), m = (p + q)/2: nats, in [0, log 2]."""
    return min(max(JS.divergence(p, q) / 2, 0.0), math.log(2))


def minimax_value(p: Distribution, q: Distribution) -> float:
    """C(G) = max_D V(D, G) = 2 JSD(p, q) - log 4 (theorem 1), in [-log 4, 0]."""
    return 2 * jensen_shannon(p, q) - math.log(4)


def minimax_value_sd(p: Distribution, q: Distribution) -> float:
    """The spread of log D*(x) + log(1 - D*(y)) over x ~ p, y ~ q: V estimated on n held-out pairs at D* lies
    within this / √n of C(G), one standard deviation.
    """

    def moments(power: int) -> tuple[Integrand, Integrand]:
        return (
            lambda x, log_p, log_q: weigh(log_p, logsigmoid(log_p - log_q) ** power),
            lambda x, log_p, log_q: weigh(log_q, logsigmoid(log_q - log_p) ** power),
        )

    real, fake, real_square, fake_square = integrate(pair(p, q), *moments(1), *moments(2))
    return math.sqrt(max(real_square - real**2 + fake_square - fake**2, 0))


def value(discriminator: Callable[[Tensor], Tensor], p: Distribution, q: Distribution) -> float:
    """V(D, G) = E_p[log D(x)] + E_q[log(1 - D(x))] (equation 1): at most C(G).

    -∞ if D is 0 on a set of p's mass, or 1 on a set of q's, that exceeds 1e-7; below, it was rounded. A steep
    network's D rounds on larger sets: give `Discriminator(logit)`, which never does.

    Args:
        discriminator: x [N, *event_shape] -> D(x) in [0, 1], [N].
        p: the law of the data.
        q: the law of the generator.

    Raises:
        ValueError: D(x) is not a probability for each x.
    """

    def gains(x: Tensor) -> tuple[Tensor, Tensor]:
        logit = _logit(discriminator, x)
        return logsigmoid(logit), logsigmoid(-logit)

    return expected_gain(gains, p, q)


def value_gap(discriminator: Callable[[Tensor], Tensor], p: Distribution, q: Distribution) -> float:
    """C(G) - V(D, G) = ∫ (p + q) KL(Ber(D*) || Ber(D)): what the discriminator falls short of, exactly.

    The KL is a Bregman divergence of softplus at the logits, so a small gap keeps its digits. Arguments, what
    is raised and what is infinite as in `value`.
    """

    def divergence(x: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        best, logit = log_p - log_q, _logit(discriminator, x)
        # Ber(D) and Ber(1 - D) are as far apart: turn both so that the optimal logit is not positive
        logit, best = torch.where(best > 0, -logit, logit), -best.abs()
        slope = torch.where(best.isinf(), 0, best.sigmoid() * (logit - best))
        return softplus(logit) - softplus(best) - slope

    def finite(x: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        kl = divergence(x, log_p, log_q)
        return weigh(torch.logaddexp(log_p, log_q), kl.masked_fill(~kl.isfinite(), 0))

    def certain_and_wrong(x: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        logit = _logit(discriminator, x)
        return weigh(log_p, 1.0 * (logit == -math.inf)) + weigh(log_q, 1.0 * (logit == math.inf))

    gap, mass = integrate(pair(p, q), finite, certain_and_wrong)
    return gap if mass < NEGLIGIBLE else math.inf


def saturating_gradient(p: Distribution, q: Distribution) -> float:
    """d/dθ E_{x ~ q}[log(1 - D*(x + θ))] at θ = 0: what the minimax loss tells the generator about its location.

    D* = p/(p + q) is held fixed. Equal to 2 d/dθ JSD; for N(0, 1) against N(θ, 1) it is θ E_q[D*], which dies
    like exp(-θ²/8) as the laws part.

    Raises:
        ValueError: q is not a density on the whole line, or the gradient does not exist.
    """
    return _location_gradient(p, q, lambda r: -softplus(r))


def non_saturating_gradient(p: Distribution, q: Distribution) -> float:
    """d/dθ E_{x ~ q}[-log D*(x + θ)] at θ = 0: the same of the heuristic loss (2014, section 3).

    Equal to d/dθ [KL(q || p) - 2 JSD] (Arjovsky & Bottou 2017, theorem 2.5); for N(0, 1) against N(θ, 1) it is
    θ (1 - E_q[D*]), which tends to θ. Raises as `saturating_gradient`.
    """
    return _location_gradient(p, q, lambda r: softplus(-r))


def _location_gradient(p: Distribution, q: Distribution, loss: Callable[[Tensor], Tensor]) -> float:
    """d/dθ ∫ q(x - θ) loss(x) dx = -∫ q (log q)' loss, so that p may jump; loss is a function of r = log p/q."""
    laws = pair(p, q)
    if laws.is_discrete or laws.dimension != 1 or len(densities.edges(laws.q)):
        raise ValueError("the gradient moves q along the line: q must be a density on the whole line")

    def integrand(x: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (score,) = torch.autograd.grad(densities.log_density(laws.q, x).sum(), x)
        return -weigh(log_q, score.reshape(log_q.shape) * loss(log_p - log_q))

    (gradient,) = integrate(laws, integrand)
    if math.isinf(gradient):
        raise ValueError("the gradient does not exist: p is zero, or its tails are too light, where q has mass")
    return gradient


def _logit(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The logit of D at each point, float64 [N].

    Raises:
        ValueError: D(x) is not a probability for each x, or D does not take such points.
    """
    try:
        with torch.no_grad():
            output = discriminator.logit(x) if isinstance(discriminator, Discriminator) else discriminator(x)
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"the discriminator does not take float64 points {list(x.shape)}: {reason}") from error
    output = torch.as_tensor(output, dtype=torch.float64)
    n = len(x)
    if output.shape not in ((), (n,)):
        raise ValueError(f"a discriminator must return one number per point, [{n}], not {list(output.shape)}")
    logit = output if isinstance(discriminator, Discriminator) else output.logit()
    if logit.isnan().any():
        raise ValueError("a discriminator must return probabilities, in [0, 1] (or wrap logits in Discriminator)")
    return logit.expand(n)
