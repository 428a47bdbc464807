"""From evaluated generators and their tables to one HTML file."""

import base64
import platform
import re
import shlex
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from aigc_lab import __version__
from aigc_lab.data.samples import Images, Texts
from aigc_lab.errors import UserError
from aigc_lab.evaluation.arguments import CONTROL, PERFECT
from aigc_lab.evaluation.battery import NOVELTY
from aigc_lab.evaluation.compare import Pace, Table
from aigc_lab.evaluation.effort import TimeSaved
from aigc_lab.evaluation.exhibit import COLUMNS, N_IMAGES, Continuation, TextPair
from aigc_lab.evaluation.harness import Harness
from aigc_lab.evaluation.report.charts import Axis, Chart, Series, pareto_front
from aigc_lab.evaluation.report.differences import config_differences, without_secrets
from aigc_lab.evaluation.report.grid import column_groups, flag_in_words, heading, heat_map, shared_columns, title
from aigc_lab.evaluation.report.language import attribute, say, say_if_known, say_instead
from aigc_lab.evaluation.safety import Safety, pronoun_pairs
from aigc_lab.evaluation.subjects import Evaluated
from aigc_lab.evaluation.tabulate import format_count, format_difference
from aigc_lab.files import write_atomically
from aigc_lab.metrics_file import read_metrics
from aigc_lab.pictures import sheet, to_png
from aigc_lab.run import Run, git_state
from aigc_lab.scores import Score

N_REAL_TEXTS = 2
SHEET_SIDE = 1024
"""Pixels at most, of the sheets of a run's progress."""
LARGEST = 1e300
"""Of a curve: the span of an axis has to be a number too."""
GAME = ("minimax/value", "minimax/optimum", "minimax/floor")
"""What `aigc_lab.callbacks.MinimaxValue` logs, in nats."""
N_MARKS = 8
"""Colours that the style sheet has, and as many dashes and markers; the next marks pair them otherwise."""


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int

    @classmethod
    def of(cls, png: bytes | None) -> "Picture | None":
        if not png:
            return None
        width, height = struct.unpack(">II", png[16:24])  # the header of every PNG
        return cls(f"data:image/png;base64,{base64.b64encode(png).decode()}", width, height)


@dataclass(frozen=True)
class Card:
    """What the report shows of one generator beside its scores.

    Attributes:
        mark: its colour, dash and marker in every chart.
        facts: key of a phrase -> value.
        progress: sheets that were logged through training, each after so many batches.
    """

    name: str
    label: str
    mark: int
    facts: Mapping[str, str | Markup]
    sheet: Picture | None
    neighbours: Picture | None
    texts: Sequence[TextPair]
    safety: Safety | None
    curves: Sequence[Chart]
    progress: Sequence[tuple[int, Picture]]


@dataclass(frozen=True)
class RealData:
    """Held-out items of a data set, to look at beside the samples."""

    name: str
    sheet: Picture | None
    texts: Sequence[str]


@dataclass(frozen=True)
class Continued:
    """One held-out prompt with its real end, and what each generator (name, mark) makes of it."""

    data: str
    prompt: str
    real: str
    generated: Sequence[tuple[str, int, str]]


def write_report(
    evaluated: Sequence[Evaluated], tables: Sequence[Table], output: Path | None, *, command: Sequence[str]
) -> Path:
    """Write the report, to `output` or report.html in the folder of the first run (or this folder).

    Raises:
        UserError: the file cannot be written.
    """
    first_run = next((e.run for e in evaluated if e.run), None)
    path = output or (first_run.path / "report.html" if first_run else Path("report.html"))
    html = render(evaluated, tables, command=command)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, html.encode(errors="backslashreplace"))  # a file's name need not be UTF-8
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path.absolute()


