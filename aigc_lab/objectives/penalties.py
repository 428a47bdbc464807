"""Gradient penalties on a discriminator. They stand beside a game's loss and add up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from aigc_lab.types import NonNegativeFloat, PositiveFloat


class Penalty(Protocol):
    """A term added to the discriminator's loss. `progress` is the share of training that is over, in [0, 1)."""

    def __call__(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class R1:
    """γ/2 E_x ||∇_x D(x)||² on real data (Mescheder et al. 2018, equation 9).

    Args:
        gamma: γ at the beginning, in squared units of the data: it weighs slopes.
        final: what γ is multiplied with at the end, on the way there geometrically; 1 keeps it. A large γ moves
            mass between modes, a small one lets D see detail (annealed as in R3GAN, Huang et al. 2024).
    """

    gamma: NonNegativeFloat
    final: PositiveFloat

    def __call__(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float
    ) -> Tensor:
        """The penalty for a batch; differentiable in the discriminator's parameters."""
        gamma = self.gamma * self.final**progress
        return gamma / 2 * squared_gradient_norm(discriminator, real).mean()


@dataclass(frozen=True, kw_only=True)
class R2:
    """γ/2 E_z ||∇_x D(G(z))||² on generated data (Mescheder et al. 2018, equation 10).

    Beside R1 it makes D smooth where the samples are, too, before they have reached the data.

    Args:
        gamma, final: as for R1.
    """

    gamma: NonNegativeFloat
    final: PositiveFloat

    def __call__(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float
    ) -> Tensor:
        """The penalty for a batch; differentiable in the discriminator's parameters."""
        gamma = self.gamma * self.final**progress
        return gamma / 2 * squared_gradient_norm(discriminator, fake).mean()


@dataclass(frozen=True, kw_only=True)
class GradientPenalty:
    """λ E (||∇_x D(x̂)|| - 1)², x̂ uniform on the line from a real to a generated item (Gulrajani et al. 2017,
    equation 3). For the game `Wasserstein`.

    Args:
        weight: λ; 10 in the paper.
    """

    weight: NonNegativeFloat

    def __call__(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float
    ) -> Tensor:
        """The penalty for a batch; differentiable in the discriminator's parameters."""
        share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        norm = torch.linalg.vector_norm(gradient(discriminator, torch.lerp(real, fake, share)).flatten(1), dim=1)
        return self.weight * (norm - 1).square().mean()


def squared_gradient_norm(discriminator: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """||∇_x D(x)||² of each item, [B]; differentiable (double backward)."""
    return gradient(discriminator, items).square().flatten(1).sum(1)


def gradient(discriminator: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """∇_x D(x) at each item, of the items' shape; differentiable (double backward)."""
    items = items.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(discriminator(items).sum(), items, create_graph=True)
    return slope
