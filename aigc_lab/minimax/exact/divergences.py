"""f-divergences and their duals, as one table.

D_f(p || q) = ∫ q f(p/q) = max_T E_p[T] - E_q[f*(T)], reached at T* = f'(p/q)
(Nguyen, Wainwright & Jordan 2010; Nowozin, Cseke & Tomioka 2016, equations 4 and 5).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

from aigc_lab.minimax.exact.integrals import integrate, pair, weigh
from aigc_lab.minimax.exact.pointwise import Pointwise

LOG_2 = math.log(2)
NEGLIGIBLE = 1e-7
"""A critic that is infinitely wrong on a set of less mass is taken to have been rounded: the sigmoid of 40
is 1 in float64, and the optimal discriminator reaches 40 wherever p is large and q is not zero."""


@dataclass(frozen=True)
class FDivergence:
    """One row of the table. r stands for log p/q, so that nothing overflows."""

    name: str
    perspective: Callable[[Tensor, Tensor], Tensor]
    """(log p, log q) -> q f(p/q), with its limits where one of them is -inf."""
    conjugate: Pointwise
    """f*(t) = sup_u ut - f(u)."""
    activation: Pointwise
    """A last layer that takes R to the domain of f* (Nowozin et al. 2016, table 2 and its appendix)."""
    optimal: Pointwise
    """r -> T* = f'(e^r)."""

    @property
    def f(self) -> Pointwise:
        """The convex function with f(1) = 0 (for the GAN row: -log 4) whose mean is the divergence."""
        return Pointwise(lambda u: self.perspective(u.double().log(), torch.zeros_like(u, dtype=torch.float64)))

    def divergence(self, p: Distribution, q: Distribution) -> float:
        """D_f(p || q) in nats (f's own unit for the rows without a logarithm); may be infinite."""
        (value,) = integrate(pair(p, q), lambda x, log_p, log_q: self.perspective(log_p, log_q))
        return value

    def optimal_critic(self, p: Distribution, q: Distribution) -> Pointwise:
        """x -> T*(x)."""
        laws = pair(p, q)

        def critic(x: Tensor) -> Tensor:
            log_p, log_q = laws.log_densities(x)
            return self.optimal(log_p - log_q)

        return Pointwise(critic)

    def dual_value(self, critic: Callable[[Tensor], Tensor], p: Distribution, q: Distribution) -> float:
        """E_p[T] - E_q[f*(T)]: at most D_f(p || q), for any critic x -> T(x) [N] in the domain of f*.

        Infinite where T is so on a set of more than 1e-7: T* of the reverse KL, -q/p, overflows where q has
        heavy tails and p has not.
        """

        def gains(x: Tensor) -> tuple[Tensor, Tensor]:
            t = _numbers(critic, x)
            return t, -self.conjugate(t)

        return expected_gain(gains, p, q)


def _numbers(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """T at each point, float64 [N].

    Raises:
        ValueError: T(x) is not one number for each x, or T does not take such points.
    """
    try:
        with torch.no_grad():
            t = torch.as_tensor(critic(x), dtype=torch.float64)
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"the critic does not take float64 points {list(x.shape)}: {reason}") from error
    if t.shape not in ((), (len(x),)):
        raise ValueError(f"a critic must return one number per point, [{len(x)}], not {list(t.shape)}")
    return t.expand(len(x))


