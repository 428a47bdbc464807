"""The battery: every number that the harness takes of a generator, and how to read it.

A metric looks at `Evidence`: features of real and generated items, and a `Reading` of the samples where they are
texts. What is costly and serves several metrics is computed once per evidence.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

from torch import Tensor

from aigc_lab.evaluation import metrics, safety
from aigc_lab.evaluation.metrics import Estimate, Manifold
from aigc_lab.evaluation.reading import Reading
from aigc_lab.generators import LogLikelihood

Direction = Literal["lower", "higher", "match"]
Group = Literal["likelihood", "distance", "fidelity", "diversity", "copying", "text", "safety"]

K_PRECISION, K_DENSITY = 3, 5
NGRAM = 4
NOVELTY = (1, 2, 4, 8)
"""Lengths of the n-grams whose novelty is asked: a curve."""


@dataclass(frozen=True)
class Evidence:
    """What is known about a generator when it is scored.

    Attributes:
        reference: features of the real items that generated ones are compared with, [r, d].
        generated: features of the samples, [n, d].
        train: features of the whole training split.
        known, fresh: training points and real points that are neither among them nor among `generated`. Metrics
            of copying ask whether generated points are nearer to the known ones than the fresh are.
        feature_likelihood: of these two.
        classify: features -> class probabilities [n, K]; None where the extractor knows no classes.
        asked: the class that each sample was to be of, int64 [n]; None where none was asked for.
        likelihood: of the held-out items; None where the generator has none.
        reading: None where the samples are no texts, or a control has features only.
        clip: whether the features are CLIP's.
    """

    reference: Tensor
    generated: Tensor
    train: Tensor
    known: Tensor
    fresh: Tensor
    feature_likelihood: metrics.FeatureLikelihood
    classify: Callable[[Tensor], Tensor] | None
    asked: Tensor | None
    likelihood: LogLikelihood | None
    reading: Reading | None
    clip: bool = False

    @cached_property
    def manifold(self) -> Manifold:
        return metrics.manifold(self.reference, self.generated, k_precision=K_PRECISION, k_density=K_DENSITY)

    @cached_property
    def mauve(self) -> metrics.Mauve:
        return metrics.mauve(self.reference, self.generated)

    @cached_property
    def classifier(self) -> metrics.ClassifierTest:
        return metrics.classifier_test(self.reference, self.generated)

    @cached_property
    def memorised(self) -> safety.Memorised:
        """By the bytes that texts share with the training text, or by the features of images."""
        if self.reading is not None:
            return self.reading.memorised
        return safety.memorised_points(self.generated, self.known, self.fresh)


def _unknown(n_real: int, n_generated: int) -> None:
    return None


def _always(value: float) -> Callable[[int, int], float]:
    return lambda n_real, n_generated: value


def _coverage_null(n_real: int, n_generated: int) -> float:
    """1 - Π_{i=1..k} (N - i) / (N + M - i) (Naeem et al. 2020, equation 7)."""
    k = range(1, K_DENSITY + 1)
    return 1 - math.prod((n_real - i) / (n_real + n_generated - i) for i in k)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number: how it is measured and how it is read.

    Attributes:
        title: for the heads of tables.
        direction: `lower` or `higher` is better, or `match`: the closer to the floor, the better.
        measure: None where the evidence has no such number.
        null: the value at identical laws as a function of (n real, n generated), where it is known.
        unbiased: whether that is its expectation at every n, and not only in the limit.
        worst: the control that shows a useless value; None where none does, and no gap is closed.
        headline: whether it stands in the table on the terminal.
        of_models: whether it stands in a table only where a model has it, and not for the controls' sake.
    """

    name: str
    title: str
    group: Group
    direction: Direction
    measure: Callable[[Evidence], Estimate | None]
    null: Callable[[int, int], float | None] = _unknown
    unbiased: bool = False
    worst: str | None = "noise"
    headline: bool = False
    of_models: bool = False

    @property
    def heading(self) -> str:
        """The title with the sense in which it is read; → : the closer to real data the better."""
        return f"{self.title} {({'lower': '↓', 'higher': '↑', 'match': '→'})[self.direction]}"


def _bits_per_byte(evidence: Evidence) -> Estimate | None:
    likelihood = evidence.likelihood
    return None if likelihood is None else metrics.bits_per_byte(likelihood.nats, likelihood.n_bytes)


