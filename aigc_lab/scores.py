"""Rows of results.jsonl. No torch: `aigc runs` reads them too."""

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Interval
from pydantic import ConfigDict, TypeAdapter, ValidationError

from aigc_lab.errors import UserError
from aigc_lab.estimate import Estimate

VERSION = "12"
"""Of the definitions in `battery` and below; raise it when a score would change."""

Count = Annotated[int, Interval(ge=0, lt=2**63)]
"""What SQLite holds."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One row of results.jsonl: a value, what it would be for real data and for useless samples, and how it
    was made.

    Attributes:
        value, low, high: with its 95 % interval; None where the generator has no such number.
        kind: of bits per byte `exact` or `upper bound`, which a lower bound on the likelihood is; else empty.
        window: of a likelihood: how many symbols the model sees at a time; None where it does not go by symbols.
        floor, worst: the values of control:oracle and of the metric's worst control.
        null: the expectation for samples of the very law of the data, where theory gives it.
        gap_closed, gap_low, gap_high: how far from worst to floor, with an interval that has the errors of all
            three; None where these two cannot be told apart.
        weights: which ones sampled: raw or moving average, of which step, and the start of their hash.
        judge, judge_hash: the language model that reads texts; empty for images.
        seconds_per_sample, peak_memory, peak_gpu_memory, kwh_per_sample: see `drawn.Spent`.
    """

    run: str
    generator: str
    modality: str
    data: str
    data_hash: str
    protocol: str
    features: str
    features_hash: str
    judge: str
    judge_hash: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    kind: str
    window: Count | None
    floor: float | None
    worst: float | None
    null: float | None
    gap_closed: float | None
    gap_low: float | None
    gap_high: float | None
    n_real: Count
    n_generated: Count
    seed: Count
    weights: str
    parameters: Count
    flops_per_sample: Count
    bytes_per_sample: Count
    tokens_per_sample: Count | None
    seconds_per_sample: float
    peak_memory: Count | None
    peak_gpu_memory: Count | None
    kwh_per_sample: float | None
    version: str = VERSION

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def estimate(self) -> Estimate | None:
        """The value with its interval."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Estimate(self.value, self.low, self.high)

    @property
    def group(self) -> tuple[str, ...]:
        """What must agree before two scores may stand in one column."""
        return tuple(str(getattr(self, name)) for name in GROUP)

    @property
    def title(self) -> str:
        """The group in words."""
        judge = f" · judge {self.judge} ({self.judge_hash[:8]})" if self.judge else ""
        return f"{self.data} · {self.protocol} · features {self.features} ({self.features_hash[:8]}){judge}"


GROUP = ("data", "data_hash", "protocol", "features", "features_hash", "judge_hash", "seed", "version")
"""The fields that say how a number was made."""


@cache
def _row() -> TypeAdapter[Score]:
    return TypeAdapter(Score)


def read_scores(path: Path) -> list[Score]:
    """The rows of a results.jsonl; none where there is no file.

    Raises:
        UserError: a row is damaged, or of another version's fields.
    """
    found: list[Score] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found.extend(_row().validate_json(line) for line in lines)
        return found
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = f"line {len(found) + 1}: {'.'.join(map(str, first['loc'])) or 'row'}: {first['msg']}"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise UserError(f"{path}: damaged ({reason}); remove it and evaluate again")
