"""Networks between images and grids of codes, and a law of such grids.

Shapes: B batch, D channels of a code's vector, h and w sides of the grid.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from aigc_lab.nets.conv import Residual
from aigc_lab.nets.transformer import Transformer
from aigc_lab.types import Fraction, PositiveInt, Shape


@dataclass(frozen=True, kw_only=True)
class Strided:
    """Squares of 2x2 pixels become one position, `halvings` times, and residual blocks work at the last resolution
    (after van den Oord et al. 2017, section 4.1).

    Args:
        n_codes: entries of the codebook.
        code_dim: D, the size of each.
        width: channels inside.
        halvings: of both sides.
        blocks: at the grid's resolution, in either direction.
    """

    n_codes: PositiveInt
    code_dim: PositiveInt
    width: PositiveInt
    halvings: PositiveInt
    blocks: PositiveInt

    def grid(self, shape: Shape) -> tuple[int, int]:
        """Its sides, (h, w).

        Raises:
            ValueError: the images' sides cannot be halved so often.
        """
        _, height, width = shape
        factor = 2**self.halvings
        if height % factor or width % factor:
            raise ValueError(f"codes.halvings={self.halvings}: {height}x{width} pixels cannot be halved so often")
        return height // factor, width // factor

    def encoder(self, shape: Shape) -> nn.Module:
        """Images [B, *shape] in [-1, 1] -> [B, D, h, w]."""
        widths = [shape[0], *[self.width] * self.halvings]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.PixelUnshuffle(2), nn.Conv2d(4 * n_in, n_out, 3, padding=1), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers[:-1], *self._blocks(), nn.Conv2d(self.width, self.code_dim, 1))

    def decoder(self, shape: Shape) -> nn.Module:
        """[B, D, h, w] -> maps [B, *shape]."""
        widths = [*[self.width] * self.halvings, shape[0]]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.LeakyReLU(0.2), nn.Conv2d(n_in, 4 * n_out, 3, padding=1), nn.PixelShuffle(2)]
        return nn.Sequential(nn.Conv2d(self.code_dim, self.width, 1), *self._blocks(), *layers)

    def _blocks(self) -> list[nn.Module]:
        return [Residual(self.width, self.width) for _ in range(self.blocks)]


@dataclass(frozen=True, kw_only=True)
class CodePrior:
    """A `Transformer` over grids, whose size and alphabet are known only with the codes; the options are its own.

    Every position of a grid has its own statistics, so positions are learned.
    """

    width: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    dropout: Fraction

    def network(self, grid: tuple[int, int], n_codes: int) -> Transformer:
        """Of codes 0 .. n_codes-1 in raster order."""
        return Transformer(
            shape=grid,
            vocab_size=n_codes,
            width=self.width,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            dropout=self.dropout,
            position_embedding=True,
        )


def nearest(z_ND: Tensor, codebook_KD: Tensor) -> Tensor:
    """The entry nearest to each vector, int64 [N]; the first of several.

    Without autocast: by products of 8 bits a twelfth of MNIST's codes are others.
    """
    with torch.autocast(z_ND.device.type, enabled=False):
        return (codebook_KD.square().sum(1) - 2 * z_ND @ codebook_KD.T).argmin(1)


class MovingMeans(nn.Module):
    """A codebook as moving averages of the vectors that each entry is nearest to (van den Oord et al. 2017,
    appendix A.1). Its state is of buffers; nothing is learnt by gradients.

    Args:
        n_codes, dim: K and D.
        decay: of the averages.
        restart_below: an entry with at most so many vectors, on the moving average, begins anew.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, n_codes: int, dim: int, *, decay: float, restart_below: float) -> None:
        super().__init__()
        self.decay, self.restart_below = decay, restart_below
        self.register_buffer("counts", torch.zeros(n_codes))
        self.register_buffer("sums", torch.zeros(n_codes, dim))

    @torch.no_grad()
    def update(self, counts_K: Tensor, sums_KD: Tensor, fresh_KD: Tensor) -> Tensor:
        """The next codebook, [K, D].

        Args:
            counts_K, sums_KD: of the vectors that each entry was nearest to.
            fresh_KD: what entries become that begin anew, as if one vector had been theirs.
        """
        self.counts.lerp_(counts_K, 1 - self.decay)
        self.sums.lerp_(sums_KD, 1 - self.decay)
        dead = self.counts <= self.restart_below
        self.counts.masked_fill_(dead, 1.0)
        self.sums.copy_(torch.where(dead[:, None], fresh_KD, self.sums))
        return self.sums / self.counts[:, None]

    def perplexity(self) -> Tensor:
        """How many entries are in use: exp of the entropy of their shares."""
        return torch.special.entr(self.counts / self.counts.sum()).sum().exp()
