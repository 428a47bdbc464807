"""A number and how sure of it one may be."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `aigc runs` does without torch
    from torch import Tensor

Z95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.value

    @property
    def standard_error(self) -> float:
        """Of the normal law whose interval this is."""
        return (self.high - self.low) / (2 * Z95)

    @classmethod
    def normal(cls, value: float, standard_error: float) -> "Estimate":
        return cls(value, value - Z95 * standard_error, value + Z95 * standard_error)

    @classmethod
    def unknown(cls) -> "Estimate":
        """Of what nothing is known: nan, anywhere."""
        return cls.normal(math.nan, math.inf)

    @classmethod
    def mean_of(cls, values: "Tensor") -> "Estimate":
        """The mean of one value per item, and its standard error."""
        values = values.double()
        return cls.linear(float(values.mean()), values)

    @classmethod
    def share(cls, count: int, of: int) -> "Estimate":
        """A proportion with Wilson's (1927) interval, which is no point at 0 and at 1; of none, unknown."""
        if not of:
            return cls.unknown()
        p, z2 = count / of, Z95**2
        middle = (p + z2 / (2 * of)) / (1 + z2 / of)
        half = Z95 * math.sqrt(p * (1 - p) / of + z2 / (4 * of**2)) / (1 + z2 / of)
        return cls(p, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)))

    def within(self, least: float, most: float) -> "Estimate":
        """The same where no value lies outside [least, most]: the interval is cut there."""
        return Estimate(self.value, max(self.low, least), min(self.high, most))

    @classmethod
    def share_of(cls, hits: "Tensor") -> "Estimate":
        """The proportion that is true, of a boolean tensor [n]; see `share`."""
        return cls.share(int(hits.sum()), len(hits))

    @classmethod
    def linear(cls, value: float, *influences: "Tensor") -> "Estimate":
        """A statistic, and the standard error of what each item adds to it to first order, one tensor [n] per
        sample: the answer of infinitely many bootstrap resamples to a statistic that is as good as linear,
        without resampling (the infinitesimal jackknife, Efron 1982, section 6.2)."""
        if min(len(i) for i in influences) < 2:
            return cls.normal(value, math.inf)
        return cls.normal(value, math.sqrt(sum(float(i.double().var()) / len(i) for i in influences)))
