"""Gradient penalties on a discriminator. They stand beside a game's loss and add up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from aigc_lab.types import NonNegativeFloat


class Penalty(Protocol):
    """A term added to the discriminator's loss."""

    def __call__(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class R1:
    """γ/2 E_x ||∇_x D(x)||² on real images (Mescheder et al. 2018, equation 9).

    Args:
        gamma: γ.
    """

    gamma: NonNegativeFloat

    def __call__(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """The penalty for a batch; differentiable in the discriminator's parameters."""
        return self.gamma / 2 * squared_gradient_norm(discriminator, real).mean()


def squared_gradient_norm(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """||∇_x D(x)||² of each image, [B]; differentiable (double backward)."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1)
