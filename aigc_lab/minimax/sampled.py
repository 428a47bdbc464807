"""The game seen through samples: the data's density is known, the generator's is not (it is G(z), z ~ N(0, I)).

The Jensen-Shannon divergence is computed between the masses that both laws have in the cells of a grid. The
data's masses are integrals of its density; the generator's are counts. Two errors remain and are stated: cells
hide what happens inside them (the divergence can only shrink, by the data-processing inequality), and counts
of n samples fluctuate (their bias is known to first order and subtracted).

What the cells hide is judged by merging them in pairs. That assumes a p_g which is smooth on the scale of a cell,
or sits on a few of them, as a network's output is or does. One on a lattice finer than the cells is at a distance
of log 2 from every density, and no such grid sees it: there the error is no bound.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

CELLS = {1: 512, 2: 128}
"""Cells along each axis, on the line and in the plane, where there are samples enough."""
CROWD = 16
"""Samples for each cell: fewer, and the bias of sparse counts is no longer the one that is subtracted."""
MARGIN = 0.05
"""By which the grid reaches beyond the real points, relative to their extent."""
N_NODES = 3
_ROOTS, _WEIGHTS = np.polynomial.legendre.leggauss(N_NODES)
NODES, WEIGHTS = torch.from_numpy((1 + _ROOTS) / 2), torch.from_numpy(_WEIGHTS / 2)


@dataclass(frozen=True)
class Estimate:
    """A number and how far it may be from the truth: two standard deviations, and what the cells hide where p_g is
    smooth on their scale."""

    value: float
    error: float


@dataclass(frozen=True)
class Played:
    """How a game stands, in nats."""

    value: float
    """V(D, G) = E[log D(x)] + E[log(1 - D(G(z)))] over the given points."""
    optimum: float
    """C(G) = 2 JSD(p, p_g) - log 4: what the best discriminator would reach."""
    jsd: Estimate
    distance_from_half: float
    """|D(x) - 1/2|, averaged over real and generated points alike."""


def play(
    discriminator: Callable[[Tensor], Tensor], law: Distribution, *, real: Tensor, generated: Tensor
) -> Played:
    """
    Args:
        discriminator: points [n, d] -> logits [n] or [n, 1].
        law: of the data.
        real: held-out points [n, d].
        generated: points [N, d]; the more, the smaller the error of the divergence. V sees the first n.
    """
    with torch.no_grad():
        on_real, on_fake = (discriminator(x).double().flatten() for x in (real, generated[: len(real)]))
    jsd = jensen_shannon(law, generated, window=real)
    off = [(logit.sigmoid() - 0.5).abs().mean() for logit in (on_real, on_fake)]
    return Played(
        value=float(logsigmoid(on_real).mean() + logsigmoid(-on_fake).mean()),
        optimum=2 * jsd.value - math.log(4),
        jsd=jsd,
        distance_from_half=float(sum(off)) / 2,
    )


def latents(n: int, dim: int, rng: torch.Generator) -> Tensor:
    """n draws of N(0, I), float32 [n, dim]. On the line they are its quantiles (i + 1/2) / n in random order, so
    that masses which they give to intervals err by 1/n, not by 1/√n.
    """
    if dim == 1:
        level = (torch.randperm(n, generator=rng).double() + 0.5) / n
        return torch.special.ndtri(level).float()[:, None]
    return torch.randn(n, dim, generator=rng)


def jensen_shannon(law: Distribution, samples: Tensor, *, window: Tensor, cells: int | None = None) -> Estimate:
    """JSD between a law on the line or in the plane and the law that samples [n, d] were drawn from.

    The grid spans the points of `window` [m, d], draws of `law`; what lies outside is one cell more. Where
    the law has no mass that cell loses nothing, however far away the samples are.

    Args:
        cells: along each axis, an even number; if None, CELLS or what leaves CROWD samples to each.

    Raises:
        ValueError: a sample is not finite, they are neither on the line nor in the plane, or cells is odd.
    """
    samples, window = samples.double(), window.double()
    n, d = samples.shape
    if d not in CELLS:
        raise ValueError(f"cells are laid on the line and in the plane, not in {d} dimensions")
    if bad := int((~samples.isfinite()).any(1).sum()):
        raise ValueError(f"{bad} of {n} samples are not finite")
    if cells is not None and (cells < 2 or cells % 2):
        raise ValueError(f"cells={cells}: they are merged in pairs; give an even number")
    if cells is None:
        cells = min(CELLS[d], 2 * max(1, round((n / CROWD) ** (1 / d) / 2)))
    low, high = window.min(0).values, window.max(0).values
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    p = _masses(law, low, (high - low) / cells, cells)
    q = _shares(samples, low, (high - low) / cells, cells)
    fine, bias, sd = _divergence(p, q, n)
    coarse, _, _ = _divergence(_merged(p), _merged(q), n)
    # halving the cells quarters what they hide of a smooth p_g, and about halves what they hide of a single point
    hidden = 2 * abs(fine - coarse) + _tail(float(1 - p.sum()))
    return Estimate(max(0.0, fine), hidden + bias + 2 * sd)


def _tail(mass: float) -> float:
    """What merging so much of the law's mass with anything else can take from the divergence, at the most."""
    return mass * (1 - math.log(mass)) / 2 if mass > 0 else 0.0


