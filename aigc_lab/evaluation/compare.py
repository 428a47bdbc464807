"""Scores side by side: one row per generator, columns only where everything about the measurement agrees."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from aigc_lab.errors import UserError
from aigc_lab.evaluation.arguments import CONTROL, PERFECT
from aigc_lab.evaluation.battery import METRICS, Metric, gap_closed
from aigc_lab.evaluation.effort import DRAWING, TYPING, TimeSaved, time_saved
from aigc_lab.evaluation.harness import Harness
from aigc_lab.evaluation.metrics import Estimate, bits_per_byte
from aigc_lab.evaluation.subjects import Evaluated
from aigc_lab.generators import LogLikelihood
from aigc_lab.quality import QUALITY, mean_gap
from aigc_lab.scores import Score

RESAMPLES = 2000

MANY = 0.1
"""Share of memorised samples from which on a generator is said to copy."""


@dataclass(frozen=True)
class Pace:
    """How fast samples were made, all of an evaluation at once.

    Attributes:
        tokens_per_second: None where a sample is not drawn symbol by symbol.
        time_saved: by one sample against a person who types or draws it, as far as it is worth keeping: by
            the smaller of precision, which passes babble that crowds in one place, and coverage.
    """

    samples_per_second: float
    bytes_per_second: float
    tokens_per_second: float | None
    time_saved: TimeSaved

    @classmethod
    def of(cls, scores: Mapping[str, Score]) -> "Pace | None":
        """None for controls that only look something up."""
        score, kept = scores["precision"], min(scores[m].value or 0.0 for m in ("precision", "coverage"))
        if not (score.seconds_per_sample and score.flops_per_sample):
            return None
        rate, n_tokens = 1 / score.seconds_per_sample, score.tokens_per_sample
        text = score.modality == "text"
        units, by_hand = (score.bytes_per_sample, TYPING) if text else (1, DRAWING)
        return cls(
            rate,
            rate * score.bytes_per_sample,
            None if n_tokens is None else rate * n_tokens,
            time_saved(units, score.seconds_per_sample, by_hand, kept=kept),
        )


@dataclass(frozen=True)
class Row:
    """All scores of one generator under one protocol.

    Attributes:
        name: `<experiment>/<id>` or `control:<name>`.
        label: the same, as short as the table allows.
        likelihood: of the held-out items, where it is known.
        selection: what the run's settings were chosen on, where its configuration says so.
    """

    name: str
    label: str
    scores: Mapping[str, Score]
    likelihood: LogLikelihood | None = None
    selection: str | None = None

    @property
    def is_control(self) -> bool:
        return self.name.startswith(CONTROL)

    @property
    def any(self) -> Score:
        return next(iter(self.scores.values()))

    @property
    def pace(self) -> Pace | None:
        return Pace.of(self.scores)

    @property
    def gap_closed(self) -> Estimate | None:
        """Mean over `QUALITY`, in [0, 1]. Its interval is the mean of the intervals' ends, as if all metrics erred
        together: they see the same samples, so no narrower one is sure."""
        return _mean_of({m: (s.gap_closed, s.gap_low, s.gap_high) for m, s in self.scores.items()})

    @property
    def gap_between_controls(self) -> Estimate | None:
        """The same with floor and worst as they are: runs of one table share their errors."""

        def gaps(score: Score) -> tuple[float | None, ...]:
            direction = METRICS[score.metric].direction
            ends = [gap_closed(x, score.floor, score.worst, direction) for x in (score.low, score.high)]
            known = [gap for gap in (score.gap_closed, *ends) if gap is not None]
            return score.gap_closed, min(known, default=None), max(known, default=None)

        return _mean_of({m: gaps(s) for m, s in self.scores.items() if s.gap_closed is not None})


def _mean_of(gaps: Mapping[str, tuple[float | None, ...]]) -> Estimate | None:
    """Of a gap and its ends by metric."""
    value, low, high = (mean_gap({metric: ends[i] for metric, ends in gaps.items()}) for i in range(3))
    return None if value is None or low is None or high is None else Estimate(value, low, high)


@dataclass(frozen=True)
class Flag:
    """Something to beware of in a row.

    Attributes:
        key: of its phrase in the report.
        values: what fills the phrase.
        text: the same in English.
        metrics: what fills {metrics} there: the metrics that say so, each with what stands behind its title.
    """

    key: str
    values: Mapping[str, str]
    text: str
    metrics: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Rank:
    """How firmly a run stands among the others by mean gap closed, when every score is redrawn from its interval.

    Attributes:
        low, high: 95 % of the ranks, 1 is the best.
        first: share of the resamples in which it is the best.
    """

    low: int
    high: int
    first: float


@dataclass(frozen=True)
class Table:
    """Generators that may be compared with each other: same data, protocol, features and seed."""

    rows: list[Row]
    flags: Mapping[str, list[Flag]]
    """What to beware of, by row name."""
    ranks: Mapping[str, Rank]
    """Of the runs, by name, where there are several."""
    differences: Mapping[str, Mapping[str, Estimate]]
    """Score less the baseline run's, by name and metric, `gap_closed` too; empty without a baseline."""
    baseline: str | None = None
    """Its name."""

    @property
    def any(self) -> Score:
        return self.rows[0].any

    @property
    def title(self) -> str:
        s = self.any
        return f"{s.data} · {s.protocol} · features {s.features}"

    @property
    def metrics(self) -> list[Metric]:
        """Those that some generator of the table has, or some model."""

        def has(row: Row, metric: Metric) -> bool:
            return row.scores[metric.name].value is not None and not (metric.of_models and row.is_control)

        return [m for m in METRICS.values() if any(has(row, m) for row in self.rows)]

    @property
    def blind(self) -> Mapping[str, list[str]]:
        """By metric, the faulty controls that it cannot tell from real data or takes for better."""
        by_name = {row.name: row.scores for row in self.rows}
        oracle = by_name[CONTROL + "oracle"]
        return {
            metric.name: [
                row.name.removeprefix(CONTROL)
                for row in self.rows
                if row.is_control
                and row.name.removeprefix(CONTROL) not in PERFECT
                and _at_least_as_good(row.scores[metric.name], oracle[metric.name])
            ]
            for metric in self.metrics
        }

    @property
    def caption(self) -> str:
        s = self.any
        judge = f", judge {s.judge} {s.judge_hash[:10]}" if s.judge else ""
        blind = [METRICS[m].title for m, controls in self.blind.items() if "copycat" in controls]
        return (
            f"{s.n_generated} samples of each generator against {s.n_real} training items, seed {s.seed}; data "
            f"{s.data_hash[:10]}, features {s.features_hash[:10]}{judge}. Floor: the row control:oracle (held-out "
            f"real data). Worst: {self._worst}. Intervals of 95 % are over the samples (recall's and coverage's "
            f"over the real items, those of likelihoods and FLD over the held-out ones), given the others. "
            f"Weights are the last step's, none is chosen by its score. † blind to copying: "
            f"{', '.join(blind) or 'none'}."
            + self._read
            + (f" Held-out data is not quite as the training data is: {', '.join(self.off)}." if self.off else "")
        )

    @property
    def _worst(self) -> str:
        """The control at which each metric has a useless value."""
        titles: dict[str, list[str]] = {}
        for metric in self.metrics:
            if metric.worst not in (None, "noise"):
                titles.setdefault(f"{CONTROL}{metric.worst}", []).append(metric.title)
        return "; ".join([f"{CONTROL}noise", *(f"for {', '.join(t)} {name}" for name, t in titles.items())])

    @property
    def _read(self) -> str:
        """How models that go by symbols read the held-out items."""
        said = [
            f"{row.label} in windows of {score.window} symbols that advance by {score.window // 2}, perplexity "
            f"{score.value:.3g} of a symbol"
            for row in self.rows
            if not row.is_control
            and (score := row.scores["perplexity"]).window is not None
            and score.value is not None
        ]
        rule = "Likelihoods are of every symbol once, from the first on, each window behind the start symbol"
        return f" {rule}, given that the item goes on: {'; '.join(said)}." if said else ""

    @property
    def off(self) -> list[str]:
        """Where held-out data itself does not score what theory expects of the training data's law: gaps are up to
        this split, whose items may depend on each other."""
        oracle = next(row for row in self.rows if row.name == CONTROL + "oracle").scores
        return [
            f"{metric.title} {found.value:.3g} (expected {null:.3g})"
            for metric in self.metrics
            if metric.unbiased
            and (null := oracle[metric.name].null) is not None
            and (found := oracle[metric.name].estimate) is not None
            and not found.low - found.standard_error <= null <= found.high + found.standard_error
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.any.data,
            "protocol": self.any.protocol,
            "blind_to": self.blind,
            "rows": [
                {
                    "name": row.name,
                    "gap_closed": row.gap_closed.value if row.gap_closed else None,
                    "gap_low": row.gap_closed.low if row.gap_closed else None,
                    "gap_high": row.gap_closed.high if row.gap_closed else None,
                    "flags": [flag.text for flag in self.flags.get(row.name, [])],
                    "rank": asdict(self.ranks[row.name]) if row.name in self.ranks else None,
                    "differences": {m: asdict(d) for m, d in self.differences.get(row.name, {}).items()},
                    "selection": row.selection,
                    "pace": asdict(row.pace) if row.pace else None,
                    "scores": [score.to_json() for score in row.scores.values()],
                }
                for row in self.rows
            ],
        }


