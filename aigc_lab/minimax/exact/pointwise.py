"""Float in, float out: functions of tensors that take single numbers too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pointwise:
    """A function of each number in a tensor, and of a float, which goes through float64."""

    of: Callable[[Tensor], Tensor]

    @overload
    def __call__(self, x: float) -> float: ...

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...

    def __call__(self, x: float | Tensor) -> float | Tensor:
        if isinstance(x, float | int):
            return float(self.of(torch.tensor(x, dtype=torch.float64)))
        return self.of(x)
