"""Adaptive Gauss quadrature over the whole line or plane, vectorised: a round evaluates all boxes at once.

Each axis is cut at the edges of the laws' supports, and every piece is stretched onto a stretch of a new
coordinate s in which a tail |x|^-a and a singularity |x - edge|^-b (b < 1) both decay exponentially. Boxes
are intervals or rectangles of s. The first ones are split until none is crowded with samples of the laws
(seeds), so that no narrow mode falls between the nodes; a box is done when its children add up to it.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Integrand = Callable[[Tensor, Tensor], Tensor]
"""Points [N, d] and log |dx/ds| there [N] -> m values of the integrand times dx/ds, [N, m]. They are multiplied
inside, where a density is still a logarithm: far out it is too small for a float, and dx/ds as large."""

EXTENT = 345.0
"""Beyond, e^t exceeds 1e150 and its square overflows."""
N_NODES = 10
_ROOTS, _ROOT_WEIGHTS = np.polynomial.legendre.leggauss(N_NODES)
NODES, WEIGHTS = torch.from_numpy((1 + _ROOTS) / 2), torch.from_numpy(_ROOT_WEIGHTS / 2)
"""The Gauss rule on [0, 1]."""
CHUNK = 1 << 14
"""Points evaluated at once; with 1,000 mixture components, 130 MB."""
CROWD = 4
"""A first box holds fewer seeds than this, or less than 1/256 of all."""
MAX_DEPTH = 40
"""Halvings of a box around seeds that are equal or nearly so."""
FIRST_BREAKS = {1: tuple(4.0 * i for i in range(1, 87)), 2: (4.0, 16.0, 64.0, 256.0)}
"""|t| at which the first boxes end: on the line every e^4-fold of x, so that tails keep their digits too."""
MAX_BOXES = {1: 40_000, 2: 30_000}
TOLERANCE = {1: 1e-11, 2: 1e-7}
"""Absolute below 1, relative above, of the estimated error."""
PROMISE = {1: 1e-7, 2: 1e-6}
"""The error that is accepted when MAX_BOXES run out before TOLERANCE is reached; what may lie beyond EXTENT."""
FADING = 1e-6
"""An integrand that falls by less than this share from s to s + 1, near the end of s, does not fade."""
NEAR_END = 20.0
"""Distance in s of where that is judged: the tail of a distribution function is cut at the end itself."""


class Piece(Protocol):
    """An increasing map from t in [-EXTENT, EXTENT] onto one piece of an axis."""

    def point(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """x and dx/dt."""
        ...

    def parameter(self, x: Tensor) -> Tensor:
        """The inverse of `point`."""
        ...


@dataclass(frozen=True)
class Line:
    """All of R: x = centre + scale sinh t, out to 1e150 scales."""

    centre: float
    scale: float

    def point(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.centre + self.scale * t.sinh(), self.scale * t.cosh()

    def parameter(self, x: Tensor) -> Tensor:
        return ((x - self.centre) / self.scale).asinh()


@dataclass(frozen=True)
class Ray:
    """A half line: x = edge + sign exp(sign t), from 1e-150 to 1e150 away from its edge."""

    edge: float
    sign: int

    def point(self, t: Tensor) -> tuple[Tensor, Tensor]:
        distance = (self.sign * t).exp()
        return _inside(self.edge + self.sign * distance, self.edge, self.sign), distance

    def parameter(self, x: Tensor) -> Tensor:
        return self.sign * (self.sign * (x - self.edge)).log()


@dataclass(frozen=True)
class Segment:
    """x = low + (high - low) σ(t): down to 1e-150 of its length away from either edge."""

    low: float
    high: float

    def point(self, t: Tensor) -> tuple[Tensor, Tensor]:
        width = self.high - self.low
        from_low, from_high = width * t.sigmoid(), width * (-t).sigmoid()
        x = torch.where(t < 0, self.low + from_low, self.high - from_high)
        return _inside(_inside(x, self.low, 1), self.high, -1), from_low * (-t).sigmoid()

    def parameter(self, x: Tensor) -> Tensor:
        return ((x - self.low) / (self.high - x)).log()


def _inside(x: Tensor, edge: float, sign: int) -> Tensor:
    """x, moved off an edge that it was rounded to: a density's value there may be anything."""
    nearest = math.nextafter(edge, sign * math.inf)
    return x.clamp(min=nearest) if sign > 0 else x.clamp(max=nearest)


