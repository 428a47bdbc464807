"""Line and scatter charts as geometry: scales, ticks and paths. The template draws them as inline SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

Point = tuple[float, float]

WIDTH, HEIGHT = 420, 264
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 12, 24
"""Margins, in the units of the drawing."""
MOST_POINTS = 240
"""Of one line: more cannot be told apart at this width."""


@dataclass(frozen=True)
class Series:
    """One generator, or one quantity, in a chart.

    Attributes:
        mark: which colour, dash and marker; None for a grey line that serves as a yardstick.
        spread: for each point the ends of its interval along y, or nothing.
        note: what the legend says after the label.
    """

    label: str
    points: Sequence[Point]
    mark: int | None
    spread: Sequence[tuple[float, float]] = ()
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool = False
    form: Callable[[float], str] = "{:g}".format

    def place(self, value: float) -> float:
        """Where a value stands between 0 (low) and 1 (high)."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        return [
            t
            for t in (_log_ticks if self.log else _ticks)(self.low, self.high)
            if -1e-9 <= self.place(t) <= 1 + 1e-9
        ]

    @classmethod
    def around(
        cls, values: Sequence[float], *, log: bool = False, form: Callable[[float], str] = "{:g}".format
    ) -> "Axis":
        """An axis with a little room at both ends of the values."""
        low, high = min(values), max(values)
        if log:
            return cls(low / 2, high * 2, True, form)
        room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - room, high + room, False, form)


@dataclass(frozen=True)
class Chart:
    """What the template needs to draw one chart, in units of a WIDTH x HEIGHT drawing.

    Attributes:
        key: of its title, axes and description among the phrases.
        joined: lines, or single points.
        steps: corners of dashed lines through the chart, as Pareto fronts; in data units.
    """

    key: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    joined: bool = True
    steps: Sequence[Sequence[Point]] = ()
    title: str = ""

    width, height = WIDTH, HEIGHT
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def at(self, x: float, y: float) -> Point:
        """Data to drawing units."""
        across = LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT)
        down = TOP + (1 - self.y.place(y)) * (HEIGHT - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    @cached_property
    def x_ticks(self) -> list[tuple[float, str]]:
        return [(self.at(t, self.y.low)[0], self.x.form(t)) for t in self.x.ticks]

    @cached_property
    def y_ticks(self) -> list[tuple[float, str]]:
        return [(self.at(self.x.low, t)[1], self.y.form(t)) for t in self.y.ticks]

    def path(self, points: Sequence[Point]) -> str:
        """The `d` of an SVG path through the points; a single one is drawn as a dot."""
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in (self.at(*point) for point in thin(points))) + "h0"

    def whiskers(self, series: Series) -> list[tuple[float, float, float]]:
        """(x, top, bottom) of each interval."""
        ends = zip(series.points, series.spread, strict=True) if series.spread else ()
        return [(*self.at(x, high), self.at(x, low)[1]) for (x, _), (low, high) in ends]


def thin(points: Sequence[Point]) -> Sequence[Point]:
    """At most MOST_POINTS of them, the last one included."""
    stride = -(-len(points) // MOST_POINTS)
    return points if stride < 2 else [*points[:-1:stride], points[-1]]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Corners of the staircase under which every point lies: less cost (x) or more quality (y) is nowhere to be
    had without giving up the other."""
    corners: list[Point] = []
    for cost, quality in sorted(points, key=lambda p: (p[0], -p[1])):
        if not corners:
            corners.append((cost, quality))
        elif quality > corners[-1][1]:
            corners += [(cost, corners[-1][1]), (cost, quality)]
    return corners


def _ticks(low: float, high: float) -> list[float]:
    """About five multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, every so many of them that at most six remain; 2 and 5 between them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 2:
        return [m * 10.0**p for p in range(first, last + 1) for m in (1, 2, 5)]
    return [10.0**p for p in range(first, last + 1, -(-(last - first) // 6))]
