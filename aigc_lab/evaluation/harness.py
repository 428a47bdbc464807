"""The harness: any generator, its data, a protocol -> scores that stand beside their floor and worst."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from aigc_lab.config.schema import Evaluation, FeatureKind
from aigc_lab.config.targets import build
from aigc_lab.data import Dataset
from aigc_lab.data.samples import Samples, Texts
from aigc_lab.data.splits import content_hash
from aigc_lab.data.stream import fold
from aigc_lab.errors import UserError
from aigc_lab.evaluation.arguments import CONTROL_NAMES
from aigc_lab.evaluation.battery import METRICS, Direction, Evidence, gap_closed
from aigc_lab.evaluation.completions import Prompt, complete, prompts
from aigc_lab.evaluation.controls import ASKED, COMPLETE, CONTROLS, FROM_FEATURES, stand_in
from aigc_lab.evaluation.drawn import Drawn, Spent
from aigc_lab.evaluation.effort import measure
from aigc_lab.evaluation.exhibit import Exhibit, Frontier, make_exhibit
from aigc_lab.evaluation.features import Extractor, Features
from aigc_lab.evaluation.metrics import Estimate, FeatureLikelihood
from aigc_lab.evaluation.reading import JUDGED, Reading, bits_per_byte_of_each, common_length, longest_runs
from aigc_lab.evaluation.safety import Pair, Safety, pronoun_pairs
from aigc_lab.files import write_atomically
from aigc_lab.generators import ClassConditional, Cost, Generator
from aigc_lab.scores import VERSION, Score, read_scores

MINIMUM = 20
"""Fewer samples than this say nothing."""


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
        if self.spec.modality in JUDGED_ELSEWHERE:
            raise UserError(f"{self.spec.name}: {JUDGED_ELSEWHERE[self.spec.modality]}")
        self.train, self.held_out = dataset.real("train"), dataset.real("held_out")
        self.n = min(protocol.n, len(self.held_out), len(self.train) // 2)
        if self.n < MINIMUM:
            raise UserError(
                f"evaluation: {self.n} samples are too few to score; {self.spec.name} has {len(self.held_out)} "
                f"held-out and {len(self.train)} training items and evaluation.n={protocol.n}"
            )

    @property
    def protocol_name(self) -> str:
        """The protocol with the number of samples, and of real items, which the data may limit: standard@10k."""
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
        assert modality != "points" and modality != "pairs"  # see JUDGED_ELSEWHERE
        kind: FeatureKind = "unlabelled_image" if modality == "image" and self.spec.n_classes < 2 else modality
        return self._fitted(self.protocol.features[kind], f"evaluation.features.{kind}")

    def _fitted(self, extractor: Mapping[str, Any], path: str) -> Features:
        built: Extractor = build(extractor, path=path)
        try:
            return built.fit(self.dataset, self.cache_dir)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @cached_property
    def judge(self) -> Features | None:
        """The language model that reads texts; None for images.

        Raises:
            UserError: what is configured is no language model.
        """
        if self.spec.modality != "text":
            return None
        fitted = self._fitted(self.protocol.judge, "evaluation.judge")
        if fitted.judge is None:
            raise UserError(
                f"evaluation.judge: {self.protocol.judge['_target_'].rpartition('.')[2]} is no language model; "
                "use evaluation/features/text@evaluation.judge=byte_transformer or causal_lm"
            )
        return fitted

    @cached_property
    def train_features(self) -> Tensor:
        """Of the whole training split, kept: it is by far the most that an evaluation looks at."""
        key = content_hash(self.spec.content_hash, self.features.content_hash)
        path = self.cache_dir / "features" / f"train-{key[:16]}.safetensors"
        try:
            return safetensors.torch.load_file(path)["features"]
        except (OSError, SafetensorError, KeyError):
            features = self.features(self.train)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, safetensors.torch.save({"features": features.contiguous()}))
            return features

    @cached_property
    def reference_features(self) -> Tensor:
        """Of the training items that generated ones are compared with: as many, in a fixed random order. (Metrics
        of copying look at the whole training split.)"""
        return self.train_features[self._reference_order[: self.n]]

    @cached_property
    def _reference_order(self) -> Tensor:
        return torch.randperm(len(self.train), generator=self._rng("reference"))

    @cached_property
    def _real_bits(self) -> Tensor:
        """The judge's bits per byte of each of some training passages."""
        assert self.judge and self.judge.judge and isinstance(self.train, Texts)
        return bits_per_byte_of_each(self.judge.judge, self.train[self._reference_order[:JUDGED]].passages)

    @cached_property
    def _held_out_runs(self) -> Tensor:
        assert isinstance(self.held_out, Texts) and isinstance(self.train, Texts)
        return longest_runs(self.held_out.passages, self.train)

    @cached_property
    def _n_words(self) -> int:
        assert isinstance(self.held_out, Texts)
        return common_length(self.held_out.passages)

    @cached_property
    def held_out_features(self) -> Tensor:
        """Of n held-out items in a fixed random order."""
        return self.features(self.held_out[self._held_out_order])

    @cached_property
    def held_out_classes(self) -> Tensor:
        """The classes of these items, int64 [n]."""
        labels = self.dataset.labels("held_out")
        assert labels is not None
        return labels[self._held_out_order]

    @cached_property
    def _held_out_order(self) -> Tensor:
        return torch.randperm(len(self.held_out), generator=self._rng("fresh"))[: self.n]

    @cached_property
    def controls(self) -> Mapping[str, list[Score]]:
        """Every control's scores, by name."""
        raw = {name: self.raw_control(name) for name in CONTROL_NAMES}
        return {name: self._calibrate(scores, raw) for name, scores in raw.items()}

    def at(self, n: int) -> "Harness":
        """The same with fewer samples, real and generated."""
        smaller = Harness(self.dataset, self.protocol.model_copy(update={"n": n}), self.cache_dir)
        smaller.features, smaller.judge = self.features, self.judge
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
        rng, asked = self._rng("samples"), None
        if isinstance(generator, ClassConditional) and generator.takes_classes:
            asked = classes = generator.draw_classes(self.n, rng=rng)
            samples, effort = measure(lambda: generator.sample_classes(classes, rng=rng))
        else:
            samples, effort = measure(lambda: generator.sample(self.n, rng=rng))
        likelihood = generator.log_likelihood(
            self.dataset.likelihood_items("held_out"),
            rng=self._rng("likelihood"),
            importance_samples=self.protocol.importance_samples,
        )
        return Drawn(
            samples,
            likelihood,
            generator.cost(),
            Spent.of(effort, self.n),
            generator.log_likelihood(samples, rng=self._rng("own")) if isinstance(samples, Texts) else None,
            complete(generator, self.prompts, self._rng("prompts")),
            self._pronouns(generator),
            asked,
        )

    def _pronouns(self, generator: Generator) -> Tensor | None:
        """See `Reading`; None where the training text hardly has the two words, or the generator cannot spell
        the templates or has no likelihood, or one that is too noisy."""
        if not isinstance(self.train, Texts):
            return None
        pairs = pronoun_pairs()
        if min(sum(text.count(word) for text in self.train.passages) for word in _words_of(pairs)) < ENOUGH:
            return None
        try:
            first, second = (
                generator.log_likelihood(Texts([p.given + word(p) for p in pairs]), rng=self._rng("pronouns"))
                for word in (lambda p: p.first, lambda p: p.second)
            )
        except ValueError:  # a character is not in its vocabulary
            return None
        if not first or not second or first.is_estimate:
            return None
        return first.nats - second.nats  # log p(given) is in both

    def score(self, drawn: Drawn, *, run: str, kind: str, weights: str) -> Result:
        """Score what a generator has drawn."""
        evidence = self._evidence(drawn)
        rows = self._rows(evidence, drawn.cost, drawn.spent, _Subject(run, kind, weights))
        exhibit = make_exhibit(
            drawn.samples,
            evidence.generated,
            self.train,
            self.train_features,
            completions=drawn.completions,
            frontier=evidence.mauve.frontier.tolist(),
            safety=_safety(evidence),
        )
        return Result(self._calibrate(rows, self.controls), exhibit)

    def _evidence(self, drawn: Drawn) -> Evidence:
        return Evidence(
            reference=self.reference_features,
            generated=self.features(drawn.samples),
            train=self.train_features,
            known=self.train_features,
            fresh=self.held_out_features,
            feature_likelihood=self._feature_likelihood(self.train_features, self.held_out_features),
            classify=self.features.classify,
            asked=drawn.asked,
            likelihood=drawn.likelihood,
            reading=self._reading(drawn),
            clip=self.features.clip,
        )

    def _feature_likelihood(self, known: Tensor, fresh: Tensor) -> FeatureLikelihood:
        """Its own mixture is fitted once for all that face the training and the held-out split."""
        if known is self.train_features and fresh is self.held_out_features:
            return self._common_feature_likelihood
        return FeatureLikelihood(known, fresh, self.n)

    @cached_property
    def _common_feature_likelihood(self) -> FeatureLikelihood:
        return FeatureLikelihood(self.train_features, self.held_out_features, self.n)

    def _reading(self, drawn: Drawn) -> Reading | None:
        if not isinstance(drawn.samples, Texts):
            return None
        assert isinstance(self.train, Texts) and self.judge and self.judge.judge
        return Reading(
            passages=drawn.samples.passages,
            training=self.train,
            judge=self.judge.judge,
            real_bits=self._real_bits,
            held_out_runs=self._held_out_runs,
            n_words=self._n_words,
            own=drawn.own,
            held_out=drawn.likelihood,
            completions=drawn.completions,
            pronouns=drawn.pronouns,
        )

    def _control_evidence(self, name: str) -> tuple[Evidence, Cost, Spent]:
        """What a control is scored on, and what a sample costs."""
        if name in CONTROLS:
            drawn = self.draw(CONTROLS[name](self.dataset))
            if name in COMPLETE:
                drawn = replace(drawn, completions=COMPLETE[name](self.prompts, drawn.samples))
            if name in ASKED:
                drawn = replace(drawn, asked=ASKED[name](self.dataset, self.n, self._rng("samples")))
            evidence = self._evidence(drawn)
            if name == "oracle":  # its samples are the held-out items
                known, fresh = stand_in(self.train_features, self.n, self._rng("stand-in"))
                evidence = replace(
                    evidence,
                    known=known,
                    fresh=fresh,
                    feature_likelihood=self._feature_likelihood(known, fresh),
                )
            return evidence, drawn.cost, drawn.spent
        contest = FROM_FEATURES[name](
            self.reference_features, self.train_features, self.held_out_features, rng=self._rng(name)
        )
        evidence = Evidence(
            reference=contest.reference,
            generated=contest.generated,
            train=contest.train,
            known=contest.known,
            fresh=contest.fresh,
            feature_likelihood=self._feature_likelihood(contest.known, contest.fresh),
            classify=self.features.classify,
            asked=None,
            likelihood=None,
            reading=None,
            clip=self.features.clip,
        )
        return evidence, Cost(0, 0, 0), Spent(0.0)

    def _rows(self, evidence: Evidence, cost: Cost, spent: Spent, subject: _Subject) -> list[Score]:
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
                    judge=self.judge.name if self.judge else "",
                    judge_hash=self.judge.content_hash if self.judge else "",
                    metric=metric.name,
                    value=estimate.value if estimate else None,
                    low=estimate.low if estimate else None,
                    high=estimate.high if estimate else None,
                    kind=KINDS[likelihood.kind] if likelihood else "",
                    window=likelihood.window if likelihood else None,
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
                    tokens_per_sample=cost.tokens_per_sample,
                    seconds_per_sample=spent.seconds,
                    peak_memory=spent.peak_memory,
                    peak_gpu_memory=spent.peak_gpu_memory,
                    kwh_per_sample=spent.kwh,
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
            known = read_scores(self._scores_path(name))
            if {score.metric for score in known} == set(METRICS):
                return known
        except (OSError, ValueError, TypeError, RecursionError, UserError):
            pass  # not there, or damaged: measure it
        evidence, cost, spent = self._control_evidence(name)
        scores = self._rows(evidence, cost, spent, _Subject(f"control:{name}", name, ""))
        self._scores_path(name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._frontier_path(name), json.dumps(evidence.mauve.frontier.tolist()))
        write_scores(self._scores_path(name), scores)
        return scores

    def control_frontier(self, name: str) -> Frontier:
        """A control's divergence frontier, kept beside its scores."""
        self.raw_control(name)
        return read_frontier(self._frontier_path(name))

    def _scores_path(self, name: str) -> Path:
        judge = self.judge.content_hash if self.judge else ""
        made_of = (self.spec.content_hash, self.features.content_hash, judge, self.protocol.model_dump_json())
        key = content_hash(VERSION, name, *made_of)
        return self.cache_dir / "controls" / f"{name}-{key[:16]}.jsonl"

    def _frontier_path(self, name: str) -> Path:
        return self._scores_path(name).with_suffix(".frontier.json")

    def _calibrate(self, scores: list[Score], controls: Mapping[str, list[Score]]) -> list[Score]:
        """Set the values of perfect and of useless samples beside each score."""

        def of(control: str, metric: str) -> Score:
            return next(s for s in controls[control] if s.metric == metric)

        calibrated = []
        for score in scores:
            metric = METRICS[score.metric]
            best, useless = of("oracle", metric.name), of(metric.worst, metric.name) if metric.worst else None
            gap = _gap(score, best, useless, metric.direction) if useless and not _overlap(best, useless) else None
            calibrated.append(
                replace(
                    score,
                    floor=best.value,
                    worst=useless.value if useless else None,
                    gap_closed=gap.value if gap else None,
                    gap_low=gap.low if gap else None,
                    gap_high=gap.high if gap else None,
                )
            )
        return calibrated

    def _rng(self, purpose: str) -> torch.Generator:
        """A generator of its own for each purpose, so that one never disturbs another."""
        return torch.Generator().manual_seed(fold(self.protocol.seed, *purpose.encode()))


