"""Every score below a runs folder in one SQLite file, to be queried: results.sqlite.

The run directories are the truth. The file is made anew from them, whole, whenever scores change or a question is
asked, so it is never behind and can be removed. Table `scores` has one row per score, table `runs` one per run
and protocol with a column per metric. No torch is imported.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from aigc_lab.config.schema import nearest
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.quality import mean_gap
from aigc_lab.run import Run

FILE = "results.sqlite"
_FACTS = ("run", "status", "seed", "created", "minutes", "data", "protocol", "features", "parameters")
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


def refresh(runs_dir: Path, runs: Sequence[Run]) -> Path:
    """Write results.sqlite anew from the run directories; a damaged one is left out.

    Returns:
        The file.
    """
    scores: list[dict[str, Any]] = []
    facts: dict[str, dict[str, Any]] = {}
    for run in runs:
        try:
            rows = [json.loads(line) for line in run.results_path.read_text(encoding="utf-8").splitlines()]
            record, status, name = run.record(), run.status(), str(run.path.relative_to(runs_dir.absolute()))
        except (OSError, ValueError, UserError):
            continue
        minutes = round(record["wall_seconds"] / 60, 2)
        about = {"run": name, "status": status, "created": record.get("created"), "minutes": minutes}
        facts[name] = about | {"seed": record.get("seed")}
        scores += [row | {"run": name} for row in rows if isinstance(row, dict)]
    with closing(sqlite3.connect(":memory:")) as database:
        _fill(database, "scores", scores)
        _fill(database, "runs", _pivot(scores, facts))
        database.commit()
        write_atomically(runs_dir / FILE, database.serialize())
    return runs_dir / FILE


def query(file: Path, where: str) -> list[dict[str, Any]]:
    """The rows of table `runs` for which an SQL expression holds.

    Raises:
        UserError: the expression is wrong; one line with the columns that there are.
    """
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        columns = [row["name"] for row in database.execute("PRAGMA table_info(runs)")]
        database.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
        )
        try:
            found = database.execute(f"SELECT * FROM runs WHERE ({where}\n) ORDER BY run").fetchall()
        except sqlite3.Error as error:
            unknown = str(error).rpartition("no such column: ")[2]
            raise UserError(f'--where "{where}": {error}{nearest(unknown, columns)}') from None
    return [dict(row) for row in found]


def _pivot(scores: list[dict[str, Any]], facts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per run and protocol; `gap_closed` is the mean that the tables show."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for score in scores:
        key = tuple(str(score.get(k)) for k in ("run", "data_hash", "protocol", "features_hash", "seed"))
        groups.setdefault(key, []).append(score)
    rows = []
    for group in groups.values():
        first = group[0]
        about = {k: first.get(k) for k in ("data", "protocol", "features", "parameters")}
        gap = mean_gap({s["metric"]: s.get("gap_closed") for s in group if "metric" in s})
        values = {str(s.get("metric")): s.get("value") for s in group}
        rows.append(dict.fromkeys(_FACTS) | facts[first["run"]] | about | {"gap_closed": gap} | values)
    return rows


def _fill(database: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row)) or [*_FACTS, "gap_closed"]
    quoted = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
    database.execute(f"CREATE TABLE {table} ({quoted})")
    values = [[row.get(column) for column in columns] for row in rows]
    database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", values)
