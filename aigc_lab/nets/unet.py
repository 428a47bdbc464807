"""A small U-Net: a velocity for images of any size, grey or colour."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.nets.velocity import Conditions
from aigc_lab.types import PositiveInt, Shape

GROUP = 16
"""Channels that are normalised together, where there are as many."""


@dataclass(frozen=True, kw_only=True)
class UNet:
    """Down to coarse maps and up again, with a bridge at each resolution (Ronneberger et al. 2015; with time and
    classes as in Dhariwal & Nichol 2021, without attention: the coarsest maps see the whole image).

    Where a side does not divide, the image is padded with zeros, and the velocity cropped.

    Args:
        widths: channels at each resolution, fine to coarse; sides halve from one to the next.
        patch: side of the squares of pixels that are read, and written, as channels of one place. The cost falls
            with its square.
        n_blocks: residual blocks at each resolution, on either way.
    """

    widths: list[PositiveInt]
    patch: PositiveInt
    n_blocks: PositiveInt

    def velocity(self, shape: Shape, n_classes: int) -> nn.Module:
        """For images [channels, height, width]; see `VelocityArchitecture`.

        Raises:
            ValueError: the shape is not that of an image, or there is no width.
        """
        if len(shape) != 3:
            raise ValueError(f"a U-Net is for images; for items of shape {list(shape)} use model/velocity=mlp")
        if not self.widths:
            raise ValueError("widths=[]: give the channels of one resolution at least")
        return _UNet(self, shape[0], n_classes)


class _UNet(nn.Module):
    def __init__(self, config: UNet, channels: int, n_classes: int) -> None:
        super().__init__()
        widths, n_conditions = config.widths, 4 * config.widths[0]
        self.patch, self.multiple = config.patch, config.patch << (len(widths) - 1)
        self.conditions = Conditions(config.widths[0], n_conditions, n_classes)
        self.first = nn.Conv2d(channels * config.patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            Blocks([n_in, *[n_out] * config.n_blocks], n_conditions)
            for n_in, n_out in zip([widths[0], *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            Blocks([coarse + fine, *[fine] * config.n_blocks], n_conditions)
            for fine, coarse in reversed(list(pairwise(widths)))
        )
        self.norm = _norm(widths[0])
        self.last = _zero(nn.Conv2d(widths[0], channels * config.patch**2, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:]
        conditions = self.conditions(t, classes)
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        x = self.first(F.pixel_unshuffle(x, self.patch))
        bridges = []
        for i, blocks in enumerate(self.down):
            x = blocks(F.avg_pool2d(x, 2) if i else x, conditions)
            bridges.append(x)
        x = bridges.pop()
        for blocks in self.up:
            x = blocks(torch.cat([F.interpolate(x, scale_factor=2), bridges.pop()], 1), conditions)
        x = F.pixel_shuffle(self.last(F.silu(self.norm(x))), self.patch)
        return x[:, :, :height, :width]


class Blocks(nn.Module):
    """Residual blocks of one resolution, through the given numbers of channels."""

    def __init__(self, widths: list[int], n_conditions: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConditionedResidual(n, m, n_conditions) for n, m in pairwise(widths))

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, conditions)
        return x


class ConditionedResidual(nn.Module):
    """skip(x) + branch(x): two 3x3 convolutions behind a norm each; the conditions scale and shift what the second
    norm gives. It begins as its skip."""

    def __init__(self, n_in: int, n_out: int, n_conditions: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = _norm(n_in), _norm(n_out)
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second = _zero(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.modulation = nn.Linear(n_conditions, 2 * n_out)
        self.skip = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        scale, shift = self.modulation(conditions)[:, :, None, None].chunk(2, 1)
        branch = self.second_norm(self.first(F.silu(self.first_norm(x))))
        return self.skip(x) + self.second(F.silu(branch * (1 + scale) + shift))


def _norm(channels: int) -> nn.GroupNorm:
    """Of an image by itself: no statistics of the batch, so every process computes the same function."""
    return nn.GroupNorm(channels // GROUP if channels % GROUP == 0 else 1, channels)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
