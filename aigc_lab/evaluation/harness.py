"""The harness: any generator, its data, a protocol -> scores that stand beside their floor and worst."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_lab.config.schema import Evaluation, FeatureKind
from aigc_lab.config.targets import build
from aigc_lab.data import Dataset
from aigc_lab.data.samples import Samples
from aigc_lab.data.splits import content_hash
from aigc_lab.data.stream import fold
from aigc_lab.errors import UserError
from aigc_lab.evaluation.arguments import CONTROL_NAMES
from aigc_lab.evaluation.battery import METRICS, Direction, Evidence, gap_closed
from aigc_lab.evaluation.controls import CONTROLS, FROM_FEATURES, stand_in
from aigc_lab.evaluation.drawn import Drawn
from aigc_lab.evaluation.exhibit import Exhibit, Frontier, Prompt, continue_prompts, make_exhibit, prompts
from aigc_lab.evaluation.features import Features
from aigc_lab.evaluation.metrics import Estimate
from aigc_lab.files import write_atomically
from aigc_lab.generators import Cost, Generator

VERSION = "3"
"""Of the definitions in `battery` and below; raise it when a score would change."""


MINIMUM = 20
"""Fewer samples than this say nothing."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One row of results.jsonl: a value, what it would be for real data and for useless samples, and how it
    was made.

    Attributes:
        value, low, high: with its 95 % interval; None where the generator has no such number.
        kind: `exact` or `lower bound` for a likelihood and empty otherwise; a bound on the likelihood is an upper
            bound in bits.
        floor, worst: the values of control:oracle and of the metric's worst control.
        null: the expectation for samples of the very law of the data, where theory gives it.
        gap_closed, gap_low, gap_high: how far from worst to floor, and the same for the interval's ends.
        weights: which ones sampled: raw or moving average, of which step, and the start of their hash.
        seconds_per_sample: wall time of sampling n at once.
    """

    run: str
    generator: str
    modality: str
    data: str
    data_hash: str
    protocol: str
    features: str
    features_hash: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    kind: str
    floor: float | None
    worst: float | None
    null: float | None
    gap_closed: float | None
    gap_low: float | None
    gap_high: float | None
    n_real: int
    n_generated: int
    seed: int
    weights: str
    parameters: int
    flops_per_sample: int
    bytes_per_sample: int
    seconds_per_sample: float
    version: str = VERSION

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Score":
        """
        Raises:
            TypeError: fields are missing or unknown.
        """
        return cls(**values)

    @property
    def estimate(self) -> Estimate | None:
        """The value with its interval."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Estimate(self.value, self.low, self.high)

    @property
    def group(self) -> tuple[str, ...]:
        """What must agree before two scores may stand in one column."""
        return (
            self.data,
            self.data_hash,
            self.protocol,
            self.features,
            self.features_hash,
            str(self.seed),
            self.version,
        )


@dataclass(frozen=True)
class Result:
    """All that an evaluation of one generator leaves: its scores, and something to look at."""

    scores: list[Score]
    exhibit: Exhibit


@dataclass(frozen=True)
class _Subject:
    run: str
    generator: str
    weights: str