def expected_gain(gains: Callable[[Tensor], tuple[Tensor, Tensor]], p: Distribution, q: Distribution) -> float:
    """E_p[a(x)] + E_q[b(x)] for x -> (a(x), b(x)); infinite if one of them is so on more than a NEGLIGIBLE set.

    Raises:
        ValueError: a gain is NaN where its law has mass.
    """

    def finite(x: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        a, b = gains(x)
        gained = weigh(log_p, a.masked_fill(a.isinf(), 0)) + weigh(log_q, b.masked_fill(b.isinf(), 0))
        if gained.isnan().any():
            raise ValueError("the critic is NaN where a law has mass")
        return gained

    def infinite(x: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        a, b = gains(x)
        return weigh(log_p, a.isinf() * a.sign()) + weigh(log_q, b.isinf() * b.sign())

    value, mass = integrate(pair(p, q), finite, infinite)
    return value if abs(mass) < NEGLIGIBLE else math.copysign(math.inf, mass)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return weigh(log_p, log_p - log_q)


def _two_jsd(log_p: Tensor, log_q: Tensor) -> Tensor:
    r = log_p - log_q
    return weigh(log_p, LOG_2 + logsigmoid(r)) + weigh(log_q, LOG_2 + logsigmoid(-r))


def _gan(log_p: Tensor, log_q: Tensor) -> Tensor:
    r = log_p - log_q
    return weigh(log_p, logsigmoid(r)) + weigh(log_q, logsigmoid(-r))


KL = FDivergence(
    name="KL",
    perspective=_kl,
    conjugate=Pointwise(lambda t: (t - 1).exp()),
    activation=Pointwise(lambda v: v),
    optimal=Pointwise(lambda r: 1 + r),
)
REVERSE_KL = FDivergence(
    name="reverse KL",
    perspective=lambda log_p, log_q: _kl(log_q, log_p),
    conjugate=Pointwise(lambda t: torch.where(t < 0, -1 - (-t).log(), math.inf)),
    activation=Pointwise(lambda v: -(-v).exp()),
    optimal=Pointwise(lambda r: -(-r).exp()),
)
PEARSON = FDivergence(
    name="Pearson χ²",
    perspective=lambda log_p, log_q: ((log_p - log_q / 2).exp() - (log_q / 2).exp()).square(),
    conjugate=Pointwise(lambda t: t.square() / 4 + t),
    activation=Pointwise(lambda v: v),
    optimal=Pointwise(lambda r: 2 * r.expm1()),
)
SQUARED_HELLINGER = FDivergence(
    name="squared Hellinger",
    perspective=lambda log_p, log_q: ((log_p / 2).exp() - (log_q / 2).exp()).square(),
    conjugate=Pointwise(lambda t: torch.where(t < 1, 1 / (1 - t) - 1, math.inf)),
    activation=Pointwise(lambda v: -(-v).expm1()),
    optimal=Pointwise(lambda r: -(-r / 2).expm1()),
)
JS = FDivergence(
    name="Jensen-Shannon (2 JSD)",
    perspective=_two_jsd,
    conjugate=Pointwise(lambda t: torch.where(t < LOG_2, -LOG_2 - (-(t - LOG_2).expm1()).log(), math.inf)),
    activation=Pointwise(lambda v: LOG_2 + logsigmoid(v)),
    optimal=Pointwise(lambda r: LOG_2 + logsigmoid(r)),
)
GAN = FDivergence(
    name="GAN (2 JSD - log 4)",
    perspective=_gan,
    conjugate=Pointwise(lambda t: torch.where(t < 0, -(-t.expm1()).log(), math.inf)),
    activation=Pointwise(logsigmoid),
    optimal=Pointwise(logsigmoid),
)
F_DIVERGENCES = (KL, REVERSE_KL, PEARSON, SQUARED_HELLINGER, JS, GAN)


def total_variation(p: Distribution, q: Distribution) -> float:
    """TV = ½ ∫ |p - q|, in [0, 1]; the best classifier of the two is right with probability (1 + TV)/2."""
    (value,) = integrate(pair(p, q), lambda x, log_p, log_q: (log_p.exp() - log_q.exp()).abs() / 2)
    return value


def triangular_discrimination(p: Distribution, q: Distribution) -> float:
    """∫ (p - q)² / (p + q), in [0, 2]."""
    (value,) = integrate(
        pair(p, q),
        lambda x, log_p, log_q: weigh(torch.logaddexp(log_p, log_q), ((log_p - log_q) / 2).tanh().square()),
    )
    return value