def _divergence(p: Tensor, q: Tensor, n: int) -> tuple[float, float, float]:
    """JSD of masses p and of shares q among n draws, without its bias; the bias; the standard deviation."""
    p, q = (torch.cat([masses.flatten(), (1 - masses.sum()).clamp(min=0)[None]]) for masses in (p, q))
    slope = torch.where(q > 0, (2 * q / (p + q)).log(), 0.0)  # 2 ∂JSD/∂q
    other = torch.where(p > 0, (2 * p / (p + q)).log(), 0.0)
    value = (p * other + q * slope).sum() / 2
    # E of the second-order term ½ (∂²JSD/∂q²) Var(q), with ∂²JSD/∂q² = p / (2 q (p + q))
    bias = torch.where(q > 0, p / (p + q), 0.0).sum() / (4 * n)
    variance = (q * slope.square()).sum() - (q * slope).sum().square()
    return float(value - bias), float(bias), math.sqrt(max(0.0, float(variance))) / (2 * math.sqrt(n))


def _masses(law: Distribution, low: Tensor, width: Tensor, cells: int) -> Tensor:
    """The law's mass in each cell, [cells] * d, by the product Gauss rule."""
    d = len(low)
    axes = [low[i] + width[i] * (torch.arange(cells)[:, None] + NODES).flatten() for i in range(d)]
    points = torch.cartesian_prod(*axes).reshape(-1, *law.event_shape)
    density = law.log_prob(points).double().exp().reshape([cells, N_NODES] * d)
    for _ in range(d):  # the nodes of the last axis, then those of the one before
        density = torch.tensordot(density, WEIGHTS, dims=([density.dim() - 1], [0])).movedim(-1, 0)
    return density * width.prod()


def _shares(samples: Tensor, low: Tensor, width: Tensor, cells: int) -> Tensor:
    """The share of samples in each cell, [cells] * d."""
    n, d = samples.shape
    index = ((samples - low) / width).floor()
    inside = ((index >= 0) & (index < cells)).all(1)
    index = index[inside].long()
    flat = index[:, 0] if d == 1 else index[:, 0] * cells + index[:, 1]
    return (flat.bincount(minlength=cells**d).double() / n).reshape([cells] * d)


def _merged(masses: Tensor) -> Tensor:
    """Two neighbouring cells as one, along each axis."""
    for axis in range(masses.dim()):
        masses = masses.unflatten(axis, (-1, 2)).sum(axis + 1)
    return masses
