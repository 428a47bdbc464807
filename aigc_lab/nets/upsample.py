"""Nearest upsampling and a 3x3 convolution as one transposed convolution."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FOLD = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""What of a 3-tap kernel each tap of the 4-tap kernel adds up: two of its taps see the same doubled pixel."""


class UpsampleConv(nn.Conv2d):
    """`Upsample(scale_factor=2)`, then a 3x3 convolution of padding 1, with the weights of that convolution.

    Three taps on doubled pixels see two of them, so the same function is a transposed 4x4 convolution of stride 2
    on half the sides: 4 products for each place and pair of channels where there were 9.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 3, padding=1)
        self.fold: Tensor
        self.register_buffer("fold", _FOLD, persistent=False)

    def kernel(self) -> Tensor:
        """The 4x4 kernel, [n_in, n_out, 4, 4]."""
        return (self.fold @ self.weight @ self.fold.mT).transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, n_in, H, W] -> [B, n_out, 2H, 2W]."""
        return F.conv_transpose2d(x, self.kernel(), self.bias, stride=2, padding=1)
