"""A table of scores as columns and cells: what the template prints, hides and lets the reader sort by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aigc_lab.evaluation.arguments import CONTROL, PERFECT
from aigc_lab.evaluation.battery import Metric
from aigc_lab.evaluation.compare import Row, Table
from aigc_lab.evaluation.effort import BYTES_PER_WORD, DRAWING, TYPING, TimeSaved, time_saved
from aigc_lab.evaluation.tabulate import format_count, format_rank, format_value
from aigc_lab.quality import mean_gap
from aigc_lab.scores import Score


@dataclass(frozen=True)
class Bar:
    """A value on the axis from useless (0) to real data (1), with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cell:
    """
    Attributes:
        order: what the column is sorted by; None sorts last.
        interval: the 95 % interval in words, empty where there is none.
    """

    text: str
    order: float | None
    interval: str = ""
    bar: Bar | None = None


@dataclass(frozen=True)
class Column:
    """
    Attributes:
        heading: the metric's, or a key of the phrases where `phrase` is set.
        best_first: the order that a first click sorts in.
        extra: hidden while its group is folded.
        dagger: the metric cannot tell the copycat from real data.
    """

    heading: str
    cell: Callable[[Row], Cell]
    best_first: str
    phrase: bool = False
    extra: bool = False
    dagger: bool = False


@dataclass(frozen=True)
class Group:
    """Columns under one heading, which can be folded to the main ones."""

    name: str
    columns: Sequence[Column]

    @property
    def folds(self) -> bool:
        return any(column.extra for column in self.columns)


def column_groups(table: Table) -> list[Group]:
    """Quality in one number, then the metrics by their groups, then cost."""
    metrics: dict[str, list[Metric]] = {}
    for metric in table.metrics:
        metrics.setdefault(metric.group, []).append(metric)
    blind = table.blind
    groups = [Group("quality", _quality(table))]
    for name, members in metrics.items():
        main = [m for m in members if m.headline] or members[:1]
        columns = [_of_metric(m, extra=m not in main, dagger="copycat" in blind[m.name]) for m in members]
        groups.append(Group(name, columns))
    return [*groups, Group("cost", COST)]


def shared_columns(tables: Sequence[Table]) -> list[Column]:
    """Those whose unit is the same for every data set: gap closed, likelihood in bits per byte, cost."""
    likelihoods = {m.name: m for table in tables for m in table.metrics if m.group == "likelihood"}
    return [GAP, *map(_of_metric, likelihoods.values()), *(column for column in COST if not column.extra)]


def quality(row: Row) -> Bar | None:
    """Mean gap closed. Its interval is the mean of the intervals' ends, as if all metrics erred together: they see
    the same samples, so no narrower one is sure."""
    if row.gap_closed is None:
        return None
    low = mean_gap({metric: score.gap_low for metric, score in row.scores.items()})
    high = mean_gap({metric: score.gap_high for metric, score in row.scores.items()})
    return Bar(row.gap_closed, row.gap_closed if low is None else low, row.gap_closed if high is None else high)


@dataclass(frozen=True)
class HeatCell:
    """
    Attributes:
        level: gap closed in tenths, 0 to 10; None where there is none.
        blind: the control is faulty and the metric takes it for real data.
    """

    text: str
    level: int | None
    blind: bool


@dataclass(frozen=True)
class HeatMap:
    """Controls against the metrics that have a floor and a worst value."""

    metrics: Sequence[Metric]
    rows: Sequence[tuple[str, bool, Sequence[HeatCell]]]
    """Name of the control, whether it is without a fault, its cells."""


def heat_map(table: Table) -> HeatMap:
    """How far each control comes in each metric."""
    controls = [row for row in table.rows if row.is_control]
    metrics = [m for m in table.metrics if any(row.scores[m.name].gap_closed is not None for row in controls)]
    blind = table.blind
    rows = []
    for row in controls:
        name = row.name.removeprefix(CONTROL)
        cells = [_heat(row.scores[m.name].gap_closed, name in blind[m.name]) for m in metrics]
        rows.append((name, name in PERFECT, cells))
    return HeatMap(metrics, rows)


