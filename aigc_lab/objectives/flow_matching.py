"""Flow matching: learn the velocity that carries noise to data (Lipman et al. 2023, section 4.1).

A flow dx/dt = v(x, t) takes x_0 ~ N(0, I) at t = 0 to data at t = 1. The straight paths of "conditional optimal
transport" from a noise x_0 to an item x_1 have velocities that are known, and v regressed on them is, at its best,
E[u | x_t = x]: the flow whose law at every t is that of x_t.

Shapes: items [B, ...], times [B].
"""

from dataclasses import dataclass

from torch import Tensor

from aigc_lab.types import Fraction, NonNegativeFloat


@dataclass(frozen=True, kw_only=True)
class StraightPath:
    """x_t = (1 - (1 - σ) t) x_0 + t x_1 (Lipman et al. 2023, equation 22); x_1 is blurred by σ at the end.

    Args:
        sigma_min: σ, in the unit of the data.
    """

    sigma_min: Fraction

    def at(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """x_t."""
        t = _beside(t, x_1)
        return (1 - (1 - self.sigma_min) * t) * x_0 + t * x_1

    def velocity(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        """u = dx_t/dt = x_1 - (1 - σ) x_0, the same at every t (equation 23)."""
        return x_1 - (1 - self.sigma_min) * x_0


def squared_error(velocity: Tensor, u: Tensor) -> Tensor:
    """||v(x_t, t) - u||² / d of each item (equation 23): [B]."""
    return (velocity - u).square().flatten(1).mean(1)


@dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    """Classifier-free guidance of a velocity (Ho & Salimans 2022, equation 6, in the form of later work).

    Args:
        dropout: share of training items whose class is hidden, so that one network learns both velocities.
        weight: w of `guided`: 1 is the law of the class, more makes the class plainer and samples more alike.
    """

    dropout: Fraction
    weight: NonNegativeFloat

    def __post_init__(self) -> None:
        if self.dropout == 0 and self.weight != 1:
            raise ValueError(f"dropout=0 learns no velocity without a class, which weight={self.weight:g} needs")

    def guided(self, without: Tensor, given: Tensor) -> Tensor:
        """v + w (v_class - v)."""
        return without + self.weight * (given - without)


def _beside(t: Tensor, x: Tensor) -> Tensor:
    """Times [B] in a shape that broadcasts over items [B, ...]."""
    return t.view(-1, *[1] * (x.ndim - 1))