def render(evaluated: Sequence[Evaluated], tables: Sequence[Table], *, command: Sequence[str]) -> str:
    """The report's HTML."""
    marks = {subject.name: i for i, subject in enumerate(evaluated)}
    labels = {row.name: row.label for table in tables for row in table.rows}
    rows = [row for table in tables for row in table.rows if row.name in marks and not row.is_control]
    style, script = _asset("report.css"), _asset("report.js")
    environment = Environment(
        loader=PackageLoader("aigc_lab.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "label": label,
        "difference": format_difference,
        "title": title,
        "heading": heading,
        "in_words": flag_in_words,
    }
    return environment.get_template("report.html.j2").render(
        say=say,
        attribute=attribute,
        say_if_known=say_if_known,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        provenance=_provenance(command),
        marks=marks,
        cards_at={subject.name: i for i, subject in enumerate(evaluated, 1)},
        columns=COLUMNS,
        n_prompts=len(pronoun_pairs()),
        labels=labels,
        tables=[(table, column_groups(table), heat_map(table)) for table in tables],
        shared=rows,
        shared_columns=shared_columns(tables),
        charts=[*_pareto(tables, marks), *_frontiers(evaluated, labels, marks), *_novelty(tables, marks)],
        continued=_continued(evaluated, labels, marks),
        real=_real_data(evaluated),
        cards=[_card(subject, labels, marks) for subject in evaluated],
        differences=_differences(evaluated, labels),
    )


def visible(text: str) -> str:
    """Control characters as the pictures that Unicode has of them; what a model of bytes emits can hold any."""
    return text.translate(_PICTURES)


def label(text: str) -> Markup:
    """A name that may be broken after its punctuation, where a column is narrow."""
    return Markup("<wbr>").join(re.split(r"(?<=[/:_])", visible(text)))


_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {127: 0x2421}
_PICTURES |= dict.fromkeys(
    [*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0x80, 0xA0)], 0xFFFD
)  # Bidi, C1


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content-Security-Policy: this very style and script, pictures inside the file, nothing else."""
    hashes = (base64.b64encode(sha256(part.encode()).digest()).decode() for part in (style, script))
    return "default-src 'none'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'".format(*hashes) + (
        "; base-uri 'none'; form-action 'none'"
    )


def _pareto(tables: Sequence[Table], marks: Mapping[str, int]) -> list[Chart]:
    """Quality against seconds and against operations, both per byte, which is the same for texts and images; one
    front per data set. None where no run has both."""
    costs: dict[str, tuple[Callable[[Score], float], Callable[[float], str]]] = {
        "pareto.seconds": (lambda score: score.seconds_per_sample, format_seconds),
        "pareto.flops": (lambda score: score.flops_per_sample, format_count),
    }
    charts = []
    for key, (cost, form) in costs.items():
        found = [
            [
                (row, (cost(row.any) / row.any.bytes_per_sample, gap.value), gap)
                for row in table.rows
                if row.name in marks
                and not row.is_control
                and (gap := row.gap_closed)
                and cost(row.any) > 0
                and row.any.bytes_per_sample
            ]
            for table in tables
        ]
        points = [point for rows in found for _, point, _ in rows]
        if not points:
            continue
        axis = Axis.around([x for x, _ in points], log=True, form=form)
        series = [
            Series(
                row.label, [point], marks[row.name], [(gap.low, gap.high)], f"{gap.value:.0%}, {form(point[0])}"
            )
            for rows in found
            for row, point, gap in rows
        ]
        fronts = [pareto_front([point for _, point, _ in rows]) for rows in found if rows]
        steps = [[(front[0][0], 0.0), *front, (axis.high, front[-1][1])] for front in fronts]
        charts.append(Chart(key, axis, Axis(0, 1, form="{:.0%}".format), series, joined=False, steps=steps))
    return charts


def _frontiers(evaluated: Sequence[Evaluated], labels: Mapping[str, str], marks: Mapping[str, int]) -> list[Chart]:
    """Every generator's divergence frontier, and that of fresh real data of every data set as the yardstick."""
    series = [
        Series(f"{CONTROL}{PERFECT[0]} ({harness.spec.name})", harness.control_frontier(PERFECT[0]), None)
        for harness in _harnesses(evaluated)
    ]
    series += [
        Series(labels[e.name], e.result.exhibit.frontier, marks[e.name])
        for e in evaluated
        if e.result.exhibit.frontier
    ]
    unit = Axis(0, 1)
    return [Chart("frontier", unit, unit, series)]


def _novelty(tables: Sequence[Table], marks: Mapping[str, int]) -> list[Chart]:
    """Of texts, the share of n-grams that the training text does not hold, and that of held-out text beside it."""
    lines = []
    for table in tables:
        rows = [row for row in table.rows if row.name in marks and not row.is_control]
        for row in rows:
            found = [(n, row.scores[f"novelty_{n}"]) for n in NOVELTY]
            held_out = [(float(n), score.floor) for n, score in found if score.floor is not None]
            if held_out and row is rows[0]:
                lines.append(Series(f"{CONTROL}{PERFECT[0]} ({table.any.data})", held_out, None))
            known = [(float(n), score.value) for n, score in found if score.value is not None]
            if known:
                lines.append(Series(row.label, known, marks[row.name]))
    share = Axis(0, 1, form="{:.0%}".format)
    return [Chart("novelty", Axis(NOVELTY[0], NOVELTY[-1], log=True), share, lines)] if lines else []


