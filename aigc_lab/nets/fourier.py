"""Perceptrons that see detail: random Fourier features before the first layer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aigc_lab.nets.mlp import MLP
from aigc_lab.types import PositiveFloat, PositiveInt, Shape


@dataclass(frozen=True, kw_only=True)
class FourierMLP:
    """x -> MLP(x, sin 2πBx, cos 2πBx) with a fixed, random B (Tancik et al. 2020).

    A perceptron learns low frequencies first: a discriminator of one draws a line around a mode that is a
    hundredth of the data's extent in size only after very many steps. B's rows have directions uniform on
    the sphere and lengths spaced geometrically from `lowest` to `highest`, so that coarse and fine detail get the
    same number of features.

    Args:
        hidden: width of each hidden layer, in the order data passes through them.
        n_features: rows of B.
        lowest, highest: frequencies in cycles per unit of the input.
    """

    hidden: list[PositiveInt]
    n_features: PositiveInt
    lowest: PositiveFloat
    highest: PositiveFloat

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Items [B, *shape] -> vectors [B, n_out]."""
        features = self._features(math.prod(shape))
        return nn.Sequential(nn.Flatten(), features, MLP(hidden=self.hidden).encoder((features.n_out,), n_out))

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> items [B, *shape]."""
        features = self._features(n_in)
        return nn.Sequential(features, MLP(hidden=self.hidden).decoder(features.n_out, shape))

    def _features(self, n_in: int) -> "FourierFeatures":
        return random_features(n_in, self.n_features, lowest=self.lowest, highest=self.highest)


def random_features(n_in: int, n_features: int, *, lowest: float, highest: float) -> "FourierFeatures":
    """Of n_in numbers: directions uniform on the sphere, lengths spaced geometrically."""
    lengths = torch.logspace(math.log10(lowest), math.log10(highest), n_features)
    return FourierFeatures(nn.functional.normalize(torch.randn(n_features, n_in), dim=1) * lengths[:, None])


class FourierFeatures(nn.Module):
    """x [B, n] -> (x, sin 2πBx, cos 2πBx) [B, n + 2m] for frequencies B [m, n]; nothing is learned."""

    frequencies: Tensor

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.n_out = frequencies.shape[1] + 2 * len(frequencies)

    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi * nn.functional.linear(x, self.frequencies)
        return torch.cat([x, angle.sin(), angle.cos()], 1)