def tables(evaluated: Sequence[Evaluated], *, baseline: str | None = None) -> list[Table]:
    """One table per group of comparable scores: the subjects in their order, then every control.

    Args:
        baseline: name of the subject that the others of its table are compared with.
    """
    groups: dict[tuple[str, ...], tuple[Harness, list[Evaluated]]] = {}
    for subject in evaluated:
        _, subjects = groups.setdefault(subject.harness.group, (subject.harness, []))
        if subject.run is not None:
            subjects.append(subject)
    found = []
    for harness, subjects in groups.values():
        experiments = Counter(s.name.rpartition("/")[0] for s in subjects)
        rows = {}
        for subject in subjects:
            experiment = subject.name.rpartition("/")[0]
            label = experiment if experiments[experiment] == 1 else subject.name
            selection = subject.run.config().selection if subject.run else None
            scores = _by_metric(subject.result.scores)
            rows[subject.name] = Row(subject.name, label, scores, subject.likelihood, selection)
        found.append(_table([*rows.values(), *_controls(harness)], rows.get(baseline or "")))
    if baseline and not any(table.differences for table in found):
        raise UserError(f"--baseline: {baseline} shares its data and protocol with no other run")
    return found


def control_table(harness: Harness) -> Table:
    """The controls alone."""
    return _table(_controls(harness), None)


