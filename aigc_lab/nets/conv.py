"""A convolutional pair for images of 8x8 to 64x64 and beyond."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.types import PositiveInt, Shape

LARGEST_REST = 24
"""Places along the shorter side, where halving ends, that two or four 3x3 convolutions can still see."""


@dataclass(frozen=True, kw_only=True)
class Conv:
    """Residual 3x3 convolutions; the sides halve, and the channels double, until they are small or odd.

    No batch statistics anywhere: an image's output depends on that image alone, so gradient penalties are
    well defined and every process of a distributed run computes the same function.

    Args:
        width: channels at full resolution.
        max_width: channels at most.
    """

    width: PositiveInt
    max_width: PositiveInt

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Images [B, *shape] -> vectors [B, n_out]."""
        channels, *sides = image_shape(shape)
        n_halvings = halvings(*sides)
        widths = self._widths(n_halvings)
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1)]
        for n_in, n_next in pairwise(widths):
            layers += [Residual(n_in, n_next), nn.AvgPool2d(2)]
        layers += [Residual(widths[-1], widths[-1]), nn.LeakyReLU(0.2), nn.Flatten()]
        n_features = widths[-1] * (sides[0] >> n_halvings) * (sides[1] >> n_halvings)
        return _initialised(nn.Sequential(*layers, nn.Linear(n_features, n_out)))

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape]."""
        channels, *sides = image_shape(shape)
        n_halvings = halvings(*sides)
        widths = self._widths(n_halvings)[::-1]
        smallest = (widths[0], sides[0] >> n_halvings, sides[1] >> n_halvings)
        layers: list[nn.Module] = [
            nn.Linear(n_in, smallest[0] * smallest[1] * smallest[2]),
            nn.Unflatten(1, smallest),
            Residual(widths[0], widths[0]),
        ]
        for n_wide, n_next in pairwise(widths):
            layers += [nn.Upsample(scale_factor=2), Residual(n_wide, n_next)]
        layers += [nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], channels, 3, padding=1)]
        return _initialised(nn.Sequential(*layers))

    def _widths(self, n_halvings: int) -> list[int]:
        return [min(self.width << i, self.max_width) for i in range(n_halvings + 1)]


def image_shape(shape: Shape) -> Shape:
    """
    Raises:
        ValueError: it is not that of an image.
    """
    if len(shape) != 3:
        raise ValueError(f"convolutions are for images; for items of shape {list(shape)} use an mlp")
    return shape


def _initialised(network: nn.Sequential) -> nn.Sequential:
    """He et al. 2015: every layer keeps the variance of its input through LeakyReLU(0.2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class Residual(nn.Module):
    """(skip(x) + branch(x)) / √2: two 3x3 convolutions beside an identity or 1x1 skip; keeps the variance."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.skip = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))
        return (self.skip(x) + branch) * 0.5**0.5


def halvings(height: int, width: int) -> int:
    """How often both sides can be halved before one is odd or at most 4.

    Raises:
        ValueError: so seldom that 3x3 convolutions would see pieces of the image only.
    """
    n, rest = 0, (height, width)
    while rest[0] % 2 == 0 and rest[1] % 2 == 0 and min(rest) > 4:
        n, rest = n + 1, (rest[0] // 2, rest[1] // 2)
    if min(rest) > LARGEST_REST:
        raise ValueError(
            f"{height}x{width} pixels can be halved to {rest[0]}x{rest[1]} only, of which 3x3 convolutions see "
            "pieces; use dcgan, which halves odd sides too, or other sides"
        )
    return n
