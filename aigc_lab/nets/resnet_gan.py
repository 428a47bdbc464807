"""The residual networks of SNGAN (Miyato et al. 2018, appendix B.4) for any side that can be halved."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.nets.conv import halvings, image_shape
from aigc_lab.nets.norms import ClassBatchNorm, ClassSequential, Norm, TakesClass, apply_norm
from aigc_lab.nets.upsample import UpsampleConv
from aigc_lab.types import PositiveInt, Shape


@dataclass(frozen=True, kw_only=True)
class ResNetGAN:
    """Pre-activation blocks: BatchNorm, ReLU and nearest upsampling in the generator; no norm, average pooling and
    a sum over the places in the discriminator, made for spectral norm.

    Args:
        width: channels of every block.
    """

    width: PositiveInt

    def encoder(self, shape: Shape, n_out: int) -> nn.Module:
        """Images [B, *shape] -> vectors [B, n_out]."""
        channels, *sides = image_shape(shape)
        n = halvings(*sides)
        widths = [channels, *[self.width] * (n + 2)]
        blocks = [_Down(a, b, halve=i < n, first=i == 0) for i, (a, b) in enumerate(pairwise(widths))]
        return _initialised(nn.Sequential(*blocks, nn.ReLU(), _SumOverPlaces(), nn.Linear(self.width, n_out)))

    def decoder(self, n_in: int, shape: Shape) -> nn.Module:
        """Vectors [B, n_in] -> maps [B, *shape]."""
        return _initialised(ClassSequential(n_in, *self._decoder(n_in, shape, nn.BatchNorm2d)))

    def class_decoder(self, n_in: int, shape: Shape, n_classes: int) -> nn.Module:
        """Vectors and classes side by side [B, n_in + n_classes] -> maps [B, *shape]; the norms read the class."""
        norm = lambda n: ClassBatchNorm(n, n_classes)  # noqa: E731
        return _initialised(ClassSequential(n_in, *self._decoder(n_in, shape, norm)))

    def _decoder(self, n_in: int, shape: Shape, norm: Norm) -> list[nn.Module]:
        channels, height, width = image_shape(shape)
        n = halvings(height, width)
        smallest = (self.width, height >> n, width >> n)
        last = nn.Conv2d(self.width, channels, 3, padding=1)
        return [
            nn.Linear(n_in, smallest[0] * smallest[1] * smallest[2]),
            nn.Unflatten(1, smallest),
            *(_Up(self.width, norm) for _ in range(n)),
            nn.BatchNorm2d(self.width),
            nn.ReLU(),
            last,
        ]


class _Up(TakesClass):
    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.first_norm, self.second_norm = norm(width), norm(width)
        self.first, self.second = UpsampleConv(width, width), nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        branch = self.first(F.relu(apply_norm(self.first_norm, x, classes)))
        branch = self.second(F.relu(apply_norm(self.second_norm, branch, classes)))
        return F.interpolate(self.skip(x), scale_factor=2) + branch  # 1x1 commutes with upsampling


class _Down(nn.Module):
    def __init__(self, n_in: int, n_out: int, *, halve: bool, first: bool) -> None:
        super().__init__()
        self.halve, self.first_of_all = halve, first
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.skip = nn.Conv2d(n_in, n_out, 1) if halve or n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second(F.relu(self.first(x if self.first_of_all else F.relu(x))))
        if not self.halve:
            return self.skip(x) + branch
        return self.skip(F.avg_pool2d(x, 2)) + F.avg_pool2d(branch, 2)


class _SumOverPlaces(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))


def _initialised(network: nn.Sequential) -> nn.Sequential:
    """Glorot & Bengio 2010, with gain √2 in the branches of blocks, as in their code."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = 2**0.5 if name.endswith(("first", "second")) else 1.0
            nn.init.xavier_uniform_(module.weight, gain)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network
