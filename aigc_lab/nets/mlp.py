"""Multi-layer perceptrons on points and on flattened images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from aigc_lab.types import PositiveFloat, PositiveInt, Shape


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
        hidden = [layer for pair in pairwise(sizes[:-1]) for layer in self._hidden(*pair)]
        return [*hidden, self._linear(*sizes[-2:])]

    def _hidden(self, n_in: int, n_out: int) -> list[nn.Module]:
        return [self._linear(n_in, n_out), self._activation()]

    def _linear(self, n_in: int, n_out: int) -> nn.Linear:
        return nn.Linear(n_in, n_out)

    def _activation(self) -> nn.Module:
        return nn.LeakyReLU(0.2)


@dataclass(frozen=True, kw_only=True)
class SmoothMLP(MLP):
    """The same with tanh. Few points pin a smooth function down, where a piecewise linear one needs a kink for
    every bend: on the line and in the plane a discriminator of 64 units so resolves what a generator lacks.
    """

    def _activation(self) -> nn.Module:
        return nn.Tanh()


@dataclass(frozen=True, kw_only=True)
class _NormalStart(MLP):
    """Weights start as N(0, init_sd²) and biases at 0, as in PacGAN's networks for points (Lin et al. 2018)."""

    init_sd: PositiveFloat

    def _linear(self, n_in: int, n_out: int) -> nn.Linear:
        layer = super()._linear(n_in, n_out)
        nn.init.normal_(layer.weight, 0, self.init_sd)
        nn.init.zeros_(layer.bias)
        return layer


@dataclass(frozen=True, kw_only=True)
class NormalisedMLP(_NormalStart):
    """An MLP with batch normalisation and ReLU: PacGAN's generator of points.

    Args:
        init_sd: of the weights.
    """

    def _hidden(self, n_in: int, n_out: int) -> list[nn.Module]:
        return [self._linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU()]


@dataclass(frozen=True, kw_only=True)
class MaxoutMLP(_NormalStart):
    """An MLP with maxout, h_i = max_j x·W_ij + b_ij: PacGAN's discriminator of points.

    Args:
        init_sd: of the weights.
        pieces: linear functions of which a unit is the largest.
    """

    pieces: PositiveInt

    def _hidden(self, n_in: int, n_out: int) -> list[nn.Module]:
        return [self._linear(n_in, self.pieces * n_out), LargestOf(self.pieces)]


class LargestOf(nn.Module):
    """[B, n_pieces · n] -> [B, n], the maximum over pieces; pieces that tie share the gradient."""

    def __init__(self, n_pieces: int) -> None:
        super().__init__()
        self.n_pieces = n_pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.n_pieces, -1)).amax(1)  # `max` finds indices too, in twice the time


@dataclass(frozen=True, kw_only=True)
class SteppedMLP(MLP):
    """An MLP whose decoder takes of its first inputs only their signs: 2^n_signs continuous pieces.

    A continuous G makes of normal latents, which are connected, a connected set: it cannot leave out what lies
    between two modes, only be steep there. A step costs nothing, and pieces of equal mass that are more, and
    finer, than the modes can be shared out among them however many they are. The encoder is MLP's.

    Args:
        n_signs: how many inputs. The others vary within a piece.
    """

    n_signs: PositiveInt

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape].

        Raises:
            ValueError: there are fewer inputs than signs.
        """
        if n_in < self.n_signs:
            raise ValueError(f"n_signs={self.n_signs}: there are {n_in} inputs")
        return nn.Sequential(Signs(self.n_signs), super().decoder(n_in, shape))


class Signs(nn.Module):
    """The first n of the inputs [B, d] become -1 or 1, the others stay; no gradient passes through a sign."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.where(x[:, : self.n] < 0, -1.0, 1.0), x[:, self.n :]], 1)
