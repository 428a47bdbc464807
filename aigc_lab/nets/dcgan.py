"""DCGAN (Radford et al. 2016): strided convolutions and batch statistics."""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from aigc_lab.nets.conv import halvings, image_shape
from aigc_lab.nets.norms import ClassBatchNorm, ClassSequential, Norm
from aigc_lab.types import PositiveInt, Shape


@dataclass(frozen=True, kw_only=True)
class DCGAN:
    """4x4 convolutions of stride 2 until the sides are small or odd; ReLU and BatchNorm in the generator,
    LeakyReLU(0.2) in the discriminator, BatchNorm behind all of its convolutions but the first.

    The work is done at half the sides and below, so it is several times as fast as `Conv` of the same width.
    What the discriminator says of an image depends on its batch: set `encoder_norm` to false beside gradient
    penalties and spectral norm.

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
        channels, height, width = image_shape(shape)
        widths = self._widths(shape)
        layers: list[nn.Module] = []
        for i, (n_in, n_next) in enumerate(pairwise([channels, *widths])):
            has_norm = self.encoder_norm and i > 0
            layers.append(nn.Conv2d(n_in, n_next, 4, stride=2, padding=1, bias=not has_norm))
            layers += [nn.BatchNorm2d(n_next)] if has_norm else []
            layers.append(nn.LeakyReLU(0.2))
        n_features = widths[-1] * (height >> len(widths)) * (width >> len(widths))
        return _initialised(nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_features, n_out)))

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape]."""
        return _initialised(nn.Sequential(*self._decoder(n_in, shape, nn.BatchNorm2d)))

    def class_decoder(self, n_in: int, shape: Shape, n_classes: int) -> nn.Module:
        """Vectors and classes side by side [B, n_in + n_classes] -> maps [B, *shape]; the norms read the class."""
        norm = lambda n: ClassBatchNorm(n, n_classes)  # noqa: E731
        return _initialised(ClassSequential(n_in, *self._decoder(n_in, shape, norm)))

    def _decoder(self, n_in: int, shape: Shape, norm: Norm) -> list[nn.Module]:
        channels, height, width = image_shape(shape)
        widths = self._widths(shape)[::-1]
        smallest = (widths[0], height >> len(widths), width >> len(widths))
        layers: list[nn.Module] = [
            nn.Linear(n_in, smallest[0] * smallest[1] * smallest[2], bias=False),
            nn.Unflatten(1, smallest),
        ]
        for n_wide, n_next in pairwise([*widths, channels]):
            layers += [norm(n_wide), nn.ReLU(), nn.ConvTranspose2d(n_wide, n_next, 4, stride=2, padding=1)]
        return layers

    def _widths(self, shape: Shape) -> list[int]:
        """Channels after each halving.

        Raises:
            ValueError: the sides cannot be halved.
        """
        n = halvings(*shape[1:])
        if not n:
            raise ValueError(f"DCGAN halves the sides of its images: {shape[1]} x {shape[2]} have none to halve")
        return [min(self.width << i, self.max_width) for i in range(n)]


def _initialised(network: nn.Sequential) -> nn.Sequential:
    """Weights from N(0, 0.02), biases 0 (their section 3)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
