"""Penalties on a discriminator. They stand beside a game's loss and add up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, distributed, nn

from aigc_lab.objectives.augment import Augmentation, Steered
from aigc_lab.types import Fraction, NonNegativeFloat, PositiveFloat


class Penalty(Protocol):
    """A term added to the discriminator's loss. `progress` is the share of training that is over, in [0, 1)."""

    of_slopes: ClassVar[bool]
    """Whether it is a function of ∇_x D, so that its gradient is a second derivative."""

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

    of_slopes: ClassVar[bool] = True

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

    of_slopes: ClassVar[bool] = True

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

    of_slopes: ClassVar[bool] = True

    def __call__(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float
    ) -> Tensor:
        """The penalty for a batch; differentiable in the discriminator's parameters."""
        share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        norm = torch.linalg.vector_norm(gradient(discriminator, torch.lerp(real, fake, share)).flatten(1), dim=1)
        return self.weight * (norm - 1).square().mean()


@dataclass(frozen=True, kw_only=True)
class Dragan:
    """λ E (||∇_x D(x + α δ)|| - 1)² around real data, δ = ½ σ u with σ the deviation of the batch's numbers, u
    uniform on [0, 1) for each number and α for each item (Kodali et al. 2017, section 2.5; α is in their code).
    For games whose D classifies.

    Args:
        weight: λ; 10 in the paper.
    """

    weight: NonNegativeFloat

    of_slopes: ClassVar[bool] = True

    def __call__(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float
    ) -> Tensor:
        """The penalty for a batch; differentiable in the discriminator's parameters."""
        share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        near = real + share * 0.5 * real.std() * torch.rand_like(real)
        norm = torch.linalg.vector_norm(gradient(discriminator, near).flatten(1), dim=1)
        return self.weight * (norm - 1).square().mean()


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """λ E (D(T(x)) - D(x))² on real and on generated images: what T does to an image must not change what D
    says of it (Zhang et al. 2020; on both, Zhao et al. 2021).

    Args:
        weight: λ; 10 in the papers.
        augment: T.
    """

    weight: NonNegativeFloat
    augment: Augmentation

    of_slopes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.augment, Steered):
            raise ValueError("augment: nobody steers an adaptive T of this penalty; use DiffAugment")

    def __call__(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float
    ) -> Tensor:
        """The penalty for a batch; differentiable in the discriminator's parameters."""
        on_real, on_fake = (
            (discriminator(self.augment(x)) - discriminator(x)).square().mean() for x in (real, fake)
        )
        return self.weight * (on_real + on_fake)


class LeCam(nn.Module):
    """λ (E (D(x) - α_F)² + E (D(G(z)) - α_R)²), α_R and α_F the moving averages of D(x) and D(G(z)) (Tseng et al.
    2021, equation 6): D may not run away from what it used to say of the other side. For little data.

    Args:
        weight: λ; 0.3 in their code for CIFAR-10 and the hinge game. There a logit beyond the other side's average
            costs nothing; here it does, as in their equation.
        decay: of the averages, each time that the penalty is taken; 0.99 in the paper. They are those of all
            processes.
    """

    of_slopes: ClassVar[bool] = False
    averages: Tensor

    def __init__(self, *, weight: NonNegativeFloat, decay: Fraction) -> None:
        super().__init__()
        self.weight, self.decay = weight, decay
        self.register_buffer("averages", torch.zeros(2))  # of D on real items and on samples

    def forward(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, progress: float
    ) -> Tensor:
        """The penalty for a batch, by the averages before it; differentiable in the discriminator's parameters."""
        on_real, on_fake = discriminator(real), discriminator(fake)
        of_real, of_fake = self.averages.unbind()
        penalty = (on_real - of_fake).square().mean() + (on_fake - of_real).square().mean()
        means = torch.stack([on_real.mean(), on_fake.mean()]).detach().float()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(means)
            means /= distributed.get_world_size()
        self.averages.lerp_(means, 1 - self.decay)
        return self.weight * penalty


def squared_gradient_norm(discriminator: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """||∇_x D(x)||² of each item, [B]; differentiable (double backward)."""
    return gradient(discriminator, items).square().flatten(1).sum(1)


def gradient(discriminator: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """∇_x D(x) at each item, of the items' shape; differentiable (double backward)."""
    items = items.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(discriminator(items).sum(), items, create_graph=True)
    return slope
