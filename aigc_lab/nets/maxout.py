"""Maxout networks with dropout (Goodfellow et al. 2013), the discriminators of 2014."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from aigc_lab.nets.mlp import LargestOf
from aigc_lab.nets.rectifier import Intensities, SigmoidImages, linear, require_image
from aigc_lab.types import Fraction, PositiveFloat, PositiveInt, Shape


@dataclass(frozen=True, kw_only=True)
class Maxout:
    """Fully connected maxout layers on intensities in [0, 1], dropout before each layer and the output.

    Args:
        hidden: units of each hidden layer, in the order data passes through them.
        pieces: linear functions of which a unit is the largest.
        input_dropout, dropout: shares of the inputs, and of each layer's units, that are dropped in training;
            the others are scaled up, so that evaluation needs no correction.
        init_range: weights start uniform in ± this and biases at 0; null: as torch.nn.Linear starts them.
    """

    hidden: list[PositiveInt]
    pieces: PositiveInt
    input_dropout: Fraction
    dropout: Fraction
    init_range: PositiveFloat | None

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Images [B, *shape] in [-1, 1] -> vectors [B, n_out]."""
        require_image(shape)
        layers = self._layers(math.prod(shape), n_out)
        return nn.Sequential(nn.Flatten(), Intensities(), nn.Dropout(self.input_dropout), *layers)

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape] whose tanh is 2σ - 1 of the last layer."""
        return SigmoidImages(shape, self._layers(n_in, math.prod(shape)))

    def _layers(self, n_in: int, n_out: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for n_before, n_units in pairwise([n_in, *self.hidden]):
            layers += [MaxoutLayer(n_before, n_units, self.pieces, self.init_range), nn.Dropout(self.dropout)]
        return [*layers, linear(self.hidden[-1] if self.hidden else n_in, n_out, self.init_range)]


class MaxoutLayer(nn.Module):
    """h_i(x) = max_j x·W_ij + b_ij, j = 1 .. pieces: a convex, piecewise linear function (their equation 1)."""

    def __init__(self, n_in: int, n_units: int, pieces: int, init_range: float | None) -> None:
        super().__init__()
        self.linear = linear(n_in, pieces * n_units, init_range)
        self.largest = LargestOf(pieces)

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, n_in] -> [B, n_units]."""
        return self.largest(self.linear(x_BD))