def _heat(gap: float | None, blind: bool) -> HeatCell:
    if gap is None:
        return HeatCell("–", None, blind)
    return HeatCell(f"{100 * gap:.0f}", round(10 * gap), blind)


def _gap(row: Row) -> Cell:
    bar = quality(row)
    if bar is None:
        return Cell("none", None)
    return Cell(f"{bar.value:.0%}", bar.value, f"{bar.low:.0%} … {bar.high:.0%}", bar)


GAP = Column("column.gap", _gap, "descending", phrase=True)


def _quality(table: Table) -> list[Column]:
    def rank(row: Row) -> Cell:
        found = table.ranks.get(row.name)
        return Cell("", None) if found is None else Cell(format_rank(found), found.low + found.high)

    return [GAP, *([Column("column.rank", rank, "ascending", phrase=True)] if table.ranks else [])]


def _of_metric(metric: Metric, *, extra: bool = False, dagger: bool = False) -> Column:
    best_first = "descending" if metric.direction == "higher" else "ascending"
    return Column(
        metric.heading, lambda row: _cell(row.scores[metric.name]), best_first, extra=extra, dagger=dagger
    )


def _cell(score: Score) -> Cell:
    estimate = score.estimate
    interval = f"{estimate.low:.3g} … {estimate.high:.3g}" if estimate else ""
    return Cell(format_value(score), score.value, interval, _bar(score))


def _bar(score: Score) -> Bar | None:
    if score.gap_closed is None or score.gap_low is None or score.gap_high is None:
        return None
    return Bar(score.gap_closed, score.gap_low, score.gap_high)


def time_saved_by(score: Score) -> TimeSaved:
    """One sample against a person who types or draws it."""
    if score.modality == "text":
        return time_saved(score.bytes_per_sample / BYTES_PER_WORD, score.seconds_per_sample, TYPING)
    return time_saved(1, score.seconds_per_sample, DRAWING)


def _pace(row: Row) -> Cell:
    factor = time_saved_by(row.any).factor if row.any.seconds_per_sample else None
    return Cell("none", None) if factor is None else Cell(format_count(factor), factor)


def _known(value: float | None, form: Callable[[float], str]) -> Cell:
    return Cell("none", None) if value is None else Cell(form(value), value)


COST: Sequence[Column] = (
    Column(
        "column.seconds",
        lambda row: Cell(f"{1000 * row.any.seconds_per_sample:.3g}", row.any.seconds_per_sample),
        "ascending",
        phrase=True,
    ),
    Column(
        "column.flops",
        lambda row: Cell(format_count(row.any.flops_per_sample), row.any.flops_per_sample),
        "ascending",
        phrase=True,
    ),
    Column(
        "column.parameters",
        lambda row: Cell(format_count(row.any.parameters), row.any.parameters),
        "ascending",
        phrase=True,
    ),
    Column(
        "column.bytes",
        lambda row: Cell(format_count(row.any.bytes_per_sample), row.any.bytes_per_sample),
        "descending",
        phrase=True,
        extra=True,
    ),
    Column(
        "column.rate",
        lambda row: _known(
            row.any.bytes_per_sample / row.any.seconds_per_sample if row.any.seconds_per_sample else None,
            format_count,
        ),
        "descending",
        phrase=True,
        extra=True,
    ),
    Column("column.pace", _pace, "descending", phrase=True, extra=True),
    Column(
        "column.memory",
        lambda row: _known(row.any.peak_gpu_memory or row.any.peak_memory, format_count),
        "ascending",
        phrase=True,
        extra=True,
    ),
    Column(
        "column.energy",
        lambda row: _known(row.any.kwh_per_sample, lambda kwh: f"{1000 * kwh:.3g}"),
        "ascending",
        phrase=True,
        extra=True,
    ),
)
