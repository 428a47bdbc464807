"""Annotated types for constructors. A constructor's annotations are its configuration schema.

`aigc_lab.config` reads them from the source without importing it and checks every value against them,
so a range stands in one place: beside the parameter it limits.
"""

import math
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, Len
from pydantic import BeforeValidator


def _no_bool(value: Any) -> Any:
    """Python counts True as 1; somebody who writes `max_steps=true` does not mean one step."""
    if isinstance(value, bool):
        raise ValueError("should be a number, not true or false")
    return value


_Number = BeforeValidator(_no_bool)

PositiveInt = Annotated[int, Gt(0), _Number]
NonNegativeInt = Annotated[int, Ge(0), _Number]
PositiveFloat = Annotated[float, Interval(gt=0, lt=math.inf), _Number]
NonNegativeFloat = Annotated[float, Interval(ge=0, lt=math.inf), _Number]
Fraction = Annotated[float, Interval(ge=0, lt=1), _Number]
"""At least 0 and less than 1: a dropout rate, a momentum, a share of the data."""

Share = Annotated[float, Interval(ge=0, le=1), _Number]
"""At least 0 and at most 1."""

Lengths = Annotated[list[PositiveInt], Len(1)]
"""At least one positive whole number."""

Shape = tuple[int, ...]
"""The shape of one item: (channels, height, width) of an image, (symbols,) of a text."""

Levels = Annotated[int, Interval(ge=2, le=256)]
"""Values that a pixel can take."""

ImageSize = Annotated[int, Interval(ge=4, le=1024)]
"""Side of a square image in pixels."""

VocabularySize = Annotated[int, Interval(ge=256, le=1 << 24), _Number]
"""Symbols of a subword tokenizer, the 256 bytes among them."""
