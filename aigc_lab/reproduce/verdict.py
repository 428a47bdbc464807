"""From measured values to a verdict. Numbers in, words out: no file, no torch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from aigc_lab.config.schema import Claim, Claims

Verdict = Literal["holds", "fails", "reported"]

Measured = Mapping[str, Mapping[str, Sequence[float]]]
"""variant -> quantity -> one value per seed."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Judged:
    """A claim and what came of it.

    Attributes:
        bound: what has to hold, in words; empty where nothing has to.
        value: mean over seeds; NaN where one of them is not finite.
        spread: their standard deviation; None for one seed, and where one is not finite.
        interval: 95 % t interval of the mean; None where there is no spread.
        per_seed: the values, in the order of the seeds.
    """

    quantity: str
    variant: str
    minus: str
    published: float | str | None
    source: str
    bound: str
    over: str
    value: float
    spread: float | None
    interval: tuple[float, float] | None
    per_seed: list[float]
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        return vars(self)


def judge(claims: Claims, measured: Measured) -> list[Judged]:
    """Every claim, in order; one about all variants gives a verdict for each.

    Raises:
        KeyError: a claim is about a quantity that was not measured.
    """
    return [_judge_one(claim, name, measured) for claim in claims.judged for name in _about(claim, measured)]


def _about(claim: Claim, measured: Measured) -> Iterator[str]:
    yield from [claim.variant] if claim.variant is not None else measured


def _judge_one(claim: Claim, variant: str, measured: Measured) -> Judged:
    values = list(measured[variant][claim.quantity])
    if claim.minus is not None:
        others = measured[claim.minus][claim.quantity]
        values = [a - b for a, b in zip(values, others, strict=True)]
    mean, spread, interval = _summary(values)
    tested = {"every seed": values, "mean": [mean], "interval": interval or [math.nan]}
    verdict: Verdict = "reported"
    if bound := describe(claim):
        verdict = "holds" if all(_keeps(claim, v) for v in tested[claim.over]) else "fails"
    return Judged(
        quantity=claim.quantity,
        variant=variant,
        minus=claim.minus or "",
        published=claim.published,
        source=claim.source,
        bound=bound,
        over=claim.over,
        value=mean,
        spread=spread,
        interval=interval,
        per_seed=values,
        verdict=verdict,
    )


def _summary(values: Sequence[float]) -> tuple[float, float | None, tuple[float, float] | None]:
    """Mean, spread and interval, as `Judged` has them."""
    if not all(map(math.isfinite, values)):
        return math.nan, None, None
    return fmean(values), stdev(values) if len(values) > 1 else None, t_interval(values)


def _keeps(claim: Claim, value: float) -> bool:
    """Whether a value keeps every bound of the claim; one that is not finite keeps none."""
    low = -math.inf if claim.at_least is None else claim.at_least
    high = math.inf if claim.at_most is None else claim.at_most
    if claim.within is not None:
        assert isinstance(claim.published, float | int), "the schema requires it"
        low, high = max(low, claim.published - claim.within), min(high, claim.published + claim.within)
    return math.isfinite(value) and low <= value <= high


def describe(claim: Claim) -> str:
    """The claim's bounds in words; empty where there are none."""
    parts = []
    if claim.at_least is not None:
        parts.append(f"at least {claim.at_least:g}")
    if claim.at_most is not None:
        parts.append(f"at most {claim.at_most:g}")
    if claim.within is not None:
        parts.append(f"within {claim.within:g}")
    return ", ".join(parts)


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % confidence interval of the mean; None for one value."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half
