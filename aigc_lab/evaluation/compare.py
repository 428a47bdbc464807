"""Scores side by side: one row per generator, columns only where everything about the measurement agrees."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aigc_lab.evaluation.arguments import CONTROL
from aigc_lab.evaluation.harness import METRICS, Harness, Score
from aigc_lab.evaluation.subjects import Evaluated

TITLES = {
    "bits_per_byte": "bits/byte ↓",
    "frechet": "Fréchet ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
    "density": "density →",
    "coverage": "coverage ↑",
    "nn_accuracy": "1-NN acc. →",
    "authenticity": "authentic →",
}
"""Column titles; → : the closer to real data (the oracle's row) the better."""

QUALITY = ("frechet", "precision", "recall", "density", "coverage", "nn_accuracy")
"""The metrics whose mean gap closed stands for quality. Likelihood has no floor; authenticity is about copying."""


@dataclass(frozen=True)
class Row:
    """All scores of one generator under one protocol.

    Attributes:
        name: `<experiment>/<id>` or `control:<name>`.
        label: the same, as short as the table allows.
    """

    name: str
    label: str
    scores: dict[str, Score]

    @property
    def is_control(self) -> bool:
        return self.name.startswith(CONTROL)

    @property
    def any(self) -> Score:
        return next(iter(self.scores.values()))

    @property
    def gap_closed(self) -> float | None:
        """Mean over `QUALITY`, in [0, 1]."""
        gaps = [g for m in QUALITY if (g := self.scores[m].gap_closed) is not None]
        return sum(gaps) / len(gaps) if gaps else None


@dataclass(frozen=True)
class Table:
    """Generators that may be compared with each other: same data, protocol, features and seed."""

    rows: list[Row]
    blind: list[str]
    """Metrics that rank the copycat at or above real data, and so cannot tell copying."""
    flags: dict[str, list[str]]
    """What to beware of, by row name."""

    @property
    def any(self) -> Score:
        return self.rows[0].any

    @property
    def title(self) -> str:
        s = self.any
        return f"{s.data} · {s.protocol} · features {s.features}"

    @property
    def caption(self) -> str:
        s = self.any
        return (
            f"{s.n_generated} samples of each generator against {s.n_real} training items, seed {s.seed}; data "
            f"{s.data_hash[:10]}, features {s.features_hash[:10]}. Floor: the row control:oracle (held-out real "
            f"data). Worst: control:noise (for authenticity control:copycat). † blind to copying: "
            f"{', '.join(TITLES[m][:-2] for m in self.blind) or 'none'}."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.any.data,
            "protocol": self.any.protocol,
            "blind_to_copying": self.blind,
            "rows": [
                {
                    "name": row.name,
                    "gap_closed": row.gap_closed,
                    "flags": self.flags.get(row.name, []),
                    "scores": [score.to_json() for score in row.scores.values()],
                }
                for row in self.rows
            ],
        }


def tables(evaluated: Sequence[Evaluated]) -> list[Table]:
    """One table per group of comparable scores: the subjects in their order, then every control."""
    groups: dict[tuple[str, ...], tuple[Harness, dict[str, list[Score]]]] = {}
    for subject in evaluated:
        harness, scores = groups.setdefault(subject.harness.group, (subject.harness, {}))
        if subject.run is not None:
            scores[subject.name] = subject.result.scores
    found = []
    for harness, scores in groups.values():
        controls = {CONTROL + name: rows for name, rows in harness.controls.items()}
        experiments = Counter(name.rpartition("/")[0] for name in scores)

        def label(name: str, experiments: Counter[str] = experiments) -> str:
            experiment = name.rpartition("/")[0]
            return experiment if experiments[experiment] == 1 else name

        found.append(
            _table(
                [Row(name, label(name), {s.metric: s for s in rows}) for name, rows in (scores | controls).items()]
            )
        )
    return found


def _table(rows: list[Row]) -> Table:
    by_name = {row.name: row for row in rows}
    oracle, copycat = by_name[CONTROL + "oracle"], by_name[CONTROL + "copycat"]
    blind = [m for m in TITLES if _at_least_as_good(copycat.scores[m], oracle.scores[m])]
    flags = {row.name: found for row in rows if (found := _flags(row, oracle))}
    return Table(rows, blind, flags)


def _at_least_as_good(score: Score, floor: Score) -> bool:
    """Whether a score cannot be told from the floor, or is better."""
    found, real = score.estimate, floor.estimate
    if found is None or real is None:
        return False
    below, above = found.low <= real.high, found.high >= real.low
    return {"lower": below, "higher": above, "match": below and above}[METRICS[score.metric].direction]


def _beats(score: Score, floor: Score) -> bool:
    """Whether a score is better than real data's by more than both intervals allow."""
    found, real = score.estimate, floor.estimate
    if found is None or real is None:
        return False
    below, above = found.high < real.low, found.low > real.high
    return {"lower": below, "higher": above, "match": False}[METRICS[score.metric].direction]


def _flags(row: Row, oracle: Row) -> list[str]:
    if row.name == oracle.name:
        return []
    flags = []
    found, real = row.scores["authenticity"].estimate, oracle.scores["authenticity"].estimate
    if found and real and found.high < real.low:
        flags.append(f"copies training data: authenticity {found.value:.2f}, real data {real.value:.2f}")
    better = [TITLES[m][:-2] for m in TITLES if _beats(row.scores[m], oracle.scores[m])]
    if better:
        flags.append(f"scores better than fresh real data in {', '.join(better)}: read with care")
    return flags


def format_value(score: Score) -> str:
    """A cell: three significant digits; ≤ before a bound; `none` where there is no such number."""
    if score.value is None:
        return "none"
    sign = "≤ " if score.kind == "lower bound" else ""
    return f"{sign}{score.value:.3g}" if abs(score.value) < 1000 else f"{sign}{score.value:,.0f}"


def format_count(n: float) -> str:
    """1234567 -> 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.3g}"


def cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of text, for the terminal and for Markdown."""
    marked = [f"{title}{'†' if metric in table.blind else ''}" for metric, title in TITLES.items()]
    titles = ["generator", *marked, "gap closed", "params", "FLOP/sample", "ms/sample"]
    rows = []
    for row in table.rows:
        gap, cost = row.gap_closed, row.any
        rows.append(
            [
                row.label,
                *(format_value(row.scores[metric]) for metric in TITLES),
                "none" if gap is None else f"{gap:.0%}",
                format_count(cost.parameters),
                format_count(cost.flops_per_sample),
                f"{1000 * cost.seconds_per_sample:.3g}",
            ]
        )
    return titles, rows


def print_table(table: Table) -> None:
    """On the terminal, with its caption and flags; on its side where it is too wide."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    def shown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
        made = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for i, title in enumerate(titles):
            made.add_column(title, justify="right" if i else "left", no_wrap=not i, overflow="fold")
        for row in rows:
            made.add_row(*row)
        return made

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=180)
    titles, rows = cells(table)
    across = shown(titles, rows)
    if console.measure(across, options=console.options.update(max_width=1000)).maximum <= console.width:
        console.print(across)
    else:
        generators, *metrics = zip(titles, *rows, strict=True)
        console.print(shown([re.sub("([/:])", r"\1\n", title) for title in generators], metrics))
    console.print(table.caption)
    for name, found in table.flags.items():
        for flag in found:
            console.print(f"⚑ {name}: {flag}")


def to_markdown(table: Table) -> str:
    """The same as a Markdown table, numbers to the right."""
    titles, rows = cells(table)
    lines = [
        f"**{table.title}**",
        "",
        _line(titles),
        _line(["---"] + ["---:"] * (len(titles) - 1)),
        *map(_line, rows),
    ]
    flags = [f"- ⚑ {name}: {flag}" for name, found in table.flags.items() for flag in found]
    return "\n".join([*lines, "", table.caption, *([""] if flags else []), *flags, ""])


def _line(columns: Sequence[str]) -> str:
    return "| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |"


def to_json(found: Sequence[Table], **more: Any) -> str:
    return json.dumps({"tables": [table.to_json() for table in found], **more}, ensure_ascii=False)
