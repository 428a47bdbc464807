"""Normalisation: by the batch, by the class, by the spectrum."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Norm = Callable[[int], nn.Module]
"""Makes a norm of so many channels."""


class TakesClass(nn.Module):
    """A layer whose forward also has the classes [B, K], one-hot or soft."""


class ClassBatchNorm(TakesClass):
    """BatchNorm whose gain and bias are the class's (de Vries et al. 2017; Dumoulin et al. 2017)."""

    def __init__(self, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n_channels, affine=False)
        self.gain = nn.Parameter(torch.ones(n_classes, n_channels))
        self.bias = nn.Parameter(torch.zeros(n_classes, n_channels))

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """[B, C, H, W] and classes [B, K] -> [B, C, H, W]."""
        gain, bias = (classes @ weight for weight in (self.gain, self.bias))
        gain, bias = gain[..., None, None], bias[..., None, None]
        return torch.addcmul(bias, self.norm(x), gain)


class ClassSequential(nn.Sequential):
    """Layers in a row, of which some take the class; the input is [z, class] side by side, [B, n_in + K]."""

    def __init__(self, n_in: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.n_in = n_in

    def forward(self, input: Tensor) -> Tensor:
        x, classes = input[:, : self.n_in], input[:, self.n_in :]
        for layer in self:
            x = layer(x, classes) if isinstance(layer, TakesClass) else layer(x)
        return x


def apply_norm(norm: nn.Module, x: Tensor, classes: Tensor | None) -> Tensor:
    """norm(x), or norm(x, classes) where it takes them."""
    return norm(x, classes) if isinstance(norm, TakesClass) else norm(x)


def with_spectral_norm(network: nn.Module) -> nn.Module:
    """Every matrix divided by its largest singular value, in place (Miyato et al. 2018): D is Lipschitz.

    The singular vectors move by a power iteration in each forward pass in training; they are buffers.

    Raises:
        ValueError: a matrix starts as zero.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)]
    if any(not layer.weight.any() for layer in layers):
        raise ValueError(
            "spectral_norm: the discriminator has layers that start as zero, which have no norm to divide by; use "
            "another network (dcgan, resnet, conv), or a penalty (model/penalties=r1)"
        )
    for layer in layers:
        parametrizations.spectral_norm(layer)
    return network