def _continued(
    evaluated: Sequence[Evaluated], labels: Mapping[str, str], marks: Mapping[str, int]
) -> list[Continued]:
    """Prompts shared by all runs on the same data; the prompt stands in each exhibit."""
    found: dict[tuple[str, str], tuple[Continuation, list[tuple[str, int, str]]]] = {}
    for e in evaluated:
        for continuation in e.result.exhibit.continuations:
            key = (e.harness.spec.content_hash, continuation.prompt)
            _, generated = found.setdefault(key, (continuation, []))
            generated.append((labels[e.name], marks[e.name], continuation.generated))
    names = {e.harness.spec.content_hash: e.harness.spec.name for e in evaluated}
    return [
        Continued(names[data], first.prompt, first.real, generated)
        for (data, _), (first, generated) in found.items()
    ]


def _real_data(evaluated: Sequence[Evaluated]) -> list[RealData]:
    """Held-out items of every data set, in a random order: the first ones may be of one hand or one page."""
    shown = {}
    for harness in _harnesses(evaluated):
        items = harness.shuffled_held_out
        picture, texts = None, []
        if isinstance(items, Images):
            picture = Picture.of(to_png(sheet(items[:N_IMAGES], columns=COLUMNS)))
        elif isinstance(items, Texts):
            texts = items[:N_REAL_TEXTS].to_strings()
        shown[harness.spec.content_hash] = RealData(harness.spec.name, picture, texts)
    return list(shown.values())


def _harnesses(evaluated: Sequence[Evaluated]) -> list[Harness]:
    return list({e.harness.group: e.harness for e in evaluated}.values())


def _card(subject: Evaluated, labels: Mapping[str, str], marks: Mapping[str, int]) -> Card:
    exhibit, cost = subject.result.exhibit, subject.result.scores[0]
    facts: dict[str, str | Markup] = {
        "fact.kind": cost.generator,
        "fact.parameters": format_count(cost.parameters),
        "fact.sample": f"{format_count(cost.flops_per_sample)}FLOP, {format_seconds(cost.seconds_per_sample)}, "
        f"{cost.bytes_per_sample} bytes",
    }
    scores = {score.metric: score for score in subject.result.scores}
    facts |= _likelihood_facts(scores["perplexity"]) | _spent_facts(scores)
    if subject.run:
        facts |= _run_facts(subject.run, cost.weights)
    return Card(
        subject.name,
        labels.get(subject.name, subject.name),
        marks[subject.name],
        facts,
        Picture.of(exhibit.sheet),
        Picture.of(exhibit.neighbours),
        exhibit.texts,
        exhibit.safety,
        _curves(subject.run) if subject.run else [],
        _progress(subject.run) if subject.run else [],
    )


