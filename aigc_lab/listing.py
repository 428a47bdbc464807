"""The verb `runs`: what there is, read from the run directories without importing torch."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_lab.errors import UserError
from aigc_lab.quality import mean_gap
from aigc_lab.run import Run, all_runs
from aigc_lab.scores import GROUP, Score, read_scores

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def list_runs(runs_dir: str) -> list[dict[str, Any]]:
    """One entry per run, oldest first.

    Raises:
        UserError: there is no such folder.
    """
    _existing(runs_dir)
    return [_entry(run, Path(runs_dir).absolute()) for run in all_runs(runs_dir)]


def _existing(runs_dir: str) -> None:
    if not Path(runs_dir).is_dir():
        raise UserError(f"{runs_dir}: no such folder; train a run first, or name the folder of your runs")


def _entry(run: Run, root: Path) -> dict[str, Any]:
    name = str(run.path.relative_to(root))
    try:
        record, status = run.record(), str(run.status())
    except UserError as error:
        return {"run": name, "status": f"damaged: {error}", "scores": []}
    try:
        scores = _headlines(read_scores(run.results_path))
    except UserError as error:
        status, scores = f"{status}; scores damaged: {error}", []
    return {
        "run": name,
        "status": status,
        "created": record.get("created", ""),
        "seed": record.get("seed"),
        "minutes": round(record["wall_seconds"] / 60, 1),
        "scores": scores,
    }


def _headlines(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Of each way of measuring: what it is, the headline metrics and the mean gap closed."""
    groups: dict[tuple[str, ...], list[Score]] = {}
    for score in scores:
        groups.setdefault(score.group, []).append(score)
    found = []
    for group in groups.values():
        first = group[0]
        values: dict[str, Any] = {s.metric: s.value for s in group if s.metric in HEADLINE}
        bound = any(s.metric == "bits_per_byte" and s.kind == "upper bound" for s in group)
        gap = mean_gap({s.metric: s.gap_closed for s in group})
        about = {name: getattr(first, name) for name in GROUP}
        found.append(about | {"title": first.title} | values | {"bits_bound": bound, "gap_closed": gap})
    return found


def query_runs(runs_dir: str, where: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The scored runs for which an SQL expression over the columns of `results_db` holds, and what is
    wrong with those that are left out.

    Raises:
        UserError: there is no such folder, or the expression is wrong.
    """
    from aigc_lab import results_db

    _existing(runs_dir)
    content, damaged = results_db.refresh(Path(runs_dir), all_runs(runs_dir))
    return results_db.query(content, where), damaged


def print_query(rows: list[dict[str, Any]], where: str) -> None:
    """A table for each way of measuring: the headline and what the expression names; --json has every column."""
    wanted = {"run", *HEADLINE, "gap_closed", *re.findall(r"\w+", where)} - {"measured"}
    shown = [column for column in (rows[0] if rows else {}) if column in wanted]
    console = _console()
    for measured in dict.fromkeys(row["measured"] for row in rows):
        table = _table([(column, column != "run") for column in shown])
        table.title, table.title_justify = measured, "left"
        for row in rows:
            if row["measured"] == measured:
                table.add_row(*(_cell(row[column]) for column in shown))
        console.print(table)
    if not rows:
        console.print("no scored run fits")


def print_runs(entries: list[dict[str, Any]], runs_dir: str) -> None:
    """All runs, then a table of scores for each way of measuring: others never share a column."""
    console = _console()
    if not entries:
        console.print(f"no runs in {runs_dir}")
        return
    table = _table([("run", False), ("status", False), ("minutes", True)])
    for entry in entries:
        table.add_row(entry["run"], entry["status"], _cell(entry.get("minutes")))
    console.print(table)
    groups: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}
    for entry in entries:
        for found in entry["scores"]:
            groups.setdefault(tuple(str(found[name]) for name in GROUP), []).append((entry["run"], found))
    for members in groups.values():
        table = _table([("run", False), *((title, True) for title in HEADLINE.values()), ("gap closed", True)])
        table.title, table.title_justify = members[0][1]["title"], "left"
        for run, found in members:
            cells = [_cell(found.get(metric)) for metric in HEADLINE]
            bits = f"≤ {cells[0]}" if found["bits_bound"] and cells[0] else cells[0]
            gap = "" if found["gap_closed"] is None else f"{found['gap_closed']:.0%}"
            table.add_row(run, bits, *cells[1:], gap)
        console.print(table)


HEADLINE = {"bits_per_byte": "bits/byte", "frechet": "Fréchet", "precision": "precision", "recall": "recall"}


def _table(columns: list[tuple[str, bool]]) -> "Table":
    """With these titles; true for those of numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title, is_number in columns:
        table.add_column(title, justify="right" if is_number else "left", no_wrap=title == "run", overflow="fold")
    return table


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)
