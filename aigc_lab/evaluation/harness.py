"""The harness: any generator, its data, a protocol -> scores that stand beside their floor and worst."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from aigc_lab.config.schema import Evaluation, FeatureKind
from aigc_lab.config.targets import build
from aigc_lab.data import Dataset
from aigc_lab.data.samples import Samples
from aigc_lab.data.splits import content_hash
from aigc_lab.data.stream import fold
from aigc_lab.errors import UserError
from aigc_lab.evaluation import metrics
from aigc_lab.evaluation.controls import CONTROLS
from aigc_lab.evaluation.exhibit import Exhibit, make_exhibit
from aigc_lab.evaluation.features import Features
from aigc_lab.evaluation.metrics import Estimate
from aigc_lab.files import write_atomically
from aigc_lab.generators import Generator

Direction = Literal["lower", "higher", "match"]

VERSION = "2"
"""Of the definitions below; raise it when a score would change."""


@dataclass(frozen=True)
class Metric:
    """How a number is read.

    Attributes:
        direction: `lower` or `higher` is better, or `match`: the closer to the floor, the better.
        null: the value for samples of the very law of the data, where it is known.
        worst: the control that shows a useless value.
    """

    name: str
    direction: Direction
    null: float | None
    worst: str = "noise"


METRICS: Mapping[str, Metric] = {
    m.name: m
    for m in (
        Metric("bits_per_byte", "lower", None),
        Metric("frechet", "lower", 0.0),
        Metric("precision", "higher", None),
        Metric("recall", "higher", None),
        Metric("density", "match", 1.0),
        Metric("coverage", "higher", None),
        Metric("nn_accuracy", "match", 0.5),
        Metric("authenticity", "match", None, worst="copycat"),
    )
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One row of results.jsonl: a value, what it would be for real data and for useless samples, and how it
    was made. `kind` is `exact` or `lower bound` for a likelihood and empty otherwise; a bound on the
    likelihood is an upper bound in bits. `value` is None where the generator has no such number.
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
    gap_closed: float | None
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
        self.train, self.held_out = dataset.real("train"), dataset.real("held_out")
        self.n = min(protocol.n, len(self.held_out))
        if self.n < 20:
            raise UserError(
                f"evaluation: {self.n} samples are too few to score; {self.spec.name} has {len(self.held_out)} "
                f"held-out items and evaluation.n={protocol.n}"
            )

    @property
    def protocol_name(self) -> str:
        k = self.protocol.importance_samples  # a tighter bound is another number
        return f"{self.protocol.name}@{self.n}" + (f"+iw{k}" if k > 1 else "")

    @property
    def group(self) -> tuple[str, ...]:
        """What every score of this harness shares; see `Score.group`."""
        return self.controls["oracle"][0].group

    @cached_property
    def features(self) -> Features:
        modality, unlabelled = self.spec.modality, self.spec.n_classes < 2
        if modality == "points":
            raise UserError(f"{self.spec.name}: points have a known density; judge them with `aigc reproduce`")
        kind: FeatureKind = "unlabelled_image" if modality == "image" and unlabelled else modality
        return build(self.protocol.features[kind], path=f"evaluation.features.{kind}").fit(
            self.dataset, self.cache_dir
        )

    @cached_property
    def train_features(self) -> Tensor:
        return self.features(self.train)

    @cached_property
    def controls(self) -> Mapping[str, list[Score]]:
        """Every control's scores, by name."""
        raw = {name: self._cached_control(name) for name in CONTROLS}
        return {name: self._calibrate(scores, raw) for name, scores in raw.items()}

    def score_control(self, name: str) -> Result:
        """A control's scores, and something to look at."""
        samples = CONTROLS[name](self.dataset).sample(self.n, rng=self._rng("samples"))
        return Result(self.controls[name], self._exhibit(samples, self.features(samples)))

    def score(self, generator: Generator, *, run: str, kind: str, weights: str) -> Result:
        """Score a generator.

        Raises:
            UserError: it is of another modality than the data.
        """
        if generator.modality != self.spec.modality:
            raise UserError(
                f"{run}: makes {generator.modality}s, but {self.spec.name} holds {self.spec.modality}s"
            )
        scores, samples, points = self._measure(generator, _Subject(run, kind, weights))
        return Result(self._calibrate(scores, self.controls), self._exhibit(samples, points))

    def _measure(self, generator: Generator, subject: _Subject) -> tuple[list[Score], Samples, Tensor]:
        """Scores without floor and worst, and the samples with their features."""
        began = time.perf_counter()
        samples = generator.sample(self.n, rng=self._rng("samples"))
        seconds = (time.perf_counter() - began) / self.n
        points = self.features(samples)
        estimates = self._distances(points)
        likelihood = generator.log_likelihood(
            self.dataset.likelihood_items("held_out"),
            rng=self._rng("likelihood"),
            importance_samples=self.protocol.importance_samples,
        )
        kind = ""
        if likelihood is not None:
            estimates["bits_per_byte"] = _bits_per_byte(likelihood.nats, likelihood.n_bytes)
            kind = likelihood.kind
        cost = generator.cost()

        def row(metric: str) -> Score:
            estimate = estimates.get(metric)
            return Score(
                run=subject.run,
                generator=subject.generator,
                modality=self.spec.modality,
                data=self.spec.name,
                data_hash=self.spec.content_hash,
                protocol=self.protocol_name,
                features=self.features.name,
                features_hash=self.features.content_hash,
                metric=metric,
                value=estimate.value if estimate else None,
                low=estimate.low if estimate else None,
                high=estimate.high if estimate else None,
                kind=kind if metric == "bits_per_byte" else "",
                floor=None,
                worst=None,
                gap_closed=None,
                n_real=len(self.reference),
                n_generated=self.n,
                seed=self.protocol.seed,
                weights=subject.weights,
                parameters=cost.parameters,
                flops_per_sample=cost.flops_per_sample,
                bytes_per_sample=cost.bytes_per_sample,
                seconds_per_sample=seconds,
            )

        return [row(metric) for metric in METRICS], samples, points

    def _exhibit(self, samples: Samples, points: Tensor) -> Exhibit:
        return make_exhibit(samples, points, self.train, self.train_features)

    def _distances(self, points: Tensor) -> dict[str, Estimate]:
        real = self.train_features[self.reference]
        manifold = metrics.manifold(real, points)
        return {
            "frechet": metrics.frechet_distance(real, points),
            "precision": manifold.precision,
            "recall": manifold.recall,
            "density": manifold.density,
            "coverage": manifold.coverage,
            "nn_accuracy": metrics.two_sample_accuracy(real, points),
            "authenticity": metrics.authenticity(self.train_features, points),
        }

    @cached_property
    def reference(self) -> Tensor:
        """Indices of the training items that generated ones are compared with: at most evaluation.n, in a fixed
        random order. (Authenticity looks at the whole training split.)"""
        return torch.randperm(len(self.train), generator=self._rng("reference"))[: self.protocol.n]

    @cached_property
    def shuffled_held_out(self) -> Samples:
        """Some held-out items in a fixed random order, to look at."""
        order = torch.randperm(len(self.held_out), generator=self._rng("shown"))
        return self.held_out[order[:100]]

    def _cached_control(self, name: str) -> list[Score]:
        key = content_hash(
            VERSION, name, self.spec.content_hash, self.features.content_hash, self.protocol.model_dump_json()
        )
        path = self.cache_dir / "controls" / f"{name}-{key[:16]}.jsonl"
        try:
            return read_scores(path)
        except (OSError, ValueError, TypeError):
            pass  # not there, or damaged: measure it
        scores, _, _ = self._measure(CONTROLS[name](self.dataset), _Subject(f"control:{name}", name, ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_scores(path, scores)
        return scores

    def _calibrate(self, scores: list[Score], controls: Mapping[str, list[Score]]) -> list[Score]:
        """Set the values of perfect and of useless samples beside each score."""

        def value(control: str, metric: str) -> float | None:
            return next(s.value for s in controls[control] if s.metric == metric)

        calibrated = []
        for score in scores:
            metric = METRICS[score.metric]
            floor, worst = value("oracle", score.metric), value(metric.worst, score.metric)
            gap = gap_closed(score.value, floor, worst, metric.direction)
            calibrated.append(replace(score, floor=floor, worst=worst, gap_closed=gap))
        return calibrated

    def _rng(self, purpose: str) -> torch.Generator:
        """A generator of its own for each purpose, so that one never disturbs another."""
        return torch.Generator().manual_seed(fold(self.protocol.seed, *purpose.encode()))


def gap_closed(
    value: float | None, floor: float | None, worst: float | None, direction: Direction
) -> float | None:
    """How far a value has come from useless (0) to the floor (1), in [0, 1]; None where one is unknown.

    (worst - value) / (worst - floor); for `match`, 1 - |value - floor| / |worst - floor|.
    """
    if value is None or floor is None or worst is None or floor == worst:
        return None
    gap = (
        1 - abs(value - floor) / abs(worst - floor) if direction == "match" else (worst - value) / (worst - floor)
    )
    return min(1.0, max(0.0, gap))


def _bits_per_byte(nats: Tensor, n_bytes: Tensor) -> Estimate:
    """-Σ nats / (ln 2 · Σ bytes) with the standard error of a ratio of sums (delta method over items)."""
    bits, size = -nats / math.log(2), n_bytes.double()
    value = float(bits.sum() / size.sum())
    residuals = bits - value * size
    n = len(bits)
    error = math.sqrt(n / max(1, n - 1) * float(residuals.square().sum())) / float(size.sum())
    return Estimate.normal(value, error)


def read_scores(path: Path) -> list[Score]:
    """The rows of a results.jsonl.

    Raises:
        OSError, ValueError, TypeError: it is missing or damaged.
    """
    return [Score.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def write_scores(path: Path, scores: list[Score]) -> None:
    """Write rows, replacing the file whole."""
    write_atomically(path, "".join(json.dumps(score.to_json(), ensure_ascii=False) + "\n" for score in scores))
