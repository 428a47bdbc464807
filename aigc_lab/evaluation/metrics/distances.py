"""Euclidean distances in float64, a tile at a time: no n x n matrix is held, and a copy lies at distance 0."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

TILE = 1024
"""Points along either side of a tile: 8 MB of distances, which stay in a processor's cache."""

ROUNDING = 1e-13
"""What |x|² + |y|² - 2xy may be off by, as a share of |x|² + |y|²."""


def nearest_neighbours(reference: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Index of, and distance to, the nearest reference point of each point: int64 [n], float64 [n].

    Of several at the same distance it is the first.
    """
    index = torch.zeros(len(points), dtype=torch.long)
    nearest = torch.full((len(points),), math.inf, dtype=torch.float64)
    for rows, columns, squared in squared_tiles(points, reference):
        found = squared.min(1)
        nearer = found.values < nearest[rows]
        index[rows] = torch.where(nearer, found.indices + columns.start, index[rows])
        nearest[rows] = torch.where(nearer, found.values, nearest[rows])
    return index, nearest.sqrt()


def squared_radii(points: Tensor, k: int) -> Tensor:
    """Squared distances of each point to its k nearest other points, ascending, float64 [n, k].

    Distance is symmetric, so only the tiles on and above the diagonal are computed.
    """
    assert len(points) > k, f"{len(points)} points have no {k}-th neighbour"
    smallest = torch.full((len(points), k), math.inf, dtype=torch.float64)

    def keep(rows: slice, candidates: Tensor) -> None:
        nearest = candidates.topk(min(k, candidates.shape[1]), largest=False).values
        smallest[rows] = torch.cat([smallest[rows], nearest], dim=1).topk(k, largest=False).values

    for rows, columns, squared in squared_tiles(points, points, upper=True):
        if rows == columns:
            squared.fill_diagonal_(math.inf)  # nobody is one's own neighbour
        else:
            keep(columns, squared.mT)
        keep(rows, squared)
    return smallest


def squared_tiles(points: Tensor, others: Tensor, *, upper: bool = False) -> Iterator[tuple[slice, slice, Tensor]]:
    """(rows, columns, squared distances between these points and these others), float64.

    |x|² + |y|² - 2xy is one product, of (-2x, |x|², 1) and (y, 1, |y|²). It loses half the digits where x is near
    y: what is below rounding error is set to 0, so that a copy lies at distance 0 exactly. Both sets are moved
    by the mean of the others first, which keeps digits where features lie far from the origin.

    Args:
        upper: leave out tiles below the diagonal.
    """
    centre = others.mean(0, dtype=torch.float64)
    (left, left_squares), (right, right_squares) = (_with_squares(x, centre) for x in (points, others))
    left[:, :-2] *= -2
    right[:, -2:] = right[:, -2:].flip(1)
    for rows in _slices(len(points)):
        for columns in _slices(len(others)):
            if upper and columns.start < rows.start:
                continue
            squared = left[rows] @ right[columns].mT
            if squared.amin() < ROUNDING * (left_squares[rows].amax() + right_squares[columns].amax()):
                scale = left_squares[rows, None] + right_squares[columns]
                squared.masked_fill_(squared < ROUNDING * scale, 0)
            yield rows, columns, squared


def _with_squares(x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """(x, |x|², 1) of x [n, d] less the centre, float64 [n, d + 2], and |x|² [n]."""
    wide = torch.empty(len(x), x.shape[1] + 2, dtype=torch.float64)
    torch.sub(x, centre, out=wide[:, :-2])
    squares = torch.linalg.vecdot(wide[:, :-2], wide[:, :-2])
    wide[:, -2], wide[:, -1] = squares, 1
    return wide, squares


def _slices(n: int) -> Iterator[slice]:
    return (slice(begin, min(begin + TILE, n)) for begin in range(0, n, TILE))
