"""Multi-layer perceptrons on points and on flattened images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from aigc_lab.types import PositiveInt, Shape


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Fully connected layers with LeakyReLU(0.2).

    Args:
        hidden: width of each hidden layer, in the order data passes through them.
    """

    hidden: list[PositiveInt]

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Items [B, *shape] -> vectors [B, n_out]."""
        return nn.Sequential(nn.Flatten(), *self._layers([math.prod(shape), *self.hidden, n_out]))

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape]."""
        return nn.Sequential(*self._layers([n_in, *self.hidden, math.prod(shape)]), nn.Unflatten(1, shape))

    def _layers(self, sizes: Sequence[int]) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Linear(sizes[0], sizes[1])]
        for n_in, n_out in pairwise(sizes[1:]):
            layers += [self._activation(), nn.Linear(n_in, n_out)]
        return layers

    def _activation(self) -> nn.Module:
        return nn.LeakyReLU(0.2)


@dataclass(frozen=True, kw_only=True)
class SmoothMLP(MLP):
    """The same with tanh. Few points pin a smooth function down, where a piecewise linear one needs a kink for
    every bend: on the line and in the plane a discriminator of 64 units so resolves what a generator lacks.
    """

    def _activation(self) -> nn.Module:
        return nn.Tanh()