JUDGED_ELSEWHERE = {
    "points": "points have a known density; judge them with `aigc reproduce`",
    "pairs": "an answer to a source is right or wrong; judge answers with `aigc reproduce`, as text/translate_toy "
    "does, or look at them with `aigc sample`",
}
"""Modalities without protocol, and what does for them."""

KINDS = {"exact": "exact", "lower bound": "upper bound"}
"""What a likelihood's kind is for the bits that it is reported in."""

ENOUGH = 20
"""Times that a word has to stand in the training text before a model is asked about it."""


def _overlap(a: Score, b: Score) -> bool:
    """Whether two intervals share a value."""
    first, second = a.estimate, b.estimate
    return first is not None and second is not None and first.low <= second.high and second.low <= first.high


def _gap(score: Score, best: Score, useless: Score, direction: Direction) -> Estimate | None:
    """The gap closed. Value, floor and worst are of different samples: what each of them alone moves the gap by
    adds in squares, downwards and upwards. (A control that is the floor or the worst has one error, not two.)"""
    parts = {"value": score, "floor": best, "worst": useless}
    at = {name: part.value for name, part in parts.items()}
    gap = gap_closed(**at, direction=direction)
    if gap is None:
        return None
    below, above = 0.0, 0.0
    for name, part in parts.items():
        if name == "value" or part.run != score.run:
            ends = [gap_closed(**{**at, name: end}, direction=direction) for end in (part.low, part.high)]
            moved = [end - gap for end in ends if end is not None]
            below = math.hypot(below, min(0.0, *moved))
            above = math.hypot(above, max(0.0, *moved))
    return Estimate(gap, gap - below, gap + above).within(0, 1)


def _words_of(pairs: Sequence[Pair]) -> set[bytes]:
    return {word for pair in pairs for word in (pair.first, pair.second)}


def _safety(evidence: Evidence) -> Safety:
    reading = evidence.reading
    return Safety.of(evidence.memorised, reading.personal if reading else {}, reading.bias if reading else None)


def read_frontier(path: Path) -> Frontier:
    """
    Raises:
        OSError, ValueError, TypeError: it is missing or damaged.
    """
    return [(float(x), float(y)) for x, y in json.loads(path.read_text(encoding="utf-8"))]


def write_scores(path: Path, scores: list[Score]) -> None:
    """Write rows, replacing the file whole."""
    write_atomically(path, "".join(json.dumps(score.to_json(), ensure_ascii=False) + "\n" for score in scores))
