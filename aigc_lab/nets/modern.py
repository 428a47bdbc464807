"""A modern ConvNet in the style of R3GAN (Huang et al. 2024): residual blocks and resampling, no norms."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.nets.conv import halvings, image_shape
from aigc_lab.types import PositiveInt, Shape


@dataclass(frozen=True, kw_only=True)
class Modern:
    """Inverted bottlenecks 1x1, grouped 3x3, 1x1 beside an identity; bilinear resampling with a 1x1 convolution
    where the width changes. Each block begins as the identity (Fixup, Zhang et al. 2019), so depth needs no norm.

    Args:
        width: channels at full resolution; doubled at each halving.
        max_width: channels at most.
        n_blocks: residual blocks at each resolution.
        expansion: how much wider than the block its 3x3 convolution is.
        group_size: channels that a 3x3 convolution looks at together.
    """

    width: PositiveInt
    max_width: PositiveInt
    n_blocks: PositiveInt
    expansion: PositiveInt
    group_size: PositiveInt

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Images [B, *shape] -> vectors [B, n_out]."""
        channels, *sides = image_shape(shape)
        widths = self._widths(halvings(*sides))
        layers: list[nn.Module] = [_conv(channels, widths[0], 1)]
        for i, width in enumerate(widths):
            if i:
                layers.append(_Resample(widths[i - 1], width, 0.5))
            layers += self._blocks(width, len(widths))
        n = len(widths) - 1
        smallest = (sides[0] >> n, sides[1] >> n)
        summary = nn.Conv2d(widths[-1], widths[-1], smallest, groups=widths[-1], bias=False)
        nn.init.normal_(summary.weight, std=math.prod(smallest) ** -0.5)
        head = nn.Linear(widths[-1], n_out)
        nn.init.normal_(head.weight, std=widths[-1] ** -0.5)
        nn.init.zeros_(head.bias)
        return nn.Sequential(*layers, summary, nn.Flatten(), head)

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape]."""
        channels, *sides = image_shape(shape)
        widths = self._widths(halvings(*sides))[::-1]
        n = len(widths) - 1
        layers: list[nn.Module] = [_Basis(n_in, widths[0], sides[0] >> n, sides[1] >> n)]
        for i, width in enumerate(widths):
            if i:
                layers.append(_Resample(widths[i - 1], width, 2.0))
            layers += self._blocks(width, len(widths))
        return nn.Sequential(*layers, _conv(widths[-1], channels, 1))

    def _blocks(self, width: int, n_resolutions: int) -> list[nn.Module]:
        total = self.n_blocks * n_resolutions
        return [_Block(width, self.expansion, self.group_size, total) for _ in range(self.n_blocks)]

    def _widths(self, n_halvings: int) -> list[int]:
        """
        Raises:
            ValueError: a width is not whole groups.
        """
        widths = [min(self.width << i, self.max_width) for i in range(n_halvings + 1)]
        if wrong := [w for w in widths if w * self.expansion % self.group_size]:
            raise ValueError(f"group_size={self.group_size}: does not divide {wrong[0]} x expansion channels")
        return widths


class _Block(nn.Module):
    """x + W₃ f(W₂ f(W₁ x)), f LeakyReLU(0.2); W₃ starts at 0, the others as deep as the network is."""

    def __init__(self, width: int, expansion: int, group_size: int, n_blocks: int) -> None:
        super().__init__()
        wide = width * expansion
        scale = n_blocks ** (-1 / 4)  # L^(-1/(2m - 2)) for m = 3 layers in a branch
        self.expand = _conv(width, wide, 1, gain=scale)
        self.mix = _conv(wide, wide, 3, groups=wide // group_size, gain=scale)
        self.contract = _conv(wide, width, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.leaky_relu(self.expand(x), 0.2)
        return x + self.contract(F.leaky_relu(self.mix(branch), 0.2))


class _Resample(nn.Module):
    """Bilinear, by 2 or ½ (the mean of four), and 1x1 where the width changes: on the side with fewer places."""

    def __init__(self, n_in: int, n_out: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.project = nn.Identity() if n_in == n_out else _conv(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.factor < 1:
            return self.project(F.avg_pool2d(x, 2))
        return F.interpolate(self.project(x), scale_factor=self.factor, mode="bilinear")


class _Basis(nn.Module):
    """A learnt picture of each channel at the lowest resolution, times what z says of the channel."""

    def __init__(self, n_in: int, width: int, height: int, breadth: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(width, height, breadth))
        self.linear = nn.Linear(n_in, width)
        nn.init.normal_(self.linear.weight, std=n_in**-0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, z: Tensor) -> Tensor:
        return self.basis * self.linear(z)[..., None, None]


def _conv(
    n_in: int, n_out: int, kernel: int, *, groups: int = 1, gain: float = 1.0, bias: bool = True
) -> nn.Conv2d:
    """He et al. 2015 for LeakyReLU(0.2), times `gain`."""
    conv = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, groups=groups, bias=bias)
    nn.init.kaiming_normal_(conv.weight, a=0.2)
    conv.weight.data.mul_(gain)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
