"""experiments/LEDGER.md: every claim of every experiment in one table, written from the results files alone."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.reproduce.plan import results_path

INTRODUCTION = """# Ledger

Written by `aigc reproduce`; do not edit. One row per claim, and a claim that fails stands as failed.
*Ours* is the mean over seeds ± their standard deviation. A bound names what has to keep it: every seed, their
mean, or the 95 % interval of the mean. A row without one is reported, not judged. A row marked **quick** comes
from a short version, which proves nothing but that the machinery works; it never replaces a full result.
"""
HEADER = "| experiment | claim | published | ours | bound | verdict |\n|---|---|---|---|---|---|\n"
RUNS_HEADER = "| experiment | command | minutes | device | commit | finished |\n|---|---|---:|---|---|---|\n"


def write_ledger(root: Path, names: Sequence[str]) -> Path:
    """Regenerate the ledger of the experiments (those with claims) whose results stand below `root`.

    Raises:
        UserError: a results file is damaged.
    """
    results = [(name, *_latest(root, name)) for name in sorted(names)]
    rows = "".join(row for name, found, quick in results for row in _rows(name, found, quick))
    runs = "".join(_how(found) for _, found, _ in results if found)
    path = root / "LEDGER.md"
    write_atomically(path, f"{INTRODUCTION}\n{HEADER}{rows}\n## How\n\n{RUNS_HEADER}{runs}")
    return path


def _latest(root: Path, name: str) -> tuple[dict[str, Any] | None, bool]:
    """The full result, or the quick one where there is no other; and whether it is quick."""
    for quick in (False, True):
        path = results_path(root, name, quick=quick)
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                found["claims"], found["command"]
                return found, quick
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: damaged ({error!r}); remove it and reproduce {name} again") from None
    return None, False


def _rows(name: str, found: dict[str, Any] | None, quick: bool) -> Iterator[str]:
    if found is None:
        yield _row([name, "", "", "", "", "not run"])
        return
    label = f"{name} (**quick**)" if quick else name
    for claim in found["claims"]:
        verdict = f"**{claim['verdict']}**" if claim["verdict"] == "fails" else claim["verdict"]
        published = f"{number(claim['published'])} ({claim['source']})" if claim["source"] else ""
        yield _row([label, subject(claim), published, ours(claim), bound(claim), verdict])


def subject(claim: dict[str, Any]) -> str:
    """The quantity, and the variant or the difference of variants that it is of."""
    of = " − ".join(filter(None, [claim["variant"], claim["minus"]]))
    return f"{claim['quantity']} ({of})" if of else claim["quantity"]


def bound(claim: dict[str, Any]) -> str:
    """What has to hold, and for what."""
    return f"{claim['bound']}, {claim['over']}" if claim["bound"] else ""


def ours(claim: dict[str, Any]) -> str:
    """Mean ± spread (n seeds)."""
    spread = f" ± {number(claim['spread'])}" if claim["spread"] is not None else ""
    return f"{number(claim['value'])}{spread} (n = {len(claim['per_seed'])})"


def number(value: Any) -> str:
    """Four digits of a number, words as they are, a dash for what is missing or not a number."""
    if isinstance(value, int | float):
        return f"{value:.4g}".replace("-", "−")
    return str(value) if value is not None else "—"


def _how(found: dict[str, Any]) -> str:
    git = found["git"] or {"commit": "installed package", "diff": "clean"}
    commit = git["commit"][:12] + ("" if git["diff"] == "clean" else f" + changes {git['diff']}")
    command, minutes = f"`{found['command']}`", f"{found['minutes']:.1f}"
    return _row([found["experiment"], command, minutes, found["device"], commit, found["finished"]])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
