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