def _controls(harness: Harness) -> list[Row]:
    return [Row(CONTROL + name, CONTROL + name, _by_metric(scores)) for name, scores in harness.controls.items()]


def _by_metric(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.metric: score for score in scores}


def _table(rows: list[Row], baseline: Row | None) -> Table:
    oracle = next(row for row in rows if row.name == CONTROL + "oracle")
    runs = [row for row in rows if not row.is_control]
    flags = {row.name: found for row in rows if (found := _flags(row, oracle))}
    others = [row for row in runs if row is not baseline] if baseline else []
    return Table(
        rows,
        flags,
        _ranks(runs) if len(runs) > 1 else {},
        {row.name: _differences(row, baseline) for row in others if baseline},
        baseline.name if baseline else None,
    )


def _differences(row: Row, baseline: Row) -> dict[str, Estimate]:
    """Row less baseline. Both faced the same real items, so intervals over the samples add in squares; the
    likelihoods are of the same items and are compared item by item."""
    pairs = {metric: (score.estimate, baseline.scores[metric].estimate) for metric, score in row.scores.items()}
    pairs["gap_closed"] = row.gap_between_controls, baseline.gap_between_controls
    found = {}
    for metric, (mine, theirs) in pairs.items():
        if mine is not None and theirs is not None:
            error = float(np.hypot(mine.standard_error, theirs.standard_error))
            found[metric] = Estimate.normal(mine.value - theirs.value, error)
    a, b = row.likelihood, baseline.likelihood
    if a is not None and b is not None and a.n_bytes.equal(b.n_bytes):
        found["bits_per_byte"] = bits_per_byte(a.nats - b.nats, a.n_bytes)
    return found


