"""Integrals against a pair of laws, checked: the one door from distributions to numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution

from aigc_lab.minimax.exact import densities, quadrature
from aigc_lab.minimax.exact.quadrature import Axis, Integral

Integrand = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, log p(x), log q(x)) -> values [N]; x is [N, *event_shape]."""

MASS_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Pair:
    """Two laws on the same space, in float64. Made by `pair`, which checks them."""

    p: Distribution
    q: Distribution

    @property
    def is_discrete(self) -> bool:
        return _is_discrete(self.p)

    @property
    def dimension(self) -> int:
        return self.p.event_shape.numel()

    def log_densities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p and log q at points x [..., *event_shape]."""
        x = torch.as_tensor(x, dtype=torch.float64)
        return densities.log_density(self.p, x), densities.log_density(self.q, x)

    def atoms(self) -> Tensor:
        """Every value that either law may take, in order."""
        return torch.cat([densities.atoms(self.p).double(), densities.atoms(self.q).double()]).unique(dim=0)

    @cached_property
    def axes(self) -> list[Axis]:
        """The axes of the space, for `quadrature.integrate`."""
        edges = torch.cat([densities.edges(self.p), densities.edges(self.q)])
        both = zip(edges.mT, self.seeds.mT, strict=True)
        return [Axis(e[e.isfinite()].tolist(), s, self.dimension) for e, s in both]

    @cached_property
    def seeds(self) -> Tensor:
        """Points [S, d] around which the mass of either law lies."""
        return torch.cat([densities.seeds(self.p), densities.seeds(self.q)])


def pair(p: Distribution, q: Distribution) -> Pair:
    """
    Raises:
        ValueError: there is no common measure against which both have a density, or none that is summed here.
    """
    for name, law in (("p", p), ("q", q)):
        if not isinstance(law, Distribution):
            raise ValueError(f"{name} must be a torch.distributions.Distribution, not {type(law).__name__}")
        if law.batch_shape:
            shape = tuple(law.batch_shape)
            raise ValueError(f"{name} is a batch of laws, of shape {shape}: index it, or wrap it in Independent")
    if _is_discrete(p) != _is_discrete(q):
        raise ValueError("one law is discrete and the other continuous: they have no common density")
    if p.event_shape != q.event_shape:
        raise ValueError(f"p and q live on different spaces: {tuple(p.event_shape)} and {tuple(q.event_shape)}")
    if not _is_discrete(p) and (len(p.event_shape) > 1 or p.event_shape.numel() > 2):
        raise ValueError(f"densities are integrated on the line and in the plane, not on {tuple(p.event_shape)}")
    return Pair(densities.in_float64(p), densities.in_float64(q))


def integrate(laws: Pair, *integrands: Integrand) -> list[float]:
    """∫ g(x, log p, log q) dx of each integrand; a sum over atoms for discrete laws. May be infinite.

    Points where both densities are 0 count 0. An integrand must scale with its densities, that is
    g(x, cp, cq) = c g(x, p, q): it is given those of s, the coordinate of `quadrature`: p dx/ds and q dx/ds.

    Raises:
        ValueError: a law is not normalised, or an integral does not converge.
    """

    def columns(x: Tensor, log_slope: Tensor) -> Tensor:
        x = x.reshape(-1, *laws.p.event_shape)
        log_p, log_q = (log_density + log_slope for log_density in laws.log_densities(x))
        nowhere = (log_p == -math.inf) & (log_q == -math.inf)
        values = [g(x, log_p, log_q).masked_fill(nowhere, 0) for g in integrands]
        return torch.stack([log_p.exp(), log_q.exp(), *values], -1)

    if laws.is_discrete:
        atoms = laws.atoms()
        total = columns(atoms, torch.zeros(len(atoms), dtype=torch.float64)).sum(0)
        check_masses(total)
    else:
        integral = quadrature.integrate(columns, laws.axes, laws.seeds)
        check_masses(integral.value)
        total = checked(integral, laws.dimension).value
    if total.isnan().any():
        raise ValueError("the integral does not exist: its positive and its negative part both diverge")
    return total[2:].tolist()


def checked(integral: Integral, dimension: int) -> Integral:
    """
    Raises:
        ValueError: the integral's error exceeds what is promised in that many dimensions.
    """
    if integral.error > quadrature.PROMISE[dimension]:
        raise ValueError(f"the integral did not converge: its error is estimated at {integral.error:.1e}")
    return integral


def check_masses(columns: Tensor) -> None:
    """
    Raises:
        ValueError: one of the first two columns, the masses of p and q, is not 1.
    """
    for name, mass in zip("pq", columns[:2].tolist(), strict=True):
        if not abs(mass - 1) < MASS_TOLERANCE:
            raise ValueError(f"{name} is not a normalised density: it integrates to {mass:.7g}")


def weigh(log_weight: Tensor, values: Tensor) -> Tensor:
    """exp(log_weight) · values, with 0 · ∞ = 0."""
    weight = log_weight.exp()
    return torch.where(weight == 0, 0, weight * values)


def _is_discrete(law: Distribution) -> bool:
    return densities.support(law).is_discrete
