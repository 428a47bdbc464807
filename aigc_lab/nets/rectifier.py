"""Fully connected networks of 2014 on intensities in [0, 1]: rectified layers, a sigmoid at the images' end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from aigc_lab.types import PositiveFloat, PositiveInt, Shape

DARKEST = 1e-7
"""A pixel that is never lit is given this mean, so that its logit is finite."""


@dataclass(frozen=True, kw_only=True)
class Rectifier:
    """Fully connected layers with ReLU; black is 0, so a dark pixel and a dropped one are the same.

    Args:
        hidden: width of each hidden layer, in the order data passes through them.
        init_range: weights start uniform in ± this and biases at 0; null: as torch.nn.Linear starts them.
    """

    hidden: list[PositiveInt]
    init_range: PositiveFloat | None

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Images [B, *shape] in [-1, 1] -> vectors [B, n_out]."""
        require_image(shape)
        layers = rectified([math.prod(shape), *self.hidden, n_out], self.init_range)
        return nn.Sequential(nn.Flatten(), Intensities(), *layers)

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape] whose tanh is 2σ - 1 of the last layer."""
        return SigmoidImages(shape, rectified([n_in, *self.hidden, math.prod(shape)], self.init_range))


class Intensities(nn.Module):
    """[-1, 1] -> [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class SigmoidImages(nn.Module):
    """Layers whose last emits the logits a of intensities σ(a), [B, *shape].

    The lab's images span [-1, 1] and the generator ends in a tanh; since 2σ(a) - 1 = tanh(a/2), half the logits
    give the very images, and the very gradients, of a network that ends in a sigmoid.
    """

    def __init__(self, shape: Shape, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        require_image(shape)
        self.shape, self.layers = shape, nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return (self.layers(z) / 2).unflatten(1, self.shape)

    @torch.no_grad()
    def start_at(self, mean: Tensor) -> None:
        """Give the last layer the bias at which each pixel's intensity is its mean in the data, [*shape]."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(mean.flatten().clamp(DARKEST, 1 - DARKEST).logit())


def require_image(shape: Shape) -> None:
    """
    Raises:
        ValueError: it is not that of an image.
    """
    if len(shape) != 3:
        raise ValueError(f"this network is for intensities; for items of shape {list(shape)} use an mlp")


def rectified(sizes: Sequence[int], init_range: float | None) -> list[nn.Module]:
    """Linear layers of the given sizes with ReLU between them."""
    layers: list[nn.Module] = [linear(sizes[0], sizes[1], init_range)]
    for n_in, n_out in pairwise(sizes[1:]):
        layers += [nn.ReLU(), linear(n_in, n_out, init_range)]
    return layers


def linear(n_in: int, n_out: int, init_range: float | None) -> nn.Linear:
    """A layer whose weights start uniform in ± init_range and biases at 0; None: as torch starts it."""
    layer = nn.Linear(n_in, n_out)
    if init_range is not None:
        nn.init.uniform_(layer.weight, -init_range, init_range)
        nn.init.zeros_(layer.bias)
    return layer