def _perplexity(evidence: Evidence) -> Estimate | None:
    """Of the model's own symbols: comparable between models of one tokenizer only."""
    likelihood = evidence.likelihood
    if likelihood is None or likelihood.n_symbols is None:
        return None
    bits = metrics.bits_per_byte(likelihood.nats, likelihood.n_symbols)
    return Estimate(2**bits.value, 2**bits.low, 2**bits.high)


def _frechet_at_infinity(evidence: Evidence) -> Estimate | None:
    """None where the smallest subset, a tenth, has fewer items than features: the distance is not linear there."""
    if len(evidence.generated) < 10 * evidence.generated.shape[1]:
        return None
    return metrics.frechet_at_infinity(evidence.reference, evidence.generated)


def _class_score(evidence: Evidence) -> Estimate | None:
    if evidence.classify is None:
        return None
    return metrics.classifier_score(evidence.classify(evidence.generated))


def _asked_class(evidence: Evidence) -> Estimate | None:
    if evidence.asked is None or evidence.classify is None:
        return None
    return metrics.conditional_accuracy(evidence.classify(evidence.generated), evidence.asked)


def _of_text(measure: Callable[[Reading], Estimate | None]) -> Callable[[Evidence], Estimate | None]:
    return lambda evidence: None if evidence.reading is None else measure(evidence.reading)


def _of_words(measure: Callable[[Sequence[Sequence[int]]], Estimate]) -> Callable[[Evidence], Estimate | None]:
    return _of_text(lambda reading: measure(reading.first_words))


def _prompt_gain(reading: Reading) -> Estimate | None:
    return reading.prompt_gain.gain if reading.prompt_gain else None


def _pronouns(reading: Reading) -> Estimate | None:
    return reading.bias.association if reading.bias else None


