"""experiments/LEDGER.md: every claim of every experiment in one table, written from the results files alone."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.reproduce.plan import figure_path, results_path

INTRODUCTION = """# Ledger

Written by `aigc reproduce`; do not edit. One row per claim, and a claim that fails stands as failed.
*Ours* is the mean over seeds ± their standard deviation. A bound names what has to keep it: every seed, their
mean, or the 95 % interval of the mean. An interval that crosses its bound fails: neither the claim nor its
contrary is shown then. A row without a bound is reported, not judged. A seed whose training diverged or whose
value is not finite keeps no bound. A row marked **quick** comes from a short version, which proves nothing but
that the machinery works; it never replaces a full result.
"""
HEADER = "| experiment | claim | published | ours | bound | verdict |\n|---|---|---|---|---|---|\n"
RUNS_HEADER = """## How

Measured at this commit; runs that were trained at another name it. *Changes* were not committed at the time.

| experiment | command | minutes | device | commit | finished | protocol |
|---|---|---:|---|---|---|---|
"""
COMMIT_LENGTH = 40


@dataclass(frozen=True)
class _Entry:
    """What the ledger says of an experiment, as lines of its three sections."""

    claims: str
    how: str = ""
    figure: str = ""


def write_ledger(root: Path, names: Sequence[str]) -> Path:
    """Regenerate the ledger of the experiments (those with claims) whose results stand below `root`.

    Raises:
        UserError: a results file is damaged.
    """
    entries = [_entry(root, name) for name in sorted(names)]
    claims, how, figures = ("".join(getattr(e, part) for e in entries) for part in ("claims", "how", "figure"))
    path = root / "LEDGER.md"
    drawn = f"\n## Figures\n{figures}" if figures else ""
    write_atomically(path, f"{INTRODUCTION}\n{HEADER}{claims}\n{RUNS_HEADER}{how}{drawn}")
    return path


def _entry(root: Path, name: str) -> _Entry:
    """Of the full result, or of the quick one where there is no other."""
    for quick in (False, True):
        path = results_path(root, name, quick=quick)
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                claims = "".join(_rows(f"{name} (**quick**)" if quick else name, found))
                return _Entry(claims, _how(found), _figure(root, name, quick=quick))
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise UserError(f"{path}: damaged ({error!r}); remove it and reproduce {name} again") from None
    return _Entry(_row([name, "", "", "", "", "not run"]))


def _rows(label: str, found: dict[str, Any]) -> Iterator[str]:
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
    """Mean ± spread (n seeds; the interval where it is judged), or of how many seeds the value is not finite."""
    n = len(claim["per_seed"])
    if bad := claim["per_seed"].count(None):
        return f"not finite ({bad} of {n})"
    spread = f" ± {number(claim['spread'])}" if claim["spread"] is not None else ""
    judged = claim["interval"] if claim["over"] == "interval" else None
    interval = f"; 95 %: {number(judged[0])} to {number(judged[1])}" if judged else ""
    return f"{number(claim['value'])}{spread} (n = {n}{interval})"


def number(value: Any) -> str:
    """Four digits of a number, words as they are, a dash for what is missing."""
    if isinstance(value, int | float):
        return f"{value:.4g}".replace("-", "−")
    return str(value) if value is not None else "—"


def _how(found: dict[str, Any]) -> str:
    git = found["git"] or {"commit": "installed package", "diff": "clean"}
    commit = _short(git["commit"]) + ("" if git["diff"] == "clean" else f" + changes {git['diff']}")
    trained_at = found.get("trained_at") or [git["commit"]]
    if trained_at != [git["commit"]]:
        commit += f"; trained at {', '.join(map(_short, trained_at))}"
    command, minutes = f"`{found['command']}`", f"{found['minutes']:.1f}"
    protocol = found.get("protocol") or ""
    return _row([found["experiment"], command, minutes, found["device"], commit, found["finished"], protocol])


def _short(commit: str) -> str:
    """A commit by its first digits, words as they are."""
    return commit[:12] if len(commit) == COMMIT_LENGTH else commit


def _figure(root: Path, name: str, *, quick: bool) -> str:
    path = figure_path(root, name, quick=quick)
    return f"\n### {name}\n\n![{name}]({path.relative_to(root).as_posix()})\n" if path.is_file() else ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
