"""What evaluating run directories and controls gives."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from aigc_lab import results_db
from aigc_lab.config.schema import EvaluateConfig
from aigc_lab.config.targets import build
from aigc_lab.data import Dataset
from aigc_lab.errors import UserError
from aigc_lab.evaluation.arguments import CONTROL
from aigc_lab.evaluation.battery import METRICS
from aigc_lab.evaluation.drawn import Drawn
from aigc_lab.evaluation.exhibit import Exhibit
from aigc_lab.evaluation.harness import Harness, Result, write_scores
from aigc_lab.generators import LogLikelihood, load
from aigc_lab.run import Run, all_runs
from aigc_lab.scores import VERSION, read_scores


@dataclass(frozen=True)
class Evaluated:
    """A subject with its result, and the results of all controls on the same data.

    Attributes:
        name: `<experiment>/<id>`, with as much of its folder before it as tells it from another run's, or
            `control:<name>`.
        run: None for a control.
        likelihood: of the held-out items; None for a control.
    """

    name: str
    run: Run | None
    result: Result
    harness: Harness
    likelihood: LogLikelihood | None = None


def evaluate(
    subjects: Sequence[str],
    config: EvaluateConfig,
    *,
    data_given: bool,
    anew: bool,
    say: Callable[[str], None],
) -> list[Evaluated]:
    """Score every subject; runs keep their scores and reuse them unless `anew`.

    Raises:
        UserError: a run is damaged, or its data is not what it was trained on.
    """
    bench = _Bench(config)
    evaluated = []
    named = {Path(subject).resolve(): subject for subject in subjects if not subject.startswith(CONTROL)}
    for subject in named.values():
        say(f"evaluating {subject}")
        evaluated.append(_evaluate_run(bench, Run.open(subject), anew=anew, say=say))
    for root in {e.run.runs_dir for e in evaluated if e.run}:
        if root is not None:
            results_db.refresh(root, all_runs(root))
    evaluated = _told_apart(evaluated)
    run_data = {e.harness.spec.content_hash: e.harness for e in evaluated}
    for subject in subjects:
        if subject.startswith(CONTROL):
            say(f"evaluating {subject}")
            if data_given or not run_data:
                harness = bench.harness(bench.dataset(config.data))
            elif len(run_data) == 1:
                harness = next(iter(run_data.values()))
            else:
                raise UserError(f"{subject}: the runs have different data; name the control's with --data")
            result = harness.score_control(subject.removeprefix(CONTROL))
            evaluated.append(Evaluated(subject, None, result, harness))
    return evaluated


def _told_apart(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Runs; those of one name, from several runs folders, are named by as much of their paths as it takes."""
    paths: dict[str, list[tuple[str, ...]]] = {}
    for e in evaluated:
        assert e.run
        paths.setdefault(e.name, []).append(e.run.path.resolve().parts)
    n_parts = {
        name: next(n for n in count(1) if len({path[-n:] for path in alike}) == len(alike))
        for name, alike in paths.items()
    }
    return [
        e if len(paths[e.name]) == 1 else replace(e, name="/".join(e.run.path.resolve().parts[-n_parts[e.name] :]))
        for e in evaluated
        if e.run
    ]


class _Bench:
    """One harness per data set, however many runs share it."""

    def __init__(self, config: EvaluateConfig) -> None:
        self.config = config
        self.datasets: dict[str, Dataset] = {}
        self.harnesses: dict[str, Harness] = {}

    def dataset(self, data: Mapping[str, Any]) -> Dataset:
        key = json.dumps(data, sort_keys=True)
        if key not in self.datasets:
            self.datasets[key] = build(data, path="data", supplied={"cache_dir": self.config.paths.cache})
        return self.datasets[key]

    def harness(self, dataset: Dataset) -> Harness:
        content = dataset.spec.content_hash
        if content not in self.harnesses:
            self.harnesses[content] = Harness(dataset, self.config.evaluation, self.config.paths.cache)
        return self.harnesses[content]


def _evaluate_run(bench: _Bench, run: Run, *, anew: bool, say: Callable[[str], None]) -> Evaluated:
    weights, dataset = run.weights(), bench.dataset(run.config().data)
    if weights.spec.content_hash != dataset.spec.content_hash:
        raise UserError(
            f"{run.path}: was trained on other data (content hash {weights.spec.content_hash[:12]}) than its "
            f"configuration finds now ({dataset.spec.content_hash[:12]})"
        )
    harness = bench.harness(dataset)
    digest = sha256(run.weights_path.read_bytes()).hexdigest()[:8]
    label = f"{weights.weights}@{weights.step}#{digest}"
    folder = run.samples / harness.protocol_name
    known = read_scores(run.results_path)
    if foreign := {score.run for score in known} - {run.name}:
        say(f"{run.results_path}: dropping the scores of {', '.join(sorted(foreign))}, which is not this run")
        known = [score for score in known if score.run == run.name]
    drawn, key = _draw(harness, run, folder, label), f"{label} {harness.protocol_name}"
    mine = [s for s in known if s.group == harness.group and s.weights == label]
    if {score.metric for score in mine} == set(METRICS) and not anew:
        try:
            return Evaluated(run.name, run, Result(mine, Exhibit.load(folder, key=key)), harness, drawn.likelihood)
        except (OSError, ValueError):
            pass  # the pictures are gone: make them again
    result = harness.score(drawn, run=run.name, kind=weights.kind, weights=label)
    result.exhibit.save(folder, key=key)
    write_scores(run.results_path, [s for s in known if s.group != harness.group] + result.scores)
    return Evaluated(run.name, run, result, harness, drawn.likelihood)


def _draw(harness: Harness, run: Run, folder: Path, weights: str) -> Drawn:
    """The samples of these weights under this protocol: drawn once, whatever features and metrics see of them."""
    key = f"{weights} n={harness.n} seed={harness.protocol.seed} version={VERSION}"
    path = folder / "drawn.safetensors"
    try:
        return Drawn.load(path, key=key, spec=harness.spec, n=harness.n)
    except (OSError, ValueError):
        drawn = harness.draw(load(run.path))
        drawn.save(path, key=key)
        return drawn
