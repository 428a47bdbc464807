"""Which metric sees which fault: the controls by the metrics, and how each metric drifts with n."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from aigc_lab.evaluation.arguments import CONTROL
from aigc_lab.evaluation.battery import Metric
from aigc_lab.evaluation.compare import Row, Table, control_table
from aigc_lab.evaluation.harness import MINIMUM, Harness
from aigc_lab.files import write_atomically

SHARES = (0.25, 0.5, 1.0)
"""Of n, at which the oracle is scored to see how a metric drifts."""


@dataclass(frozen=True)
class Calibration:
    """How far every control comes in every metric, and what perfect samples score with fewer of them.

    Attributes:
        table: the controls.
        drift: by metric, (n, value of the oracle), from few to many.
    """

    table: Table
    drift: Mapping[str, Sequence[tuple[int, float]]]

    @property
    def metrics(self) -> list[Metric]:
        """Those with a floor and a worst value."""
        return [
            m
            for m in self.table.metrics
            if any(row.scores[m.name].gap_closed is not None for row in self.table.rows)
        ]

    @property
    def name(self) -> str:
        return f"{self.table.any.data}_{self.table.any.protocol}"

    def to_json(self) -> dict[str, Any]:
        return self.table.to_json() | {"drift": self.drift}


def calibrate(harness: Harness) -> Calibration:
    """Score the controls, and the oracle also at shares of n, against as small a part of the reference."""
    drift: dict[str, list[tuple[int, float]]] = {}
    for n in (round(share * harness.n) for share in SHARES):
        if n >= MINIMUM:
            for score in (harness if n == harness.n else harness.at(n)).raw_control("oracle"):
                if score.value is not None:
                    drift.setdefault(score.metric, []).append((n, score.value))
    return Calibration(control_table(harness), drift)


def print_calibration(calibration: Calibration) -> None:
    """On the terminal: a line per metric; what it cannot tell from real data stands in brackets."""
    table, blind = calibration.table, calibration.table.blind
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=180)
    shown = RichTable(
        title=f"gap closed by the controls · {table.title}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for title in ("metric", *(_name(row) for row in table.rows), "null", "oracle as n grows"):
        shown.add_column(title, justify="left" if title == "metric" else "right")
    for metric in calibration.metrics:
        gaps = [_cell(row, metric.name, blind[metric.name]) for row in table.rows]
        null = table.rows[0].scores[metric.name].null
        drift = " ".join(f"{value:.3g}" for _, value in calibration.drift.get(metric.name, ()))
        shown.add_row(metric.heading, *gaps, "" if null is None else f"{null:.3g}", drift)
    console.print(shown)
    console.print(
        "(in brackets: scores like real data or better, so this metric is blind to this fault)", markup=False
    )


def heat_map(calibration: Calibration) -> Figure:
    """Controls by metrics, coloured by gap closed; a cross where the metric is blind to the control's fault."""
    table, blind = calibration.table, calibration.table.blind
    metrics = calibration.metrics
    figure = Figure(figsize=(1.8 + 0.62 * len(metrics), 2.2 + 0.42 * len(table.rows)), layout="constrained")
    axes = figure.subplots()
    gaps = [[_gap(row, metric.name) for metric in metrics] for row in table.rows]
    picture = axes.imshow(gaps, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(table.rows):
        for j, metric in enumerate(metrics):
            gap = gaps[i][j]
            if gap == gap:  # not NaN
                cross = "×\n" if _name(row) in blind[metric.name] else ""
                ink = "black" if gap > 0.5 else "white"
                axes.text(j, i, f"{cross}{gap:.0%}", ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(metrics)), [m.title for m in metrics], rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(table.rows)), [_name(row) for row in table.rows], fontsize=8)
    axes.set_title(f"{table.title}\n× the metric cannot tell this fault from real data", fontsize=9, loc="left")
    figure.colorbar(picture, ax=axes, label="gap closed", fraction=0.03)
    return figure


def save_heat_map(calibration: Calibration, folder: Path) -> Path:
    """Write calibration_<data>_<protocol>.png into the folder."""
    buffer = io.BytesIO()
    heat_map(calibration).savefig(buffer, format="png", dpi=150)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"calibration_{calibration.name}.png"
    write_atomically(path, buffer.getvalue())
    return path


def _name(row: Row) -> str:
    return row.name.removeprefix(CONTROL)


def _gap(row: Row, metric: str) -> float:
    gap = row.scores[metric].gap_closed
    return float("nan") if gap is None else gap


def _cell(row: Row, metric: str, blind: Sequence[str]) -> str:
    gap = row.scores[metric].gap_closed
    if gap is None:
        return "-"
    return f"({gap:.0%})" if _name(row) in blind else f"{gap:.0%}"
