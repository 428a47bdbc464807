"""Annotated types for constructors. A constructor's annotations are its configuration schema.

`aigc_lab.config` reads them from the source without importing it and checks every value against them,
so a range stands in one place: beside the parameter it limits.
"""

import math
from typing import Annotated

from annotated_types import Ge, Gt, Interval

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Interval(gt=0, lt=math.inf)]
NonNegativeFloat = Annotated[float, Interval(ge=0, lt=math.inf)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
"""At least 0 and less than 1: a dropout rate, a momentum, a share of the data."""

Shape = tuple[int, ...]
"""The shape of one item: (channels, height, width) of an image, (symbols,) of a text."""

Levels = Annotated[int, Interval(ge=2, le=256)]
"""Values that a pixel can take."""

ImageSize = Annotated[int, Interval(ge=4, le=1024)]
"""Side of a square image in pixels."""
