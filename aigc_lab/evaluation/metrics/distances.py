"""Euclidean distances a tile at a time: no n x n matrix is held, values are float64's, and a copy lies at 0.

Neighbours are found by screening: one float32 product bounds every squared distance from below, and only the pairs
that the bound cannot exclude are measured, in float64 from the differences themselves. The answer is that of
comparing everything.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from aigc_lab.evaluation.metrics.checks import checked

AT_ONCE = 2**20
"""Distances of `squared_rows` held at a time: 8 MB, which stay in a processor's cache."""

ROWS, COLUMNS = 256, 8192
"""Sides of a tile that is screened: 8 MB of bounds."""

GROUP = 32
"""Neighbouring columns whose smallest bound is looked at first."""

OUT_OF_REACH = 1e30
"""The bound of columns that only fill the last group; true ones are below 4."""

ROUGHLY = 1e-3
"""Below this share of |x|² + |y|², a float32 product has lost too much of |x - y|²."""

ROUNDING = 1e-13
"""What |x|² + |y|² - 2xy may be off by, as a share of |x|² + |y|²."""


def nearest_neighbours(reference: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Index of, and distance to, the nearest reference point of each point: int64 [n], float64 [n].

    Of several at the same distance it is the first.
    """
    reference, points = checked(reference=reference, points=points)
    squared, index = neighbours(points, reference, 1)
    return index[:, 0], squared[:, 0].sqrt()


def squared_radii(points: Tensor, k: int) -> Tensor:
    """Squared distances of each point to its k nearest other points, ascending, float64 [n, k]."""
    assert len(points) > k, f"{len(points)} points have no {k}-th neighbour"
    return neighbours(points, points, k, apart=True)[0]


def neighbours(points: Tensor, others: Tensor, k: int, *, apart: bool = False) -> tuple[Tensor, Tensor]:
    """Squared distances of each point to its k nearest others, ascending, float64 [n, k], and their indices,
    int64 [n, k]; equally near ones in the order of the others.

    Args:
        apart: points and others are one set, and nobody is one's own neighbour.
    """
    screen = _Screen.of(points, others)
    squared = torch.full((len(points), k), math.inf, dtype=torch.float64)
    index = torch.zeros((len(points), k), dtype=torch.long)
    for rows in _slices(len(points), ROWS):
        for columns in _slices(len(others), COLUMNS):
            bounds = screen.lower_bounds(rows, columns)
            own = _common(rows, columns) if apart else _common(slice(0, 0), columns)
            bounds.flatten(1)[own - rows.start, own - columns.start] = math.inf
            least = bounds.amin(-1)
            limit = squared[rows, -1] * screen.unit
            if least.shape[1] >= k:  # k groups hold k different others, none further than the upper bound
                upper = (least + screen.group_slack[_groups(columns)]).topk(k, largest=False).values[:, -1]
                limit = torch.minimum(limit, upper.double() + screen.row_slack[rows])
            pairs = _within(bounds, least, limit, at_most=(GROUP + k) * len(bounds))
            if pairs is None:
                near = _differences(points[rows], others[columns])
                near[own - rows.start, own - columns.start] = math.inf
                place = torch.arange(columns.start, columns.stop).expand_as(near)
            else:
                near, place = _side_by_side(*pairs, screen.squared(rows, columns, *pairs), len(bounds))
                place += columns.start
            candidates = torch.cat([squared[rows], near], dim=1)
            order = candidates.sort(dim=1, stable=True)
            squared[rows] = order.values[:, :k]
            index[rows] = torch.cat([index[rows], place], dim=1).gather(1, order.indices[:, :k])
    return squared, index


def pairs_within(
    points: Tensor, others: Tensor, limit: Tensor, other_limit: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Point, other and squared distance (int64, int64, float64 [p]) of all pairs whose squared distance is at
    most the point's limit [n] or the other's [m], a tile at a time."""
    screen = _Screen.of(points, others)
    row_reach, column_reach = (screen.rounded_up(reach * screen.unit) for reach in (limit, other_limit))
    for rows in _slices(len(points), ROWS):
        for columns in _slices(len(others), COLUMNS):
            bounds = screen.lower_bounds(rows, columns).flatten(1)[:, : columns.stop - columns.start]
            reach = torch.maximum(row_reach[rows, None], column_reach[columns])
            pairs = (bounds <= reach).nonzero(as_tuple=True)
            if len(pairs[0]) > 2 * GROUP * len(bounds):
                squared = _differences(points[rows], others[columns])
                row, column = (squared <= torch.maximum(limit[rows, None], other_limit[columns])).nonzero(
                    as_tuple=True
                )
                squared = squared[row, column]
            else:
                squared = screen.squared(rows, columns, *pairs)
                inside = squared <= torch.maximum(limit[rows][pairs[0]], other_limit[columns][pairs[1]])
                row, column, squared = pairs[0][inside], pairs[1][inside], squared[inside]
            yield row + rows.start, column + columns.start, squared


def squared_rows(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows, and the squared distances between these points and all others, float64 [rows, m].

    |x|² + |y|² - 2xy is one product, of (-2x, |x|², 1) and (y, 1, |y|²). It loses half the digits where x is near
    y: what is below rounding error is set to 0, so that a copy lies at distance 0 exactly. Both sets are moved
    by the mean of the others first, which keeps digits where features lie far from the origin.
    """
    centre = others.mean(0, dtype=torch.float64)
    (left, left_squares), (right, right_squares) = (_with_squares(x, centre) for x in (points, others))
    left[:, :-2] *= -2
    right[:, -2:] = right[:, -2:].flip(1)
    for rows in _slices(len(points), max(1, AT_ONCE // len(others))):
        squared = left[rows] @ right.mT
        if squared.amin() < ROUNDING * (left_squares[rows].amax() + right_squares.amax()):
            scale = left_squares[rows, None] + right_squares
            squared.masked_fill_(squared < ROUNDING * scale, 0)
        yield rows, squared


def rough_squared_rows(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """`squared_rows` in float32, twice as fast, for sums over all pairs: about three digits, and a copy at 0.

    Where the product has lost more than that, which is where two points are near, differences are measured.
    """
    if torch.get_float32_matmul_precision() != "highest":
        yield from ((rows, squared.float()) for rows, squared in squared_rows(points, others))
        return
    centre = others.mean(0, dtype=torch.float64)
    (left, left_squares), (right, right_squares) = (_with_squares(x, centre) for x in (points, others))
    left[:, :-2] *= -2
    right[:, -2:] = right[:, -2:].flip(1)
    left, right = left.float(), right.float()
    lost = (ROUGHLY * (left_squares + right_squares.max())).float()
    for rows in _slices(len(points), max(1, 2 * AT_ONCE // len(others))):
        squared = left[rows] @ right.mT
        suspects = (squared.amin(1) < lost[rows]).nonzero()[:, 0]
        if len(suspects):
            row, column = (squared[suspects] < lost[rows][suspects, None]).nonzero(as_tuple=True)
            difference = points[rows][suspects[row]].double() - others[column]
            squared[suspects[row], column] = torch.linalg.vecdot(difference, difference).float()
        yield rows, squared


@dataclass(frozen=True)
class _Screen:
    """Lower bounds of squared distances, in units in which the longest point has a length in [1/2, 1).

    With u half a unit in the last place, a product of d + 2 terms is off by at most (d + 2) u Σ|terms| (Higham
    2002, equation 3.5) and Σ|terms| <= 2 (|x|² + |y|²); rounding features and squares to float32 adds less than
    8 u (|x|² + |y|²). So c (|x|² + |y|²) with c = 2 (d + 8) u covers it. It is taken off beforehand: the product
    of (-2x, 1, (1-c)|x|²) and (y, (1-c)|y|², 1) is a lower bound. Adding 2c (|x|² + |y|²) makes an upper one.
    """

    points: Tensor
    others: Tensor
    unit: float
    left: Tensor
    right: Tensor
    row_slack: Tensor
    group_slack: Tensor

    @classmethod
    def of(cls, points: Tensor, others: Tensor) -> "_Screen":
        # Where products of float32 are allowed to be of fewer digits the bound would not hold.
        exact = torch.get_float32_matmul_precision() == "highest"
        dtype = torch.float32 if exact else torch.float64
        c = (points.shape[1] + 8) * torch.finfo(dtype).eps
        underflow = 2.0**-100
        centre = others.mean(0, dtype=torch.float64)
        longest = max(
            float((x[part] - centre).square().sum(1).max())
            for x in (points, others)
            for part in _slices(len(x), ROWS)
        )
        if not math.isfinite(longest):
            raise ValueError("features must be finite numbers, and their squares too")
        scale = 2.0 ** -math.frexp(math.sqrt(longest))[1]

        def widened(x: Tensor, squares_at: int, n: int) -> tuple[Tensor, Tensor]:
            wide = torch.zeros(n, x.shape[1] + 2, dtype=dtype)
            squares = torch.zeros(n, dtype=torch.float64)
            for part in _slices(len(x), ROWS):
                moved = (x[part] - centre) * scale
                squares[part] = torch.linalg.vecdot(moved, moved)
                wide[part, :-2] = moved
            wide[:, -2:] = 1
            wide[:, squares_at] = (1 - c) * squares - underflow
            return wide, squares

        left, left_squares = widened(points, -1, len(points))
        left[:, :-2] *= -2
        right, right_squares = widened(others, -2, -(-len(others) // GROUP) * GROUP)
        right[len(others) :, -2] = OUT_OF_REACH
        return cls(
            points,
            others,
            unit=scale**2,
            left=left,
            right=right,
            row_slack=2 * (c * left_squares + 2 * underflow),
            group_slack=2 * c * right_squares.view(-1, GROUP).amax(1).to(dtype) * (1 + 1e-6),
        )

    def lower_bounds(self, rows: slice, columns: slice) -> Tensor:
        """[rows, groups of columns, GROUP]"""
        groups = _groups(columns)
        return (self.left[rows] @ self.right[groups.start * GROUP : groups.stop * GROUP].mT).unflatten(
            1, (-1, GROUP)
        )

    def rounded_up(self, limit: Tensor) -> Tensor:
        """Of the bounds' type, and no smaller."""
        return limit.to(self.left.dtype).nextafter(torch.tensor(math.inf, dtype=self.left.dtype))

    def squared(self, rows: slice, columns: slice, row: Tensor, column: Tensor) -> Tensor:
        """Of these pairs of the tile, float64, in the features' own unit."""
        difference = self.points[rows][row].double() - self.others[columns][column]
        return torch.linalg.vecdot(difference, difference)


def _common(rows: slice, columns: slice) -> Tensor:
    begin, end = max(rows.start, columns.start), min(rows.stop, columns.stop)
    return torch.arange(begin, max(begin, end))


def _groups(columns: slice) -> slice:
    return slice(columns.start // GROUP, -(-columns.stop // GROUP))


def _within(bounds: Tensor, least: Tensor, limit: Tensor, *, at_most: int) -> tuple[Tensor, Tensor] | None:
    """Row and column of the pairs whose bound does not exceed the row's limit, row by row; None where more than so
    many are left that looking at each is slower than measuring the tile."""
    limit = limit.clamp(max=OUT_OF_REACH / 2)[:, None]
    row, group = (least <= limit).nonzero(as_tuple=True)
    if len(row) > at_most:
        return None
    pair, member = (bounds[row, group] <= limit[row]).nonzero(as_tuple=True)
    return None if len(pair) > at_most else (row[pair], group[pair] * GROUP + member)


def _differences(points: Tensor, others: Tensor) -> Tensor:
    """Squared distances of all pairs, float64, from the differences: slower than a product, and as exact."""
    return torch.cdist(points.double(), others.double(), compute_mode="donot_use_mm_for_euclid_dist").square_()


def _side_by_side(row: Tensor, column: Tensor, values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Lists of pairs, sorted by row, as matrices [n, longest list] of values and columns; inf fills the rest."""
    lengths = row.bincount(minlength=n)
    place = torch.arange(len(row)) - (lengths.cumsum(0) - lengths)[row]
    width = int(lengths.max())
    matrix = torch.full((n, width), math.inf, dtype=torch.float64)
    columns = torch.zeros((n, width), dtype=torch.long)
    matrix[row, place], columns[row, place] = values, column
    return matrix, columns


def _with_squares(x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """(x, |x|², 1) of x [n, d] less the centre, float64 [n, d + 2], and |x|² [n]."""
    wide = torch.empty(len(x), x.shape[1] + 2, dtype=torch.float64)
    torch.sub(x, centre, out=wide[:, :-2])
    squares = torch.linalg.vecdot(wide[:, :-2], wide[:, :-2])
    wide[:, -2], wide[:, -1] = squares, 1
    return wide, squares


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, n)) for begin in range(0, n, size))
