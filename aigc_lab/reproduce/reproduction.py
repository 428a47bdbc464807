"""Train what is not trained yet, measure, judge, write the results and the ledger."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from aigc_lab.modules.base import diverged
from aigc_lab.reproduce.ledger import bound, number, ours, subject, write_ledger
from aigc_lab.reproduce.plan import Plan, Planned
from aigc_lab.reproduce.trial import Illustrated, Measure, Seen, Trial
from aigc_lab.reproduce.verdict import judge
from aigc_lab.run import Run, git_state

DIVERGED = str(diverged("", 0)).partition(":")[0]
"""How the message begins that ends a run whose numbers are not finite any more."""


@dataclass(frozen=True)
class _Outcome:
    """A trial and what came of it.

    Attributes:
        run: None where nothing is trained.
        found: quantity -> value; None where training diverged.
        seconds: training and measuring.
    """

    planned: Planned
    run: Run | None
    found: Mapping[str, float] | None
    seconds: float


def reproduce(plan: Plan, *, with_claims: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Carry out a plan; finished runs are used again and interrupted ones continued.

    A run that diverged stands as it is, and every quantity of it is NaN.

    Args:
        with_claims: the experiments that the ledger has rows for.

    Returns:
        What was written to the plan's results path, without NaN: null.

    Raises:
        UserError: a measure does not fit the runs, or gives none of the quantities claimed.
    """
    measures: dict[str, Measure] = build(plan.claims.measures, path="claims.measures")
    git, before = git_state(), dict[Path, float]()  # the runs that others begin as, and their seconds
    outcomes = []
    for i, planned in enumerate(plan.trials, 1):
        say(f"{i} of {len(plan.trials)}: {plan.name} {planned.label}")
        outcomes.append(_outcome(plan, planned, measures, before))
        if outcomes[-1].found is None:
            say(f"{planned.label} has diverged: its values are NaN")
    measured = _table(plan, outcomes)
    results = _plain(
        {
            "experiment": plan.name,
            "command": plan.command,
            "quick": plan.quick,
            "note": "a short version: its verdicts are not those of the full one" if plan.quick else "",
            "protocol": plan.claims.protocol or "",
            "claims": [judged.to_json() for judged in judge(plan.claims, measured)],
            "measured": measured,
            "seeds": plan.seeds,
            "diverged": [o.planned.label for o in outcomes if o.found is None],
            "git": git,
            "trained_at": sorted({_trained_at(o.run) for o in outcomes if o.run}),
            "device": training.device_name(plan.trials[0].config.trainer),
            "minutes": round((sum(o.seconds for o in outcomes) + sum(before.values())) / 60, 2),
            "finished": training.now(),
        }
    )
    _write(plan.results_path, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    _draw(plan, measures, outcomes)
    write_ledger(plan.root, with_claims)
    return results


def judge_again(plan: Plan, *, with_claims: Sequence[str]) -> dict[str, Any]:
    """Judge what was measured before by the claims of now; nothing is trained or measured.

    Args, returns: as for `reproduce`.

    Raises:
        UserError: there are no results, they are damaged or of other seeds, or a claim is about something that was
            not measured.
    """
    path, anew = plan.results_path, f"measure it anew: {plan.command}"
    try:
        results = json.loads(path.read_text())
        assert isinstance(results, dict)
        measured = {
            variant: {
                name: [math.nan if v is None else float(v) for v in values] for name, values in found.items()
            }
            for variant, found in results["measured"].items()
        }
        seeds = results["seeds"]
    except FileNotFoundError:
        raise UserError(f"{path}: there is nothing to judge; {anew}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(f"{path}: damaged ({error}); {anew}") from None
    if seeds != plan.seeds:
        raise UserError(f"{path}: is of seeds {seeds}, and {plan.name} is judged on {plan.seeds}; {anew}")
    try:
        claims = [judged.to_json() for judged in judge(plan.claims, measured)]
    except KeyError as error:
        raise UserError(f"{path}: has no {error}; {anew}") from None
    results = _plain(results | {"protocol": plan.claims.protocol or "", "claims": claims})
    _write(path, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    write_ledger(plan.root, with_claims)
    return results


def _outcome(plan: Plan, planned: Planned, measures: Mapping[str, Measure], before: dict[Path, float]) -> _Outcome:
    """Train what is not trained yet, and measure it."""
    run, seconds = None, 0.0
    if planned.first is not None:
        start = _trained(plan, planned.first)
        before[start.path] = start.record()["wall_seconds"]
        if _has_diverged(start):
            return _Outcome(planned, start, None, 0.0)
    if plan.claims.trains:
        run = _trained(plan, planned.config)
        seconds = run.record()["wall_seconds"]
        if _has_diverged(run):
            return _Outcome(planned, run, None, seconds)
    began = time.monotonic()
    with training.numerics(planned.config.trainer):
        found = _measured(measures, Trial(planned.seed, run))
    _check_quantities(plan, planned.variant, list(found))
    return _Outcome(planned, run, found, seconds + time.monotonic() - began)


def _table(plan: Plan, outcomes: Sequence[_Outcome]) -> dict[str, dict[str, list[float]]]:
    """variant -> quantity -> one value per seed; NaN where training diverged."""
    table = {}
    for variant in dict.fromkeys(o.planned.variant for o in outcomes):
        found = [o.found for o in outcomes if o.planned.variant == variant]
        names = dict.fromkeys(name for values in found if values for name in values) or _claimed(plan, variant)
        table[variant] = {name: [(values or {}).get(name, math.nan) for values in found] for name in names}
    return table


def _trained(plan: Plan, config: Config) -> Run:
    """The run of a configuration: finished, or as far as it came before it diverged."""
    path = Run.planned_path(config)
    try:
        if not path.exists():
            return training.train(config, plan.command.split())
        run = Run.open(path)
        if (run.status() == "finished" and run.weights_path.is_file()) or _has_diverged(run):
            return run
        return training.resume(run)
    except UserError as error:
        if not str(error).startswith(DIVERGED):
            raise
        return Run.open(path)


def _has_diverged(run: Run) -> bool:
    return run.status() == "failed" and DIVERGED in str(run.record().get("error"))


def _trained_at(run: Run) -> str:
    return (run.record().get("git") or {}).get("commit", "installed package")


def _measured(measures: Mapping[str, Measure], trial: Trial) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, measure in measures.items():
        values = {quantity: float(value) for quantity, value in measure(trial).items()}
        if clash := sorted(found.keys() & values.keys()):
            raise UserError(f"claims.measures.{name}: another measure gives '{clash[0]}' too")
        found |= values
    return found


def _check_quantities(plan: Plan, variant: str, found: list[str]) -> None:
    """Before more is trained: every claim about this variant has its quantity."""
    for quantity in _claimed(plan, variant):
        if quantity not in found:
            raise UserError(f"claims.judged: no measure gives '{quantity}'{nearest(quantity, found)}")


def _claimed(plan: Plan, variant: str) -> list[str]:
    """The quantities that claims about a variant are of."""
    concerned = (c for c in plan.claims.judged if c.variant in (None, variant) or c.minus == variant)
    return [claim.quantity for claim in concerned]


def _draw(plan: Plan, measures: Mapping[str, Measure], outcomes: Sequence[_Outcome]) -> None:
    """The figure of the first measure that has one; none where it has not, or nothing was measured."""
    seen = [
        Seen(o.planned.variant, Trial(o.planned.seed, o.run), o.found) for o in outcomes if o.found is not None
    ]
    plan.figure_path.unlink(missing_ok=True)  # of results before
    for measure in measures.values() if seen else ():
        if isinstance(measure, Illustrated):
            with training.numerics(plan.trials[0].config.trainer):
                drawn = measure.figure(seen)
            if drawn is not None:
                from aigc_lab.minimax.figures import to_small_png

                _write(plan.figure_path, to_small_png(drawn))
                return


def _write(path: Path, content: str | bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
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
