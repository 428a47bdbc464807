"""A table of scores as columns and cells: what the template prints, hides and lets the reader sort by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from aigc_lab.evaluation.arguments import CONTROL, PERFECT
from aigc_lab.evaluation.battery import METRICS, Metric
from aigc_lab.evaluation.compare import Flag, Pace, Row, Table
from aigc_lab.evaluation.report.language import phrases, say, say_instead
from aigc_lab.evaluation.tabulate import format_count, format_rank, format_value
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
        heading: in every language.
        best_first: the order that a first click sorts in.
        extra: hidden while its group is folded.
        dagger: the metric cannot tell the copycat from real data.
    """

    heading: Markup
    cell: Callable[[Row], Cell]
    best_first: str
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
    """Those whose unit is the same for every data set: gap closed, bits per byte, cost for a byte."""
    known = any(metric.name == "bits_per_byte" for table in tables for metric in table.metrics)
    return [GAP, *([_of_metric(METRICS["bits_per_byte"])] if known else []), *COST_OF_A_BYTE]


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
    gap = row.gap_closed
    if gap is None:
        return Cell("none", None)
    bar = Bar(gap.value, gap.low, gap.high)
    return Cell(f"{gap.value:.0%}", gap.value, f"{gap.low:.0%} … {gap.high:.0%}", bar)


GAP = Column(say("column.gap"), _gap, "descending")


def _quality(table: Table) -> list[Column]:
    def rank(row: Row) -> Cell:
        found = table.ranks.get(row.name)
        return Cell("", None) if found is None else Cell(format_rank(found), found.low + found.high)

    return [GAP, *([Column(say("column.rank"), rank, "ascending")] if table.ranks else [])]


def _of_metric(metric: Metric, *, extra: bool = False, dagger: bool = False) -> Column:
    """One that is to match real data is sorted by how far from it a value is."""
    best_first = "descending" if metric.direction == "higher" else "ascending"

    def cell(row: Row) -> Cell:
        score = row.scores[metric.name]
        return _cell(score, _distance(score) if metric.direction == "match" else score.value)

    return Column(heading(metric), cell, best_first, extra=extra, dagger=dagger)


def _distance(score: Score) -> float | None:
    """From the floor, or where there is none from what theory expects of perfect samples."""
    best = score.null if score.floor is None else score.floor
    return None if score.value is None or best is None else abs(score.value - best)


def heading(metric: Metric) -> Markup:
    """Its title and which way is better."""
    return title(metric) + metric.heading.removeprefix(metric.title)


def flag_in_words(flag: Flag) -> Markup:
    """What to beware of, with the metrics' names in either language."""
    named = {name: phrases().get(f"metric.{name}", {}).get("zh", METRICS[name].title) for name in flag.metrics}
    metrics = "、".join(named[name] + rest for name, rest in flag.metrics.items())
    return say_instead(flag.text, flag.key, **flag.values, metrics=metrics)


def title(metric: Metric) -> Markup:
    """Its title, in Chinese where strings.yaml has one."""
    return say_instead(metric.title, f"metric.{metric.name}")


def _cell(score: Score, order: float | None) -> Cell:
    estimate = score.estimate
    interval = f"{estimate.low:.3g} … {estimate.high:.3g}" if estimate else ""
    return Cell(format_value(score), order, interval, _bar(score))


def _bar(score: Score) -> Bar | None:
    if score.gap_closed is None or score.gap_low is None or score.gap_high is None:
        return None
    return Bar(score.gap_closed, score.gap_low, score.gap_high)


def _known(value: float | None, form: Callable[[float], str]) -> Cell:
    return Cell("none", None) if value is None else Cell(form(value), value)


def _of_pace(value: Callable[[Pace], float | None]) -> Callable[[Row], Cell]:
    return lambda row: _known(value(row.pace) if row.pace else None, format_count)


def _per_byte(heading: Markup, cost: Callable[[Score], float], form: Callable[[float], str]) -> Column:
    def cell(row: Row) -> Cell:
        score = row.any
        value = cost(score) / score.bytes_per_sample if score.bytes_per_sample else None
        return Cell("none" if value is None else form(value), value)

    return Column(heading, cell, "ascending")


_PARAMETERS = Column(
    say("column.parameters"),
    lambda row: Cell(format_count(row.any.parameters), row.any.parameters),
    "ascending",
)

COST_OF_A_BYTE: Sequence[Column] = (
    _per_byte(say("column.byte.seconds"), lambda score: 1e6 * score.seconds_per_sample, "{:.3g}".format),
    _per_byte(say("column.byte.flops"), lambda score: score.flops_per_sample, format_count),
    _PARAMETERS,
)
COST: Sequence[Column] = (
    Column(
        say("column.seconds"),
        lambda row: Cell(f"{1000 * row.any.seconds_per_sample:.3g}", row.any.seconds_per_sample),
        "ascending",
    ),
    Column(
        say("column.flops"),
        lambda row: Cell(format_count(row.any.flops_per_sample), row.any.flops_per_sample),
        "ascending",
    ),
    _PARAMETERS,
    Column(
        say("column.bytes"),
        lambda row: Cell(format_count(row.any.bytes_per_sample), row.any.bytes_per_sample),
        "descending",
        extra=True,
    ),
    Column(
        say("column.samples"),
        _of_pace(lambda pace: pace.samples_per_second),
        "descending",
        extra=True,
    ),
    Column(
        say("column.tokens"),
        _of_pace(lambda pace: pace.tokens_per_second),
        "descending",
        extra=True,
    ),
    Column(
        say("column.rate"),
        _of_pace(lambda pace: pace.bytes_per_second),
        "descending",
        extra=True,
    ),
    Column(
        say("column.pace"),
        _of_pace(lambda pace: pace.time_saved.factor),
        "descending",
        extra=True,
    ),
    Column(
        say("column.memory"),
        lambda row: _known(row.any.peak_gpu_memory or row.any.peak_memory, format_count),
        "ascending",
        extra=True,
    ),
    Column(
        say("column.energy"),
        lambda row: _known(row.any.kwh_per_sample, lambda kwh: f"{1000 * kwh:.3g}"),
        "ascending",
        extra=True,
    ),
)