class Harness:
    """Scores generators of one data set under one protocol. Controls are scored once and cached.

    Args:
        dataset: the data; its held-out split bounds the number of samples.
        protocol: configuration of the evaluation.
        cache_dir: for extractors and the controls' scores.
    """

    def __init__(self, dataset: Dataset, protocol: Evaluation, cache_dir: Path) -> None:
        self.dataset, self.protocol, self.cache_dir = dataset, protocol, cache_dir
        self.spec = dataset.spec
        if self.spec.modality == "points":
            raise UserError(f"{self.spec.name}: points have a known density; judge them with `aigc reproduce`")
        self.train, self.held_out = dataset.real("train"), dataset.real("held_out")
        self.n = min(protocol.n, len(self.held_out))
        if self.n < MINIMUM:
            raise UserError(
                f"evaluation: {self.n} samples are too few to score; {self.spec.name} has {len(self.held_out)} "
                f"held-out items and evaluation.n={protocol.n}"
            )

    @property
    def protocol_name(self) -> str:
        """The protocol with its number of samples, which the held-out split may limit: standard@10k, quick@450."""
        count = f"{self.n // 1000}k" if self.n % 1000 == 0 else str(self.n)
        k = self.protocol.importance_samples  # a tighter bound is another number
        return f"{self.protocol.name}@{count}" + (f"+iw{k}" if k > 1 else "")

    @property
    def group(self) -> tuple[str, ...]:
        """What every score of this harness shares; see `Score.group`."""
        return self.controls["oracle"][0].group

    @cached_property
    def features(self) -> Features:
        modality = self.spec.modality
        assert modality != "points"
        kind: FeatureKind = "unlabelled_image" if modality == "image" and self.spec.n_classes < 2 else modality
        return build(self.protocol.features[kind], path=f"evaluation.features.{kind}").fit(
            self.dataset, self.cache_dir
        )

    @cached_property
    def train_features(self) -> Tensor:
        return self.features(self.train)

    @cached_property
    def reference_features(self) -> Tensor:
        """Of the training items that generated ones are compared with: at most evaluation.n, in a fixed random
        order. (Metrics of copying look at the whole training split.)"""
        order = torch.randperm(len(self.train), generator=self._rng("reference"))
        return self.train_features[order[: self.protocol.n]]

    @cached_property
    def held_out_features(self) -> Tensor:
        """Of n held-out items in a fixed random order."""
        return self.features(
            self.held_out[torch.randperm(len(self.held_out), generator=self._rng("fresh"))[: self.n]]
        )

    @cached_property
    def controls(self) -> Mapping[str, list[Score]]:
        """Every control's scores, by name."""
        raw = {name: self.raw_control(name) for name in CONTROL_NAMES}
        return {name: self._calibrate(scores, raw) for name, scores in raw.items()}

    def at(self, n: int) -> "Harness":
        """The same with fewer samples, real and generated."""
        smaller = Harness(self.dataset, self.protocol.model_copy(update={"n": n}), self.cache_dir)
        smaller.features = self.features
        return smaller

    def score_control(self, name: str) -> Result:
        """A control's scores, and something to look at unless it is made of features."""
        if name not in CONTROLS:
            return Result(self.controls[name], Exhibit(frontier=self.control_frontier(name)))
        samples = CONTROLS[name](self.dataset).sample(self.n, rng=self._rng("samples"))
        exhibit = make_exhibit(
            samples,
            self.features(samples),
            self.train,
            self.train_features,
            frontier=self.control_frontier(name),
        )
        return Result(self.controls[name], exhibit)

    def draw(self, generator: Generator) -> Drawn:
        """What the scores are computed from: n samples, and the likelihood of the held-out items.

        Raises:
            UserError: it is of another modality than the data.
        """
        if generator.modality != self.spec.modality:
            raise UserError(
                f"the generator makes {generator.modality}s, but {self.spec.name} holds {self.spec.modality}s"
            )
        began = time.perf_counter()
        samples = generator.sample(self.n, rng=self._rng("samples"))
        seconds = (time.perf_counter() - began) / self.n
        likelihood = generator.log_likelihood(
            self.dataset.likelihood_items("held_out"),
            rng=self._rng("likelihood"),
            importance_samples=self.protocol.importance_samples,
        )
        continuations = continue_prompts(generator, self.prompts, lambda i: self._rng(f"prompt {i}"))
        return Drawn(samples, likelihood, generator.cost(), seconds, continuations)

    def score(self, drawn: Drawn, *, run: str, kind: str, weights: str) -> Result:
        """Score what a generator has drawn."""
        evidence = self._evidence(drawn)
        rows = self._rows(evidence, drawn.cost, drawn.seconds_per_sample, _Subject(run, kind, weights))
        exhibit = make_exhibit(
            drawn.samples,
            evidence.generated,
            self.train,
            self.train_features,
            continuations=drawn.continuations,
            frontier=evidence.mauve.frontier.tolist(),
        )
        return Result(self._calibrate(rows, self.controls), exhibit)

    def _evidence(self, drawn: Drawn) -> Evidence:
        return Evidence(
            reference=self.reference_features,
            generated=self.features(drawn.samples),
            train=self.train_features,
            known=self.train_features,
            fresh=self.held_out_features,
            classify=self.features.classify,
            samples=drawn.samples,
            training=self.train,
            likelihood=drawn.likelihood,
        )

    def _control_evidence(self, name: str) -> tuple[Evidence, Cost, float]:
        """What a control is scored on, what a sample costs, and the seconds that it takes."""
        if name in CONTROLS:
            drawn = self.draw(CONTROLS[name](self.dataset))
            evidence = self._evidence(drawn)
            if name == "oracle":  # its samples are the held-out items
                known, fresh = stand_in(self.train_features, self.n, self._rng("stand-in"))
                evidence = replace(evidence, known=known, fresh=fresh)
            return evidence, drawn.cost, drawn.seconds_per_sample
        contest = FROM_FEATURES[name](
            self.reference_features, self.train_features, self.held_out_features, rng=self._rng(name)
        )
        evidence = Evidence(
            reference=contest.reference,
            generated=contest.generated,
            train=contest.train,
            known=contest.known,
            fresh=contest.fresh,
            classify=self.features.classify,
            samples=None,
            training=self.train,
            likelihood=None,
        )
        return evidence, Cost(0, 0, 0), 0.0

    def _rows(self, evidence: Evidence, cost: Cost, seconds: float, subject: _Subject) -> list[Score]:
        """Scores without floor and worst."""
        rows = []
        n_real, n_generated = len(evidence.reference), len(evidence.generated)
        for metric in METRICS.values():
            estimate = metric.measure(evidence)
            if estimate is not None and not math.isfinite(estimate.low + estimate.high):
                estimate = None  # too few points in every cell, say: there is no such number
            likelihood = evidence.likelihood if metric.group == "likelihood" else None
            rows.append(
                Score(
                    run=subject.run,
                    generator=subject.generator,
                    modality=self.spec.modality,
                    data=self.spec.name,
                    data_hash=self.spec.content_hash,
                    protocol=self.protocol_name,
                    features=self.features.name,
                    features_hash=self.features.content_hash,
                    metric=metric.name,
                    value=estimate.value if estimate else None,
                    low=estimate.low if estimate else None,
                    high=estimate.high if estimate else None,
                    kind=likelihood.kind if likelihood else "",
                    floor=None,
                    worst=None,
                    null=metric.null(n_real, n_generated),
                    gap_closed=None,
                    gap_low=None,
                    gap_high=None,
                    n_real=n_real,
                    n_generated=n_generated,
                    seed=self.protocol.seed,
                    weights=subject.weights,
                    parameters=cost.parameters,
                    flops_per_sample=cost.flops_per_sample,
                    bytes_per_sample=cost.bytes_per_sample,
                    seconds_per_sample=seconds,
                )
            )
        return rows

    @cached_property
    def shuffled_held_out(self) -> Samples:
        """Some held-out items in a fixed random order, to look at."""
        order = torch.randperm(len(self.held_out), generator=self._rng("shown"))
        return self.held_out[order[:100]]

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The same for every generator of text that can continue one."""
        return prompts(self.shuffled_held_out)

    def raw_control(self, name: str) -> list[Score]:
        """A control's scores without floor and worst, from the cache or measured."""
        try:
            read_frontier(self._frontier_path(name))
            return read_scores(self._scores_path(name))
        except (OSError, ValueError, TypeError):
            pass  # not there, or damaged: measure it
        evidence, cost, seconds = self._control_evidence(name)
        scores = self._rows(evidence, cost, seconds, _Subject(f"control:{name}", name, ""))
        self._scores_path(name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._frontier_path(name), json.dumps(evidence.mauve.frontier.tolist()))
        write_scores(self._scores_path(name), scores)
        return scores

    def control_frontier(self, name: str) -> Frontier:
        """A control's divergence frontier, kept beside its scores."""
        self.raw_control(name)
        return read_frontier(self._frontier_path(name))

    def _scores_path(self, name: str) -> Path:
        key = content_hash(
            VERSION, name, self.spec.content_hash, self.features.content_hash, self.protocol.model_dump_json()
        )
        return self.cache_dir / "controls" / f"{name}-{key[:16]}.jsonl"

    def _frontier_path(self, name: str) -> Path:
        return self._scores_path(name).with_suffix(".frontier.json")

    def _calibrate(self, scores: list[Score], controls: Mapping[str, list[Score]]) -> list[Score]:
        """Set the values of perfect and of useless samples beside each score."""

        def value(control: str, metric: str) -> float | None:
            return next(s.value for s in controls[control] if s.metric == metric)

        calibrated = []
        for score in scores:
            metric = METRICS[score.metric]
            floor, worst = value("oracle", score.metric), value(metric.worst, score.metric)

            def gap(
                x: float | None,
                floor: float | None = floor,
                worst: float | None = worst,
                direction: Direction = metric.direction,
            ) -> float | None:
                return gap_closed(x, floor, worst, direction)

            ends = [g for g in (gap(score.low), gap(score.value), gap(score.high)) if g is not None]
            calibrated.append(
                replace(
                    score,
                    floor=floor,
                    worst=worst,
                    gap_closed=gap(score.value),
                    gap_low=min(ends, default=None),
                    gap_high=max(ends, default=None),
                )
            )
        return calibrated

    def _rng(self, purpose: str) -> torch.Generator:
        """A generator of its own for each purpose, so that one never disturbs another."""
        return torch.Generator().manual_seed(fold(self.protocol.seed, *purpose.encode()))


def read_scores(path: Path) -> list[Score]:
    """The rows of a results.jsonl.

    Raises:
        OSError, ValueError, TypeError: it is missing or damaged.
    """
    return [Score.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def read_frontier(path: Path) -> Frontier:
    """
    Raises:
        OSError, ValueError, TypeError: it is missing or damaged.
    """
    return [(float(x), float(y)) for x, y in json.loads(path.read_text(encoding="utf-8"))]


def write_scores(path: Path, scores: list[Score]) -> None:
    """Write rows, replacing the file whole."""
    write_atomically(path, "".join(json.dumps(score.to_json(), ensure_ascii=False) + "\n" for score in scores))
