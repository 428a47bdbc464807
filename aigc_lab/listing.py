"""The verb `runs`: what there is, read from the run directories without importing torch."""

import json
from pathlib import Path
from typing import Any

from aigc_lab.errors import UserError
from aigc_lab.quality import mean_gap
from aigc_lab.run import Run, all_runs


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
    try:
        record, status = run.record(), run.status()
    except UserError as error:
        return {"run": str(run.path.relative_to(root)), "status": f"damaged: {error}", "scores": {}}
    return {
        "run": str(run.path.relative_to(root)),
        "status": status,
        "created": record.get("created", ""),
        "seed": record.get("seed"),
        "minutes": round(record.get("wall_seconds", 0) / 60, 1),
        "scores": _headline(run),
    }


def _headline(run: Run) -> dict[str, float]:
    """The latest value of the headline metrics, and the mean gap closed."""
    try:
        rows = [json.loads(line) for line in run.results_path.read_text(encoding="utf-8").splitlines()]
        values = {row["metric"]: float(row["value"]) for row in rows if row["value"] is not None}
        headline = {m: values[m] for m in ("bits_per_byte", "frechet", "precision", "recall") if m in values}
        gap = mean_gap({row["metric"]: row["gap_closed"] for row in rows})
        return headline | ({"gap_closed": gap} if gap is not None else {})
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def query_runs(runs_dir: str, where: str) -> list[dict[str, Any]]:
    """The scored runs for which an SQL expression over the columns of `results_db` holds.

    Raises:
        UserError: there is no such folder, or the expression is wrong.
    """
    from aigc_lab import results_db

    _existing(runs_dir)
    return results_db.query(results_db.refresh(Path(runs_dir), all_runs(runs_dir)), where)


def print_query(rows: list[dict[str, Any]]) -> None:
    """Every column that some row fills."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [key for key in (rows[0] if rows else {}) if any(row[key] is not None for row in rows)]
    for column in columns:
        table.add_column(column, no_wrap=column == "run", overflow="fold")
    for row in rows:
        shown = (row[column] for column in columns)
        table.add_row(*(f"{x:.3g}" if isinstance(x, float) else "" if x is None else str(x) for x in shown))
    console.print(table if rows else "no scored run fits")


def print_runs(entries: list[dict[str, Any]], runs_dir: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    if not entries:
        console.print(f"no runs in {runs_dir}")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("run", "status", "minutes", "bits/byte", "Fréchet", "precision", "recall", "gap closed"):
        table.add_column(title, justify="left" if title in ("run", "status") else "right", no_wrap=title == "run")
    for entry in entries:
        scores = entry["scores"]
        shown = [
            f"{scores[m]:.3g}" if m in scores else "" for m in ("bits_per_byte", "frechet", "precision", "recall")
        ]
        gap = f"{scores['gap_closed']:.0%}" if "gap_closed" in scores else ""
        table.add_row(entry["run"], entry["status"], str(entry.get("minutes", "")), *shown, gap)
    console.print(table)
