"""Every score below a runs folder in one SQLite file, to be queried: results.sqlite.

The run directories are the truth. The database is made anew from them, whole, whenever scores change or a question
is asked, so it is never behind and its file can be removed. Table `scores` has one row per score, table `runs` one
per run and protocol with a column per metric. No torch is imported.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from aigc_lab.config.schema import nearest
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.quality import mean_gap
from aigc_lab.run import Run
from aigc_lab.scores import GROUP, Score, read_scores

FILE = "results.sqlite"
_FACTS = ("run", "status", "seed", "created", "minutes", "data", "protocol", "features", "judge", "parameters")
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


def refresh(runs_dir: Path, runs: Sequence[Run]) -> tuple[bytes, list[str]]:
    """Write results.sqlite anew from the run directories, if the folder can be written to.

    Returns:
        The database, and what is wrong with each run that is left out, because it is damaged.
    """
    scores: list[dict[str, Any]] = []
    facts: dict[str, dict[str, Any]] = {}
    damaged: list[str] = []
    for run in runs:
        try:
            found, record, status = read_scores(run.results_path), run.record(), run.status()
        except UserError as error:
            damaged.append(str(error))
            continue
        name = str(run.path.relative_to(runs_dir.absolute()))
        minutes = round(record["wall_seconds"] / 60, 2)
        about = {"run": name, "status": status, "created": str(record.get("created", "")), "minutes": minutes}
        facts[name] = about | {"seed": str(record.get("seed"))}
        scores += [score.to_json() | {"run": name} for score in found]
    with closing(sqlite3.connect(":memory:")) as database:
        _fill(database, "scores", scores)
        _fill(database, "runs", _pivot(scores, facts))
        database.commit()
        content = database.serialize()
    with suppress(OSError):
        write_atomically(runs_dir / FILE, content)
    return content, damaged


def query(content: bytes, where: str) -> list[dict[str, Any]]:
    """The rows of table `runs` of such a database for which an SQL expression holds.

    Raises:
        UserError: the expression is wrong; one line with the columns that there are.
    """
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(content)
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
        key = tuple(str(score[k]) for k in ("run", *GROUP))
        groups.setdefault(key, []).append(score)
    rows = []
    for group in groups.values():
        first = group[0]
        about = {k: first[k] for k in ("data", "protocol", "features", "parameters")}
        about["measured"] = Score(**first).title
        gap = mean_gap({score["metric"]: score["gap_closed"] for score in group})
        values = {score["metric"]: score["value"] for score in group}
        judge = {"judge": first["judge"], "gap_closed": gap}
        rows.append(dict.fromkeys(_FACTS) | facts[first["run"]] | about | judge | values)
    return rows


def _fill(database: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row)) or [*_FACTS, "gap_closed"]
    quoted = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
    database.execute(f"CREATE TABLE {table} ({quoted})")
    values = [[row.get(column) for column in columns] for row in rows]
    database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", values)