def _likelihood_facts(perplexity: Score) -> dict[str, str | Markup]:
    """How a model that goes by symbols read the held-out items."""
    if perplexity.window is None or perplexity.value is None:
        return {}
    window, value = perplexity.window, f"{perplexity.value:.3g}"
    return {"fact.likelihood": say("value.likelihood", window=window, stride=window // 2, perplexity=value)}


def _spent_facts(scores: Mapping[str, Score]) -> dict[str, str | Markup]:
    """What sampling all samples at once took; nothing for controls that only look something up."""
    score, pace = next(iter(scores.values())), Pace.of(scores)
    if pace is None:
        return {}
    tokens = pace.tokens_per_second
    facts: dict[str, str | Markup] = {
        "fact.rate": say(
            "value.rate" if tokens is None else "value.rate.tokens",
            samples=f"{pace.samples_per_second:.3g}",
            tokens=format_count(tokens or 0),
            bytes=format_count(pace.bytes_per_second),
            n=score.n_generated,
        ),
        "fact.saved": _in_words(pace.time_saved, score.modality),
    }
    if score.peak_memory is not None:
        facts["fact.memory"] = say("value.memory", size=format_count(score.peak_memory))
    if score.peak_gpu_memory is not None:
        facts["fact.memory"] = say("value.memory.gpu", size=format_count(score.peak_gpu_memory))
    if score.kwh_per_sample is not None:
        facts["fact.energy"] = say("value.energy", kwh=f"{1000 * score.kwh_per_sample:.3g}")
    else:
        facts["fact.energy"] = say("value.energy.unknown")
    return facts


def _in_words(saved: TimeSaved, modality: str) -> Markup:
    values = {
        "factor": f"{saved.factor:,.3g}",
        "by_hand": format_seconds(saved.human_seconds),
        "here": format_seconds(saved.machine_seconds),
        "kept": f"{saved.kept:.0%}",
    }
    text = "{factor} × as fast as a person: {by_hand} by hand, {here} here.".format(**values)
    return say_instead(f"{text} Assumed: {'; '.join(saved.assumptions)}", f"value.saved.{modality}", **values)


def _run_facts(run: Run, weights: str) -> dict[str, str | Markup]:
    record = run.record()
    return {
        "fact.weights": weights,
        "fact.selection": _selection(run),
        "fact.trained": f"{record.get('wall_seconds', 0) / 60:.1f} min, {record.get('device', '?')}",
        "fact.seed": str(record.get("seed")),
        "fact.commit": _commit(record.get("git")),
        "fact.command": shlex.join(without_secrets(record.get("command", []))),
        "fact.directory": str(run.path),
    }


def _selection(run: Run) -> Markup:
    """Of which step, out of how many runs, with settings chosen on what: to be known before a best number."""
    siblings = sum(path.is_file() for path in run.path.parent.glob(f"[!.]*/{run.config_path.name}"))
    settings = run.config().selection
    if settings is None:
        return say("value.selection.unknown", n=siblings)
    return say("value.selection", n=siblings, settings=visible(settings))


def _curves(run: Run) -> list[Chart]:
    """One chart per logged quantity; a line per stage (train, val). Values that no axis can hold are left out.

    The value of a game, its optimum and its floor are one chart: what counts is the distances between them.
    """
    stages: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for step, metric, value in read_metrics(run.metrics_path):
        stage, _, quantity = metric.rpartition("/")
        chart, line = (stage, quantity) if metric in GAME else (quantity, stage)
        if abs(value) < LARGEST:
            stages.setdefault(chart, {}).setdefault(line, []).append((step + 1, value))
    charts = []
    for quantity, lines in stages.items():
        steps, values = ([p[i] for points in lines.values() for p in points] for i in (0, 1))
        series = [
            Series(stage, points, None if stage == "floor" else i % N_MARKS, note=f"{points[-1][1]:.4g}")
            for i, (stage, points) in enumerate(lines.items())
        ]
        axes = Axis(0, max(steps), form="{:.0f}".format), Axis.around(values)
        charts.append(Chart("curve", *axes, series, title=quantity))
    return charts


def _progress(run: Run) -> list[tuple[int, Picture]]:
    """The first, the middle and the last of the sheets that `callbacks=pictures` has left, drawn anew: what stands
    in a run directory may be anything. What cannot be read is left out."""
    steps = {path.stem.removeprefix("step_"): path for path in sorted(run.samples.glob("step_*.png"))}
    paths = [(int(step), path) for step, path in steps.items() if step.isdecimal()]
    chosen = sorted({0, len(paths) // 2, len(paths) - 1}) if paths else []
    found = []
    for step, path in (paths[i] for i in chosen):
        try:
            with Image.open(path, formats=["PNG"]) as image:
                image.thumbnail((SHEET_SIDE, SHEET_SIDE))
                picture = Picture.of(to_png(image.convert("RGB")))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        assert picture is not None
        found.append((step, picture))
    return found


def _differences(evaluated: Sequence[Evaluated], labels: Mapping[str, str]) -> dict[str, Any] | None:
    runs = [(labels[e.name], e.run) for e in evaluated if e.run]
    if len(runs) < 2:
        return None
    rows = config_differences([run.config().model_dump() for _, run in runs])
    return {"names": [label for label, _ in runs], "rows": rows}


def _provenance(command: Sequence[str]) -> dict[str, str]:
    return {
        "fact.made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "fact.command": shlex.join(without_secrets(command)),
        "fact.version": __version__,
        "fact.commit": _commit(git_state()),
        "fact.machine": f"{platform.node()}, {platform.platform()}, Python {platform.python_version()}",
    }


def _commit(git: Mapping[str, str] | None) -> str:
    """With a hash of what was not committed; both in words where the record has none."""
    found = git or {}
    return f"{found.get('commit', 'none')[:10]} ({found.get('diff', 'not a checkout')})"


def format_seconds(seconds: float) -> str:
    """0.0031 -> 3.1 ms."""
    for size, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e9 * seconds:.3g} ns"
