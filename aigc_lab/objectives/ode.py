"""Explicit Runge-Kutta methods with fixed steps for dx/dt = f(x, t).

Each is a function from x at t to x at t + h whose error over a whole interval falls as h^order (Hairer, Nørsett &
Wanner 1993, section II.1). h may be negative.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

Field = Callable[[Tensor, float], Tensor]
"""f(x, t), of the shape of x."""


class Solver(Protocol):
    """One step of a method."""

    order: ClassVar[int]
    """It evaluates f as often as this in a step, too."""

    def __call__(self, f: Field, x: Tensor, t: float, h: float) -> Tensor:
        """x at t + h."""
        ...


@dataclass(frozen=True)
class Euler:
    """x + h f(x, t)."""

    order: ClassVar[int] = 1

    def __call__(self, f: Field, x: Tensor, t: float, h: float) -> Tensor:
        """x at t + h."""
        return x + h * f(x, t)


@dataclass(frozen=True)
class Midpoint:
    """A step with the slope in the middle, where half an Euler step leads."""

    order: ClassVar[int] = 2

    def __call__(self, f: Field, x: Tensor, t: float, h: float) -> Tensor:
        """x at t + h."""
        return x + h * f(x + h / 2 * f(x, t), t + h / 2)


@dataclass(frozen=True)
class Heun:
    """A step with the mean of the slopes at both ends, the second of which an Euler step leads to."""

    order: ClassVar[int] = 2

    def __call__(self, f: Field, x: Tensor, t: float, h: float) -> Tensor:
        """x at t + h."""
        first = f(x, t)
        return x + h / 2 * (first + f(x + h * first, t + h))


@dataclass(frozen=True)
class RungeKutta4:
    """The classical method of four slopes."""

    order: ClassVar[int] = 4

    def __call__(self, f: Field, x: Tensor, t: float, h: float) -> Tensor:
        """x at t + h."""
        first = f(x, t)
        second = f(x + h / 2 * first, t + h / 2)
        third = f(x + h / 2 * second, t + h / 2)
        fourth = f(x + h * third, t + h)
        return x + h / 6 * (first + 2 * second + 2 * third + fourth)


def integrate(solver: Solver, f: Field, x: Tensor, *, begin: float, end: float, n_steps: int) -> Tensor:
    """x at `end` of the solution that is at x at `begin`, in equal steps."""
    h = (end - begin) / n_steps
    for i in range(n_steps):
        x = solver(f, x, begin + i * h, h)
    return x
