"""metrics.csv: `step,metric,value`, one row for each logged value; `step` counts batches from 0."""

import csv
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from aigc_lab.errors import UserError

HEADER = "step,metric,value\n"

Row = tuple[int, str, float]


def read_metrics(path: Path) -> list[Row]:
    """The complete rows of a metrics.csv, without one that a kill cut off; none when there is no file.

    Raises:
        UserError: it cannot be read, is another file, or a complete row is not one.
    """
    if not path.exists():
        return []
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        if header != HEADER:
            raise ValueError(f"its first line is not {HEADER.strip()}")
        rows = [(int(s), m, float(v)) for s, m, v in csv.reader(line for line in lines if line.endswith("\n"))]
        if wrong := next((step for step, *_ in rows if not 0 <= step < 2**63), None):
            raise ValueError(f"step {wrong}")
        return rows
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: damaged ({error})") from None


def format_rows(rows: Iterable[Row]) -> str:
    """Rows as text, each with its newline."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