class Axis:
    """The pieces of one axis, laid end to end on one coordinate s.

    Args:
        edges: where a density may jump.
        seeds: samples of the laws, [S].
        dimension: of the space that this is an axis of.
    """

    def __init__(self, edges: Sequence[float], seeds: Tensor, dimension: int) -> None:
        self.edges = sorted(set(edges))
        low, middle, high = (float(seeds.quantile(level)) for level in (0.25, 0.5, 0.75))
        self.pieces: list[Piece] = [Line(middle, (high - low) or 1.0)]
        if self.edges:
            segments = [Segment(a, b) for a, b in itertools.pairwise(self.edges)]
            self.pieces = [Ray(self.edges[0], -1), *segments, Ray(self.edges[-1], 1)]
        n = len(self.pieces)
        self.middles = 2 * EXTENT * torch.arange(n, dtype=torch.float64)
        """The s at which t is 0, in each piece."""
        self.limits = 2 * EXTENT * torch.arange(n + 1, dtype=torch.float64) - EXTENT
        """Where pieces begin and end: points at infinity or at an edge."""
        first = torch.tensor(FIRST_BREAKS[dimension], dtype=torch.float64)
        inner = self.middles[:, None] + torch.cat([-first, torch.zeros(1), first])
        self.breaks = torch.cat([self.limits, inner.flatten()]).unique()
        """Where the first boxes begin and end."""

    def point(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """x and dx/ds, shaped as s."""
        x, slope = torch.empty_like(s), torch.empty_like(s)
        piece_of = torch.searchsorted(self.limits[1:-1], s.contiguous(), right=True)
        for i, piece in enumerate(self.pieces):
            here = piece_of == i
            x[here], slope[here] = piece.point(s[here] - self.middles[i])
        return x, slope

    def parameter(self, x: Tensor) -> Tensor:
        """The s of each x."""
        piece_of = torch.searchsorted(torch.tensor(self.edges, dtype=x.dtype), x.contiguous(), right=True)
        s = torch.empty_like(x)
        for i, piece in enumerate(self.pieces):
            here = piece_of == i
            s[here] = piece.parameter(x[here]).clamp(-EXTENT, EXTENT) + self.middles[i]
        return s


@dataclass(frozen=True)
class Integral:
    """An integral and the boxes that it was summed over."""

    value: Tensor
    """[m]; infinite where the integral diverges."""
    error: float
    """An estimate from above, relative where the value exceeds 1."""
    boxes: Tensor
    """[B, 2, d]: lower and upper corners in s."""
    parts: Tensor
    """[B, m]."""


def integrate(f: Integrand, axes: Sequence[Axis], seeds: Tensor) -> Integral:
    """The integral of each column of f over R^d, d = len(axes); seeds are points [S, d].

    A column is infinite if f is at a node, or if its mass does not fade towards infinity or an edge.

    Raises:
        ValueError: on the line it fades, but so slowly that more than is promised lies beyond EXTENT.
    """
    d = len(axes)
    boxes = _first_boxes(axes, torch.stack([axis.parameter(x) for axis, x in zip(axes, seeds.mT, strict=True)], 1))
    coarse = _gauss(f, axes, boxes)
    infinite, done, spent, n_boxes = torch.zeros_like(coarse[0]), torch.zeros_like(coarse[0]), 0.0, len(boxes)
    all_boxes, all_parts = [], []
    while len(boxes):
        children = _split(boxes)
        n_boxes += children.shape[0] * children.shape[1]
        fine = _gauss(f, axes, children.flatten(0, 1)).unflatten(0, children.shape[:2])
        infinite += fine.masked_fill(fine.isfinite(), 0).sum((0, 1))
        fine, coarse = fine.masked_fill(infinite != 0, 0), coarse.masked_fill(infinite != 0, 0)
        scale = 1 + (done + fine.sum((0, 1))).abs()
        # the children's own error is half of their parent's at a jump, and far less anywhere else
        error, order = ((fine.sum(1) - coarse).abs() / 2 / scale).amax(1).sort()
        good = (error.cumsum(0) <= (TOLERANCE[d] - spent) / 2) | (n_boxes > MAX_BOXES[d])
        spent += float(error[good].sum())
        kept, again = order[good], order[~good]
        all_boxes.append(children[kept].flatten(0, 1))
        all_parts.append(fine[kept].flatten(0, 1))
        done += all_parts[-1].sum(0)
        boxes, coarse = children[again].flatten(0, 1), fine[again].flatten(0, 1)
    boxes, parts = torch.cat(all_boxes), torch.cat(all_parts)
    infinite += _beyond(f, axes[0], done) if d == 1 else _unfaded(axes, boxes, parts, done)
    return Integral(done + infinite, spent, boxes, parts)


def _beyond(f: Integrand, axis: Axis, done: Tensor) -> Tensor:
    """What lies beyond the ends of the pieces, [m]: ± infinity where the integrand does not fade, else nothing.

    Raises:
        ValueError: it fades, but the rest of that exponential tail in s is more than is promised.
    """
    inner = torch.tensor([0.5, NEAR_END, 2 * NEAR_END], dtype=torch.float64)
    s = torch.cat([axis.limits[:-1, None] + inner, axis.limits[1:, None] - inner])
    x, slope = axis.point(s.flatten())
    at_end, near, before = f(x[:, None], slope.log()).unflatten(0, s.shape).unbind(1)
    rate = (before / near).abs().log() / NEAR_END
    rest = near.abs() * (-NEAR_END * rate).exp() / rate
    much = PROMISE[1] * (1 + done.abs())
    fades = rate > FADING
    if (fades & (rest > much)).any():
        raise ValueError("the tails are too heavy: what lies beyond 1e150 is more than the promised error")
    return torch.where(~fades & (at_end.abs() > much), at_end.sign() * math.inf, 0.0).sum(0)


def _unfaded(axes: Sequence[Axis], boxes: Tensor, parts: Tensor, done: Tensor) -> Tensor:
    """± infinity where the boxes at the ends of the pieces have more than is promised, [m]."""
    ends = [torch.isin(boxes[..., a], axis.limits) for a, axis in enumerate(axes)]
    at_limit = parts[torch.stack(ends).any(0).any(-1)]
    unfaded = at_limit.abs().sum(0) > PROMISE[len(axes)] * (1 + done.abs())
    return torch.where(unfaded, at_limit.sum(0) * math.inf, 0.0)


def gauss_points(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes [B, N^d, d] and weights [B, N^d] of the product Gauss rule on boxes [B, 2, d]."""
    d = boxes.shape[-1]
    unit = torch.cartesian_prod(*[NODES] * d).view(-1, d)
    weight = torch.cartesian_prod(*[WEIGHTS] * d).view(-1, d).prod(1)
    low, width = boxes[:, :1], boxes[:, 1:] - boxes[:, :1]
    return low + width * unit, width.prod(-1) * weight


def _gauss(f: Integrand, axes: Sequence[Axis], boxes: Tensor) -> Tensor:
    """The Gauss rule on each box, [B, m]."""
    return torch.cat([_gauss_chunk(f, axes, some) for some in boxes.split(max(1, CHUNK // N_NODES ** len(axes)))])


def _gauss_chunk(f: Integrand, axes: Sequence[Axis], boxes: Tensor) -> Tensor:
    s, weights = gauss_points(boxes)
    x, slopes = zip(*[axis.point(s[..., a]) for a, axis in enumerate(axes)], strict=True)
    log_slope = torch.stack(slopes).log().sum(0)
    values = f(torch.stack(x, -1).flatten(0, 1), log_slope.flatten()).unflatten(0, weights.shape)
    return (values * weights[..., None]).sum(1)


def _split(boxes: Tensor) -> Tensor:
    """The 2^d halves of each box, [B, 2^d, 2, d]; bit a of a child's number: upper half along axis a."""
    d = boxes.shape[-1]
    low, high = boxes[:, 0], boxes[:, 1]
    ends = torch.stack([low, (low + high) / 2, high], 1)
    upper = torch.tensor([[number >> a & 1 for a in range(d)] for number in range(2**d)])
    corner = torch.stack([upper, upper + 1], 1)
    return ends[:, corner, torch.arange(d)]


def _first_boxes(axes: Sequence[Axis], seeds: Tensor) -> Tensor:
    """The grid of all axes' breaks, split until none is crowded with seeds: boxes [B, 2, d] in s."""
    d = len(axes)
    intervals = [torch.stack([axis.breaks[:-1], axis.breaks[1:]], 1) for axis in axes]
    index = torch.cartesian_prod(*[torch.arange(len(i)) for i in intervals]).view(-1, d)
    boxes = torch.stack([intervals[a][index[:, a]] for a in range(d)], -1)
    owner = torch.zeros(len(seeds), dtype=torch.long)
    for a, axis in enumerate(axes):
        place = torch.searchsorted(axis.breaks, seeds[:, a].contiguous(), right=True) - 1
        owner = owner * len(intervals[a]) + place.clamp(0, len(intervals[a]) - 1)
    settled, crowd = [], max(CROWD, len(seeds) // 256)
    for _ in range(MAX_DEPTH):
        crowded = owner.bincount(minlength=len(boxes)) >= crowd
        if not crowded.any():
            break
        settled.append(boxes[~crowded])
        seeds, owner = seeds[crowded[owner]], owner[crowded[owner]]
        child = ((seeds >= boxes[owner].mean(1)) * 2 ** torch.arange(d)).sum(1)
        owner = (crowded.cumsum(0) - 1)[owner] * 2**d + child
        boxes = _split(boxes[crowded]).flatten(0, 1)
    return torch.cat([*settled, boxes])