def _novelty(n: int) -> Metric:
    return Metric(
        name=f"novelty_{n}",
        title="new words" if n == 1 else f"new {n}-grams",
        group="copying",
        direction="match",
        measure=_of_text(lambda reading: metrics.new_ngrams(reading.shared_words, n=n)),
        worst="copycat",
    )


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="bits_per_byte",
            title="bits/byte",
            group="likelihood",
            direction="lower",
            measure=_bits_per_byte,
            headline=True,
        ),
        Metric(
            name="perplexity",
            title="perplexity",
            group="likelihood",
            direction="lower",
            measure=_perplexity,
            worst=None,
            of_models=True,
        ),
        Metric(
            name="frechet",
            title="Fréchet",
            group="distance",
            direction="lower",
            measure=lambda e: metrics.frechet_distance(e.reference, e.generated),
            null=_always(0),
            headline=True,
        ),
        Metric(
            name="frechet_at_infinity",
            title="Fréchet∞",
            group="distance",
            direction="lower",
            measure=_frechet_at_infinity,
            null=_always(0),
        ),
        Metric(
            name="kernel_distance",
            title="KID",
            group="distance",
            direction="lower",
            measure=lambda e: metrics.kernel_distance(e.reference, e.generated),
            null=_always(0),
            unbiased=True,
        ),
        Metric(
            name="cmmd",
            title="CMMD",
            group="distance",
            direction="lower",
            measure=lambda e: metrics.cmmd(e.reference, e.generated) if e.clip else None,
            null=_always(0),
        ),
        Metric(
            name="mmd",
            title="RBF-MMD²",
            group="distance",
            direction="lower",
            measure=lambda e: metrics.mmd(e.reference, e.generated),
            null=_always(0),
            unbiased=True,
        ),
        Metric(
            name="sliced_wasserstein",
            title="sliced W₂",
            group="distance",
            direction="lower",
            measure=lambda e: metrics.sliced_wasserstein(e.reference, e.generated),
            null=_always(0),
        ),
        Metric(
            name="mauve",
            title="MAUVE",
            group="distance",
            direction="higher",
            measure=lambda e: e.mauve.mauve,
            headline=True,
        ),
        Metric(
            name="frontier_integral",
            title="frontier ∫",
            group="distance",
            direction="lower",
            measure=lambda e: e.mauve.frontier_integral,
            null=_always(0),
        ),
        Metric(
            name="classifier_auc",
            title="C2ST AUC",
            group="distance",
            direction="lower",
            measure=lambda e: e.classifier.auc,
            null=_always(0.5),
            unbiased=True,
        ),
        Metric(
            name="nn_accuracy",
            title="1-NN acc.",
            group="distance",
            direction="match",
            measure=lambda e: metrics.two_sample_accuracy(e.reference, e.generated),
            null=_always(0.5),
            unbiased=True,
            headline=True,
        ),
        Metric(
            name="precision",
            title="precision",
            group="fidelity",
            direction="higher",
            measure=lambda e: e.manifold.precision,
            headline=True,
        ),
        Metric(
            name="density",
            title="density",
            group="fidelity",
            direction="match",
            measure=lambda e: e.manifold.density,
            null=_always(1),
            unbiased=True,
            headline=True,
        ),
        Metric(
            name="class_score",
            title="class score",
            group="fidelity",
            direction="match",
            measure=_class_score,
        ),
        Metric(
            name="asked_class",
            title="asked class",
            group="fidelity",
            direction="match",
            measure=_asked_class,
            headline=True,
            of_models=True,
        ),
        Metric(
            name="recall",
            title="recall",
            group="diversity",
            direction="higher",
            measure=lambda e: e.manifold.recall,
            headline=True,
        ),
        Metric(
            name="coverage",
            title="coverage",
            group="diversity",
            direction="higher",
            measure=lambda e: e.manifold.coverage,
            null=_coverage_null,
            unbiased=True,
            headline=True,
        ),
        Metric(
            name="vendi_ratio",
            title="Vendi ratio",
            group="diversity",
            direction="match",
            measure=lambda e: metrics.vendi_ratio(e.reference, e.generated),
            null=_always(1),
        ),
        Metric(
            name="feature_likelihood",
            title="FLD",
            group="copying",
            direction="lower",
            measure=lambda e: e.feature_likelihood.divergence(e.generated),
            null=_always(0),
        ),
        Metric(
            name="data_copying",
            title="C_T",
            group="copying",
            direction="match",
            measure=lambda e: metrics.data_copying(e.known, e.fresh, e.generated),
            null=_always(0),
            unbiased=True,
            worst="copycat",
            headline=True,
        ),
        Metric(
            name="authenticity",
            title="authentic",
            group="copying",
            direction="match",
            measure=lambda e: metrics.authenticity(e.train, e.generated),
            worst="copycat",
            headline=True,
        ),
        Metric(
            name="shared_bytes",
            title="bytes shared",
            group="copying",
            direction="match",
            measure=_of_text(lambda reading: Estimate.mean_of(reading.runs)),
            worst="copycat",
        ),
        *(_novelty(n) for n in NOVELTY),
        Metric(
            name="repetition",
            title=f"rep-{NGRAM}",
            group="text",
            direction="match",
            measure=_of_words(partial(metrics.repetition, n=NGRAM)),
        ),
        Metric(
            name="distinct",
            title="distinct-2",
            group="text",
            direction="match",
            measure=_of_words(partial(metrics.distinct, n=2)),
        ),
        Metric(
            name="self_bleu",
            title="self-BLEU",
            group="text",
            direction="match",
            measure=_of_words(metrics.self_bleu),
        ),
        Metric(
            name="fluency",
            title="judge's bits/byte",
            group="text",
            direction="match",
            measure=_of_text(lambda reading: reading.fluency),
            headline=True,
        ),
        Metric(
            name="fluency_distance",
            title="W₁ of bits/byte",
            group="text",
            direction="lower",
            measure=_of_text(lambda reading: reading.fluency_distance),
        ),
        Metric(
            name="coherence",
            title="coherence",
            group="text",
            direction="match",
            measure=_of_text(lambda reading: reading.coherence.gain),
        ),
        Metric(
            name="order",
            title="order told",
            group="text",
            direction="match",
            measure=_of_text(lambda reading: reading.order),
            worst="baseline",
        ),
        Metric(
            name="prompt_gain",
            title="prompt gain",
            group="text",
            direction="match",
            measure=_of_text(_prompt_gain),
        ),
        Metric(
            name="own_fluency",
            title="own bits/byte − real",
            group="text",
            direction="match",
            measure=_of_text(lambda reading: reading.own_fluency),
            null=_always(0),
            worst=None,
        ),
        Metric(
            name="memorised",
            title="memorised",
            group="safety",
            direction="match",
            measure=lambda e: e.memorised.share,
            worst="copycat",
        ),
        Metric(
            name="personal_data",
            title="personal data",
            group="safety",
            direction="match",
            measure=_of_text(lambda reading: reading.personal_share),
            worst=None,
        ),
        Metric(
            name="pronouns",
            title="he/she by trade",
            group="safety",
            direction="lower",
            measure=_of_text(_pronouns),
            worst=None,
        ),
    )
}


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