def _ranks(rows: Sequence[Row]) -> dict[str, Rank]:
    """Every score of `QUALITY` is drawn anew from the normal law of its interval, metrics independently."""
    rng = np.random.default_rng(0)
    quality = np.zeros((RESAMPLES, len(rows)))
    for metric in QUALITY:
        for i, row in enumerate(rows):
            score, estimate = row.scores[metric], row.scores[metric].estimate
            if estimate is not None and score.gap_closed is not None:
                draws = rng.normal(estimate.value, estimate.standard_error, RESAMPLES)
                direction = METRICS[metric].direction
                gaps = [gap_closed(float(x), score.floor, score.worst, direction) or 0.0 for x in draws]
                quality[:, i] += gaps
    ranks = 1 + (quality[:, :, None] < quality[:, None, :]).sum(2)
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="nearest")
    first = (ranks == 1).mean(0)
    return {row.name: Rank(int(low[i]), int(high[i]), float(first[i])) for i, row in enumerate(rows)}


def _at_least_as_good(score: Score, floor: Score) -> bool:
    """Whether a score cannot be told from the floor, or is better."""
    found, real = score.estimate, floor.estimate
    if found is None or real is None:
        return False
    below, above = found.low <= real.high, found.high >= real.low
    return {"lower": below, "higher": above, "match": below and above}[METRICS[score.metric].direction]


def _beats(score: Score, floor: Score) -> bool:
    """Whether a score is better than real data's by more than both intervals allow."""
    found, real = score.estimate, floor.estimate
    if found is None or real is None:
        return False
    below, above = found.high < real.low, found.low > real.high
    return {"lower": below, "higher": above, "match": False}[METRICS[score.metric].direction]


def _exceeds(score: Score, other: Score) -> bool:
    """Whether a score is higher by more than both intervals allow."""
    found, real = score.estimate, other.estimate
    return found is not None and real is not None and found.low > real.high


def _copies(row: Row, oracle: Row) -> bool:
    """Whether many samples are memorised, and this is not for crowding where data are dense: blurred or typical
    samples are near to training images too. A mixture at their places explains fresh data well or loses modes; one
    at copies narrows to single points (FLD). A long run of bytes in common with the training text is a copy."""
    memorised = row.scores["memorised"]
    many = memorised.low is not None and memorised.low > MANY and _exceeds(memorised, oracle.scores["memorised"])
    return many and (
        memorised.modality == "text"
        or _exceeds(row.scores["feature_likelihood"], oracle.scores["feature_likelihood"])
    )


def _flags(row: Row, oracle: Row) -> list[Flag]:
    if row.name == oracle.name:
        return []
    flags = []
    nearer = {
        name: f" {found.value:.2f} ({real.value:.2f})"
        for name in ("data_copying", "authenticity")
        if (found := row.scores[name].estimate)
        and (real := oracle.scores[name].estimate)
        and found.high < real.low
    }
    memorised = row.scores["memorised"]
    if nearer and _copies(row, oracle):
        text = f"copies training data: {_titled(nearer)}; real data in brackets"
        flags.append(Flag("flag.copies", {}, text, nearer))
    elif "data_copying" in nearer:  # low authenticity alone says that samples crowd in one place, wherever it is
        text = f"crowds nearer to training data than fresh data does: {_titled(nearer)}; real data in brackets"
        flags.append(Flag("flag.crowds", {}, text, nearer))
    if _exceeds(memorised, oracle.scores["memorised"]):
        share = f"{memorised.value:.0%}"
        text = f"nearer to training items than held-out data is: {share} of the samples"
        flags.append(Flag("flag.memorised", {"share": share}, text))
    if better := {m: "" for m in METRICS if _beats(row.scores[m], oracle.scores[m])}:
        text = f"scores better than fresh real data in {_titled(better)}: read with care"
        flags.append(Flag("flag.better", {}, text, better))
    return flags


def _titled(metrics: Mapping[str, str]) -> str:
    """See `Flag.metrics`."""
    return ", ".join(METRICS[name].title + rest for name, rest in metrics.items())


def to_json(found: Sequence[Table], **more: Any) -> str:
    return json.dumps({"tables": [table.to_json() for table in found], **more}, ensure_ascii=False)
