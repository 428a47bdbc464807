"""The networks and the images of eriklindernoren/PyTorch-GAN's gan.py and dcgan.py, as the lab describes networks.

The same functions of the same weights, up to the sigmoid behind D, which the lab's games have in their losses
(`pytorch_gan.py` checks it). Its BatchNorm has eps = 0.8, for 0.8 stands where torch expects eps.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from aigc_lab.data.images import LabelledImages, RawImages, TorchvisionImages
from aigc_lab.nets.upsample import UpsampleConv
from aigc_lab.types import PositiveInt, Shape

EPS = 0.8


@dataclass(frozen=True, kw_only=True)
class GanMLP:
    """gan.py: 100-128-256-512-1024-784 with BatchNorm, and 784-512-256-1."""

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        sizes = [math.prod(shape), 512, 256]
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_next in pairwise(sizes):
            layers += [nn.Linear(n_in, n_next), nn.LeakyReLU(0.2, inplace=True)]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], n_out))

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        layers: list[nn.Module] = [nn.Linear(n_in, 128), nn.LeakyReLU(0.2, inplace=True)]
        for n_wide in (128, 256, 512):
            wider = 2 * n_wide
            layers += [nn.Linear(n_wide, wider), nn.BatchNorm1d(wider, EPS), nn.LeakyReLU(0.2, inplace=True)]
        return nn.Sequential(*layers, nn.Linear(1024, math.prod(shape)), nn.Unflatten(1, shape))


@dataclass(frozen=True, kw_only=True)
class GanDCGAN:
    """dcgan.py: a linear layer and two upsampling 3x3 convolutions; four strided 3x3 convolutions with dropout.

    Args:
        folded: upsampling and convolution as one transposed convolution, the same function (`UpsampleConv`).
    """

    folded: bool

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        channels, side, _ = shape
        layers: list[nn.Module] = []
        for i, (n_in, n_next) in enumerate(pairwise([channels, 16, 32, 64, 128])):
            layers += [nn.Conv2d(n_in, n_next, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True), nn.Dropout2d(0.25)]
            layers += [nn.BatchNorm2d(n_next, EPS)] if i else []
        return _initialised(nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * (side // 16) ** 2, n_out)))

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        channels, side, _ = shape
        small = side // 4
        layers: list[nn.Module] = [nn.Linear(n_in, 128 * small**2), nn.Unflatten(1, (128, small, small))]
        layers.append(nn.BatchNorm2d(128))
        for n_wide, n_next in pairwise([128, 128, 64]):
            layers += self._doubled(n_wide, n_next)
            layers += [nn.BatchNorm2d(n_next, EPS), nn.LeakyReLU(0.2, inplace=True)]
        return _initialised(nn.Sequential(*layers, nn.Conv2d(64, channels, 3, 1, 1)))

    def _doubled(self, n_in: int, n_out: int) -> list[nn.Module]:
        if self.folded:
            return [UpsampleConv(n_in, n_out)]
        return [nn.Upsample(scale_factor=2), nn.Conv2d(n_in, n_out, 3, 1, 1)]


def _initialised(network: nn.Sequential) -> nn.Sequential:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return network


@dataclass(kw_only=True)
class Resized(TorchvisionImages):
    """A data set of torchvision, its images resized to a square as torchvision's `Resize` does.

    Args:
        size: sides in pixels.
    """

    size: PositiveInt

    def _read(self) -> RawImages:
        name, train, held_out, levels = super()._read()

        def resize(images: LabelledImages) -> LabelledImages:
            wanted = (self.size, self.size)
            pixels = F.interpolate(images.pixels.float(), wanted, mode="bilinear", antialias=True)
            return LabelledImages(pixels.round().clamp(0, 255).to(torch.uint8), images.labels)

        return RawImages(f"{name}{self.size}", resize(train), resize(held_out), levels)
