"""Velocities v(x, t) or v(x, t | class): what a flow's networks have in common, and the one for points.

A configuration chooses an architecture; the model that uses it decides the shape, and whether there are classes.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.nets.fourier import FourierFeatures, random_features
from aigc_lab.types import PositiveFloat, PositiveInt, Shape

FASTEST = 100.0
"""Cycles of the fastest time feature between t = 0 and t = 1."""


class VelocityArchitecture(Protocol):
    """Builds a network (x [B, *shape], t [B], classes [B] or None) -> velocity [B, *shape].

    Class `n_classes` stands for "any": it is what None means. With n_classes = 0 there are no others.
    """

    def velocity(self, shape: Shape, n_classes: int) -> nn.Module: ...


class Conditions(nn.Module):
    """The time, and the class, as one vector.

    The time is sin and cos of frequencies spaced geometrically (Vaswani et al. 2017, section 3.5), here from a
    quarter of a cycle to `FASTEST` cycles over the whole way.

    Args:
        n_features: of the time.
        width: of the vector.
        n_classes: 0 where there are none.
    """

    cycles: Tensor

    def __init__(self, n_features: int, width: int, n_classes: int) -> None:
        super().__init__()
        frequencies = torch.logspace(math.log10(0.25), math.log10(FASTEST), n_features // 2)
        self.register_buffer("cycles", 2 * math.pi * frequencies)
        self.first, self.second = nn.Linear(2 * len(frequencies), width), nn.Linear(width, width)
        self.classes = nn.Embedding(n_classes + 1, width) if n_classes else None
        self.n_classes = n_classes

    def forward(self, t: Tensor, classes: Tensor | None) -> Tensor:
        """Times [B] and classes [B] or None -> [B, width]."""
        angle = t[:, None] * self.cycles
        hidden = self.second(F.silu(self.first(torch.cat([angle.sin(), angle.cos()], 1))))
        if self.classes is not None:
            any_class = torch.full(t.shape, self.n_classes, device=t.device)
            hidden = hidden + self.classes(any_class if classes is None else classes)
        return F.silu(hidden)


@dataclass(frozen=True, kw_only=True)
class PointVelocity:
    """A perceptron for points, with Fourier features of the place (`aigc_lab.nets.fourier`) and of the time.

    It is smooth, and so is the density of its flow.

    Args:
        hidden: width of each hidden layer; at least one.
        n_features: of the place, and frequencies of the time.
        lowest, highest: frequencies of the place in cycles per unit of the data.
    """

    hidden: list[PositiveInt]
    n_features: PositiveInt
    lowest: PositiveFloat
    highest: PositiveFloat

    def velocity(self, shape: Shape, n_classes: int) -> nn.Module:
        """For points of any shape, which are flattened; see `VelocityArchitecture`.

        Raises:
            ValueError: there is no hidden layer.
        """
        if not self.hidden:
            raise ValueError("hidden=[]: a velocity takes at least one hidden layer")
        place = random_features(math.prod(shape), self.n_features, lowest=self.lowest, highest=self.highest)
        return _OfPoints(place, Conditions(self.n_features, self.hidden[0], n_classes), self.hidden, shape)


class _OfPoints(nn.Module):
    def __init__(self, place: FourierFeatures, conditions: Conditions, hidden: list[int], shape: Shape) -> None:
        super().__init__()
        self.place, self.conditions = place, conditions
        sizes = [place.n_out + hidden[0], *hidden]
        layers = [layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], math.prod(shape)), nn.Unflatten(1, shape))

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.layers(torch.cat([self.place(x.flatten(1)), self.conditions(t, classes)], 1))
