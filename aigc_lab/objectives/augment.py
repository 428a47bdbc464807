"""Differentiable augmentation: D sees real and generated images through the same random changes, and gradients
flow through them to the generator (Zhao et al. 2020), so that a small data set is not learnt by heart.

Images are [B, C, H, W] in [-1, 1]. Random numbers are torch's own, which a module seeds by (seed, process, step).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from aigc_lab.types import PositiveInt, Share

Change = Callable[[Tensor], Tensor]


class Augmentation(Protocol):
    """A random change of images that gradients pass through."""

    def __call__(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class Steered(Protocol):
    """An augmentation that watches the discriminator."""

    def steer(self, sign_of_real: Tensor, n_items: int) -> None:
        """
        Args:
            sign_of_real: E[sign D(x)] over real items, a scalar, the same on every process.
            n_items: real items that were seen, over all processes.
        """
        ...


def colour(images: Tensor) -> Tensor:
    """Brightness ± ½, saturation times 0 to 2, contrast times ½ to 1½, each drawn for each image."""
    u = torch.rand(3, len(images), 1, 1, 1, device=images.device, dtype=images.dtype)
    images = images + (u[0] - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * u[1])
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (u[2] + 0.5)


def translation(images: Tensor) -> Tensor:
    """Moved by up to an eighth of the sides, rounded, with 0 (grey) where nothing comes from."""
    B, _, height, width = images.shape
    places = []
    for dim, side in ((2, height), (3, width)):
        most = round(side / 8)
        shift = torch.randint(-most, most + 1, (B, 1), device=images.device)
        places.append((torch.arange(side, device=images.device) - shift, side, dim))
    for source, side, dim in places:
        inside = (source >= 0) & (source < side)
        shape = [B, 1, 1, 1]
        shape[dim] = side
        index = source.clamp(0, side - 1).view(shape).expand_as(images)
        images = images.gather(dim, index) * inside.view(shape)
    return images


def cutout(images: Tensor) -> Tensor:
    """A square of half the sides, its middle anywhere, becomes 0 (grey)."""
    B, _, height, width = images.shape
    covered = torch.ones(B, 1, 1, 1, dtype=torch.bool, device=images.device)
    for dim, side in ((2, height), (3, width)):
        middle = torch.randint(0, side, (B, 1), device=images.device)
        place = torch.arange(side, device=images.device)
        shape = [B, 1, 1, 1]
        shape[dim] = side
        inside = (place >= middle - side // 4) & (place < middle - side // 4 + max(1, side // 2))
        covered = covered & inside.view(shape)
    return images * ~covered


CHANGES: dict[str, Change] = {"colour": colour, "translation": translation, "cutout": cutout}


def changed(images: Tensor, changes: Sequence[str], p: Tensor | float) -> Tensor:
    """Each change in turn, for each image with probability p."""
    for name in changes:
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < p
        images = torch.where(chosen, CHANGES[name](images), images)
    return images


@dataclass(frozen=True, kw_only=True)
class DiffAugment:
    """Every image is changed (Zhao et al. 2020).

    Args:
        changes: which, in their order.
    """

    changes: list[Literal["colour", "translation", "cutout"]]

    def __call__(self, images: Tensor) -> Tensor:
        return changed(images, self.changes, 1.0)


class AdaptiveAugment(nn.Module):
    """The same changes with a probability p that keeps r = E[sign D(x)] of real items near a target (Karras et al.
    2020a, section 3): D that is too sure of the training images has begun to know them by heart. D(x) counts from
    the game's middle; where the game leaves that free, from D of a generated item.

    Args:
        changes: which, in their order.
        target: of r; 0.6 in the paper.
        ramp: real items in which p goes from 0 to 1 at the fastest; 500,000 in the paper.
    """

    p: Tensor

    def __init__(
        self,
        *,
        changes: list[Literal["colour", "translation", "cutout"]],
        target: Share,
        ramp: PositiveInt,
    ) -> None:
        super().__init__()
        self.changes, self.target, self.ramp = changes, target, ramp
        self.register_buffer("p", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return changed(images, self.changes, self.p)

    @torch.no_grad()
    def steer(self, sign_of_real: Tensor, n_items: int) -> None:
        """Move p by n_items / ramp, up where r is above its target."""
        step = torch.sign(sign_of_real - self.target) * (n_items / self.ramp)
        self.p.add_(step).clamp_(0, 1)
