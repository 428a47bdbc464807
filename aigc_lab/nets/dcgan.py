"""DCGAN (Radford et al. 2016): strided convolutions and batch statistics."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from aigc_lab.nets.conv import image_shape
from aigc_lab.nets.norms import ClassBatchNorm, ClassSequential, Norm
from aigc_lab.types import PositiveInt, Shape


@dataclass(frozen=True, kw_only=True)
class DCGAN:
    """Convolutions of stride 2 until a side is at most 4; ReLU and BatchNorm in the generator, LeakyReLU(0.2) in
    the discriminator, BatchNorm behind all of its convolutions but the first.

    An even side is halved by 4 taps, as theirs are. An odd one, 2n - 1, goes to n and back by 3 taps: MNIST's 28
    has 14, 7 and 4. Were it to stop at 7, a digit would be judged as a sum of pieces of 10x10 pixels.

    The work is done at half the sides and below, so it is several times as fast as `Conv` of the same width.
    With `encoder_norm` what the discriminator says of an image depends on its batch: it is refused beside
    penalties on slopes, and no use beside spectral norm.

    Args:
        width: channels at half the sides.
        max_width: channels at most.
        encoder_norm: whether the discriminator has BatchNorm.
    """

    width: PositiveInt
    max_width: PositiveInt
    encoder_norm: bool

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Images [B, *shape] -> vectors [B, n_out]."""
        sides, widths = self._plan(shape)
        layers: list[nn.Module] = []
        for i, (n_in, n_next) in enumerate(pairwise(widths)):
            has_norm = self.encoder_norm and i > 0
            layers.append(nn.Conv2d(n_in, n_next, _taps(sides[i]), stride=2, padding=1, bias=not has_norm))
            layers += [nn.BatchNorm2d(n_next)] if has_norm else []
            layers.append(nn.LeakyReLU(0.2))
        n_features = widths[-1] * math.prod(sides[-1])
        return _initialised(nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_features, n_out)))

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape]."""
        return _initialised(nn.Sequential(*self._decoder(n_in, shape, nn.BatchNorm2d)))

    def class_decoder(self, n_in: int, shape: Shape, n_classes: int) -> nn.Module:
        """Vectors and classes side by side [B, n_in + n_classes] -> maps [B, *shape]; the norms read the class."""
        norm = lambda n: ClassBatchNorm(n, n_classes)  # noqa: E731
        return _initialised(ClassSequential(n_in, *self._decoder(n_in, shape, norm)))

    def _decoder(self, n_in: int, shape: Shape, norm: Norm) -> list[nn.Module]:
        sides, widths = self._plan(shape)
        smallest = (widths[-1], *sides[-1])
        layers: list[nn.Module] = [nn.Linear(n_in, math.prod(smallest), bias=False), nn.Unflatten(1, smallest)]
        for larger, (n_next, n_wide) in reversed(list(zip(sides, pairwise(widths), strict=False))):
            resize = nn.ConvTranspose2d(n_wide, n_next, _taps(larger), stride=2, padding=1)
            layers += [norm(n_wide), nn.ReLU(), resize]
        return layers

    def _plan(self, shape: Shape) -> tuple[list[tuple[int, int]], list[int]]:
        """The sides and the channels at each resolution, from the image's own on.

        Raises:
            ValueError: the image is as small as the last resolution.
        """
        channels, height, width = image_shape(shape)
        sides = [(height, width)]
        while min(sides[-1]) > 4:
            sides.append(((sides[-1][0] + 1) // 2, (sides[-1][1] + 1) // 2))
        if len(sides) == 1:
            raise ValueError(
                f"DCGAN halves the sides of its images down to 4: {height} x {width} are there already"
            )
        return sides, [channels, *(min(self.width << i, self.max_width) for i in range(len(sides) - 1))]


def _taps(sides: tuple[int, int]) -> tuple[int, int]:
    """Of a convolution that halves these sides."""
    return 4 - sides[0] % 2, 4 - sides[1] % 2


def _initialised(network: nn.Sequential) -> nn.Sequential:
    """Weights from N(0, 0.02), biases 0 (their section 3)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
