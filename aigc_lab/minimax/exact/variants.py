"""The values of other GAN games at their optimal critics."""

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

from aigc_lab.minimax.exact import quadrature
from aigc_lab.minimax.exact.divergences import total_variation, triangular_discrimination
from aigc_lab.minimax.exact.integrals import Pair, check_masses, checked, integrate, pair, weigh
from aigc_lab.minimax.exact.quadrature import Axis


def least_squares_value(p: Distribution, q: Distribution) -> float:
    """C(G) of least squares GANs with labels (a, b, c) = (-1, 1, 0), for which D* = (p - q)/(p + q):
    ½ ∫ (p - q)² / (p + q) (Mao et al. 2017, equation 8), half the χ² of p + q and 2q. 0 at p = q, at most 1.
    """
    return triangular_discrimination(p, q) / 2


def hinge_value(p: Distribution, q: Distribution) -> float:
    """max_D E_p[min(0, D - 1)] + E_q[min(0, -D - 1)] = 2 TV - 2, reached at D* = sign(p - q) (Lim & Ye 2017)."""
    return 2 * total_variation(p, q) - 2


def wasserstein_value(p: Distribution, q: Distribution) -> float:
    """W1(p, q) = max over 1-Lipschitz D of E_p[D] - E_q[D] (Arjovsky et al. 2017, equation 2), on the line.

    There it is ∫ |F_p - F_q| dx. May be infinite. Categories stand at 0, 1, 2, ...

    Raises:
        ValueError: the laws are not on the line, or as in `jensen_shannon`.
    """
    laws = pair(p, q)
    if laws.dimension != 1:
        raise ValueError("the Wasserstein distance is computed on the line only: elsewhere it has no formula")
    if laws.is_discrete:
        places = laws.atoms().flatten()
        masses = torch.stack([m.exp() for m in laws.log_densities(places.reshape(-1, *laws.p.event_shape))])
        check_masses(masses.sum(1))
        gap = (masses[0] - masses[1]).cumsum(0)[:-1].abs()
        return float((gap * places.diff()).sum())
    return _wasserstein_on_the_line(laws)


def _wasserstein_on_the_line(laws: Pair) -> float:
    """∫ |H| for H = F_p - F_q, summed from the nearer end, so that H keeps its digits in both tails."""
    axes, seeds = laws.axes, laws.seeds
    (axis,) = axes

    def masses(x: Tensor, log_slope: Tensor) -> Tensor:
        log_densities = torch.stack(laws.log_densities(x.reshape(-1, *laws.p.event_shape)), -1)
        return (log_densities + log_slope[:, None]).exp()

    first = checked(quadrature.integrate(masses, axes, seeds), dimension=1)
    check_masses(first.value)
    low, order = first.boxes[:, 0, 0].sort()
    parts = first.parts[order]
    gap, mass = parts[:, 0] - parts[:, 1], parts.sum(1)
    from_left, from_right = gap.cumsum(0) - gap, -gap.flip(0).cumsum(0).flip(0)
    height = torch.where(mass.cumsum(0) < 1, from_left, from_right)  # H at the lower end of each box

    def columns(x: Tensor, log_slope: Tensor) -> Tensor:
        s = axis.parameter(x[:, 0])
        box = (torch.searchsorted(low, s, right=True) - 1).clamp(min=0)
        nodes, weights = quadrature.gauss_points(torch.stack([low[box], s], 1)[..., None])
        inner, slope = axis.point(nodes[..., 0])
        p, q = masses(inner.flatten(), slope.log().flatten()).unflatten(0, inner.shape).unbind(-1)
        h = height[box] + ((p - q) * weights).sum(1)
        return torch.cat([masses(x, log_slope), (h.abs().log() + log_slope).exp()[:, None]], 1)

    return float(checked(quadrature.integrate(columns, axes, seeds), dimension=1).value[2])


def relativistic_value(p: Distribution, q: Distribution) -> float:
    """max_D E_{x ~ p, y ~ q}[log σ(D(x) - D(y))] (Jolicoeur-Martineau 2019), reached at D* = log p/q + constant.

    It is JSD(p ⊗ q, q ⊗ p) - log 2: the minimax value, less log 2, of telling (real, fake) from (fake, real).

    Raises:
        ValueError: the laws are continuous and not on the line, or as in `jensen_shannon`.
    """
    laws = pair(p, q)
    if laws.is_discrete:
        log_p, log_q = laws.log_densities(laws.atoms())
        check_masses(torch.stack([log_p, log_q]).exp().sum(1))
        return float(_relativistic(log_p[:, None], log_q[:, None], log_p, log_q).sum())
    if laws.dimension != 1:
        raise ValueError("the relativistic value is an integral over pairs, computed for laws on the line only")
    integrate(laws)  # both are normalised
    seeds = laws.seeds.flatten()
    turns = [seeds[torch.randperm(len(seeds), generator=torch.Generator().manual_seed(i))] for i in range(8)]

    def gain(pairs: Tensor, log_slope: Tensor) -> Tensor:
        x, y = (laws.log_densities(points.reshape(-1, *laws.p.event_shape)) for points in pairs.unbind(-1))
        log_p_x, log_q_x = (log_density + log_slope for log_density in x)
        return _relativistic(log_p_x, log_q_x, *y)[:, None]

    axes = [Axis(axis.edges, seeds, dimension=2) for axis in laws.axes * 2]
    pairs = torch.cat([torch.stack([seeds, turn], 1) for turn in turns])
    return float(checked(quadrature.integrate(gain, axes, pairs), dimension=2).value)


def _relativistic(log_p_x: Tensor, log_q_x: Tensor, log_p_y: Tensor, log_q_y: Tensor) -> Tensor:
    """p(x) q(y) log σ(D*(x) - D*(y))."""
    return weigh(log_p_x + log_q_y, logsigmoid((log_p_x - log_q_x) - (log_p_y - log_q_y)))
