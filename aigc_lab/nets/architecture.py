"""What the image architectures have in common: one description, two directions.

A configuration chooses an architecture (depth, width); the model that uses it decides what goes in and
comes out. So the same `Conv` is a GAN's generator and discriminator, or a VAE's encoder and decoder.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from aigc_lab.types import Shape


class Architecture(Protocol):
    """Builds the two directions of an image network. Shapes are (channels, height, width)."""

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Images [B, *shape] in [-1, 1] -> vectors [B, n_out]."""
        ...

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape], unbounded."""
        ...


def at_least_float32(x: Tensor) -> Tensor:
    """What networks emit under autocast has 8 bits: too few for the edges of 256 levels, or for a batch's mean."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
