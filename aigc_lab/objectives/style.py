"""The losses of Gatys, Ecker & Bethge 2016 ("Image style transfer using convolutional neural networks").

F are a layer's maps [N, H, W], N filters at M = H W places; P those of the content, A the style's Gram matrix.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def gram(maps: Tensor) -> Tensor:
    """G_ij = Σ_k F_ik F_jk / M, [N, N] (equation 3, and divided by M so that the size of a picture does not
    matter). Which filters answer together, and not where: it is the same for any permutation of the places."""
    flat = maps.flatten(1)
    return flat @ flat.mT / flat.shape[1]


def content_loss(maps: Tensor, content: Tensor) -> Tensor:
    """Mean of (F - P)²: equation 1 without its factor NM/2, so that layers of any size weigh the same."""
    return (maps - content).square().mean()


def style_loss(layers: Sequence[Tensor], grams: Sequence[Tensor]) -> Tensor:
    """Mean over the layers of E_l = Σ_ij (G_ij - A_ij)² / (4 N²), equations 4 and 5 with equal weights (M stands
    in `gram` already)."""
    each = [(gram(maps) - wanted).square().mean() / 4 for maps, wanted in zip(layers, grams, strict=True)]
    return torch.stack(each).mean()
