"""report.html: one self-contained file that can be read offline and sent to anyone."""

import base64
import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aigc_lab import __version__
from aigc_lab.data.samples import Images, Texts
from aigc_lab.errors import UserError
from aigc_lab.evaluation.compare import Row, Table
from aigc_lab.evaluation.exhibit import COLUMNS, N_IMAGES, TextPair
from aigc_lab.evaluation.harness import Score
from aigc_lab.evaluation.subjects import Evaluated
from aigc_lab.evaluation.tabulate import format_count, format_value
from aigc_lab.files import write_atomically
from aigc_lab.metrics_file import read_metrics
from aigc_lab.pictures import sheet, to_png
from aigc_lab.run import Run, git_state


@dataclass(frozen=True)
class Card:
    """What the report shows of one generator beside its scores. Pictures are data URIs."""

    name: str
    facts: Mapping[str, str]
    sheet: str | None
    neighbours: str | None
    texts: Sequence[TextPair]
    curves: str | None


@dataclass(frozen=True)
class RealData:
    """Held-out items of a data set, to look at beside the samples."""

    name: str
    sheet: str | None
    texts: Sequence[str]


def write_report(
    evaluated: Sequence[Evaluated], tables: Sequence[Table], output: Path | None, *, command: Sequence[str]
) -> Path:
    """Write the report, to `output` or report.html in the folder of the first run (or this folder).

    Raises:
        UserError: the file cannot be written.
    """
    first_run = next((e.run for e in evaluated if e.run), None)
    path = output or (first_run.path / "report.html" if first_run else Path("report.html"))
    environment = Environment(
        loader=PackageLoader("aigc_lab.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(
        tables=tables,
        cards=[_card(subject) for subject in evaluated],
        real=_real_data(evaluated),
        provenance=_provenance(command),
        cell=_cell,
        format_count=format_count,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, html)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path.absolute()


def _cell(row: Row, metric: str) -> dict[str, Any]:
    """Text, bar and tooltip of a table cell."""
    score = row.scores[metric]
    return {"text": format_value(score), "gap": score.gap_closed, "title": _tooltip(score)}


def _tooltip(score: Score) -> str:
    if score.value is None:
        return "this generator has no such number"
    parts = [f"95 % interval {score.low:.4g} to {score.high:.4g}"]
    if score.kind:
        parts.append("a bound: the true value is lower" if score.kind == "lower bound" else "exact likelihood")
    if score.floor is not None:
        parts.append(f"real data {score.floor:.4g}")
    if score.worst is not None:
        parts.append(f"useless {score.worst:.4g}")
    if score.gap_closed is not None:
        parts.append(f"gap closed {score.gap_closed:.0%}")
    return "; ".join(parts)


def _card(subject: Evaluated) -> Card:
    exhibit, cost = subject.result.exhibit, subject.result.scores[0]
    facts = {
        "kind": cost.generator,
        "parameters that sample": format_count(cost.parameters),
        "per sample": f"{format_count(cost.flops_per_sample)}FLOP, {1000 * cost.seconds_per_sample:.3g} ms, "
        f"{cost.bytes_per_sample} bytes",
    }
    if subject.run:
        facts |= _run_facts(subject.run, cost.weights)
    curves = _curves(subject.run) if subject.run else None
    return Card(subject.name, facts, _uri(exhibit.sheet), _uri(exhibit.neighbours), exhibit.texts, curves)


def _run_facts(run: Run, weights: str) -> dict[str, str]:
    record = run.record()
    git = record.get("git") or {}
    return {
        "weights": weights,
        "trained": f"{record.get('wall_seconds', 0) / 60:.1f} minutes on {record.get('device', 'unknown')}",
        "seed": str(record.get("seed")),
        "commit": f"{git.get('commit', 'none')[:10]} ({git.get('diff', 'not a checkout')})",
        "command": " ".join(record.get("command", [])),
        "directory": str(run.path),
    }


def _real_data(evaluated: Sequence[Evaluated]) -> list[RealData]:
    """Held-out items of every data set, in a random order: the first ones may be of one hand or one page."""
    shown = {}
    for harness in {id(e.harness): e.harness for e in evaluated}.values():
        items = harness.shuffled_held_out
        picture, texts = None, list[str]()
        if isinstance(items, Images):
            picture = _uri(to_png(sheet(items[:N_IMAGES], columns=COLUMNS)))
        elif isinstance(items, Texts):
            texts = items[:2].to_strings()
        shown[harness.spec.content_hash] = RealData(harness.spec.name, picture, texts)
    return list(shown.values())


def _curves(run: Run) -> str | None:
    """Training and validation curves as an SVG data URI; one panel per logged quantity."""
    series: dict[str, list[tuple[int, float]]] = {}
    for step, metric, value in read_metrics(run.metrics_path):
        series.setdefault(metric, []).append((step + 1, value))
    if not series:
        return None
    from matplotlib.figure import Figure

    panels: dict[str, list[str]] = {}
    for metric in series:
        panels.setdefault(metric.rpartition("/")[2], []).append(metric)
    figure = Figure(figsize=(3.2 * len(panels), 2.4), layout="constrained")
    for axes, (quantity, metrics) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for metric in metrics:
            axes.plot(*zip(*series[metric], strict=True), label=metric.rpartition("/")[0], linewidth=1.2)
        axes.set_title(quantity, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return _uri(buffer.getvalue(), "image/svg+xml")


def _provenance(command: Sequence[str]) -> dict[str, str]:
    git = git_state() or {}
    return {
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "command": " ".join(command),
        "version": f"{__version__}, commit {git.get('commit', 'none')[:10]} ({git.get('diff', 'not a checkout')})",
        "machine": f"{platform.node()}, {platform.platform()}, Python {platform.python_version()}",
    }


def _uri(data: bytes | None, kind: str = "image/png") -> str | None:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if data else None
