"""Train what is not trained yet, measure, judge, write the results and the ledger."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from aigc_lab import training
from aigc_lab.config.schema import Config, nearest
from aigc_lab.config.targets import build
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.reproduce.ledger import bound, number, ours, subject, write_ledger
from aigc_lab.reproduce.measures import Measure, Trial
from aigc_lab.reproduce.plan import Plan
from aigc_lab.reproduce.verdict import judge
from aigc_lab.run import Run, git_state


def reproduce(plan: Plan, *, with_claims: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Carry out a plan; finished runs are used again and interrupted ones continued.

    Args:
        with_claims: the experiments that the ledger has rows for.

    Returns:
        What was written to the plan's results path.

    Raises:
        UserError: a measure does not fit the runs, or gives none of the quantities claimed.
    """
    measures: dict[str, Measure] = build(plan.claims.measures, path="claims.measures")
    measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    git, seconds, trained_at = git_state(), 0.0, set[str]()
    before: dict[Path, float] = {}  # the runs that others begin as, and their seconds
    for i, planned in enumerate(plan.trials, 1):
        label = f"{planned.variant} seed {planned.seed}".strip()
        say(f"{i} of {len(plan.trials)}: {plan.name} {label}")
        if planned.first is not None:
            start = _trained(plan, planned.first)
            before[start.path] = start.record()["wall_seconds"]
        run = _trained(plan, planned.config) if plan.claims.trains else None
        began = time.monotonic()
        with training.numerics(planned.config.trainer):
            found = _measured(measures, Trial(planned.seed, run))
        _check_quantities(plan, planned.variant, list(found))
        seconds += time.monotonic() - began
        if run:
            record = run.record()
            seconds += record["wall_seconds"]
            trained_at.add((record.get("git") or {}).get("commit", "installed package"))
        for quantity, value in found.items():
            measured[planned.variant][quantity].append(value)
    results = {
        "experiment": plan.name,
        "command": plan.command,
        "quick": plan.quick,
        "note": "a short version: its verdicts are not those of the full one" if plan.quick else "",
        "claims": [judged.to_json() for judged in judge(plan.claims, measured)],
        "measured": measured,
        "seeds": plan.claims.quick.seeds if plan.quick else plan.claims.seeds,
        "git": git,
        "trained_at": sorted(trained_at),
        "device": training.device_name(plan.trials[0].config.trainer),
        "minutes": round((seconds + sum(before.values())) / 60, 2),
        "finished": training.now(),
    }
    _write(plan.results_path, results)
    write_ledger(plan.root, with_claims)
    return results


def _trained(plan: Plan, config: Config) -> Run:
    """The finished run of a configuration."""
    path = Run.planned_path(config)
    if not path.exists():
        return training.train(config, plan.command.split())
    run = Run.open(path)
    if run.status() == "finished" and run.weights_path.is_file():
        return run
    return training.resume(run)


def _measured(measures: dict[str, Measure], trial: Trial) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, measure in measures.items():
        values = {quantity: float(value) for quantity, value in measure(trial).items()}
        if clash := sorted(found.keys() & values.keys()):
            raise UserError(f"claims.measures.{name}: another measure gives '{clash[0]}' too")
        found |= values
    return found


def _check_quantities(plan: Plan, variant: str, found: list[str]) -> None:
    """Before more is trained: every claim about this variant has its quantity."""
    for claim in plan.claims.judged:
        concerned = claim.variant in (None, variant) or claim.minus == variant
        if concerned and claim.quantity not in found:
            raise UserError(f"claims.judged: no measure gives '{claim.quantity}'{nearest(claim.quantity, found)}")


def _write(path: Path, results: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(_plain(results), indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_results(results: dict[str, Any]) -> None:
    """A table of the claims on stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    title = results["experiment"] + (", a quick version that proves nothing" if results["quick"] else "")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("claim", "published", "ours", "bound", "verdict"):
        table.add_column(column)
    colours = {"holds": "green", "fails": "bold red", "reported": ""}
    for claim in results["claims"]:
        cells = [subject(claim), number(claim["published"]), ours(claim), bound(claim), claim["verdict"]]
        table.add_row(*cells, style=colours[claim["verdict"]])
    console.print(table)
