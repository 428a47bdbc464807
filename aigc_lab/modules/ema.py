"""The moving average of weights, which is what several families sample with."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, *, decay: float, step: int) -> None:
    """Parameters become decay · average + (1 - decay) · current; buffers, which no gradient moves, stay.

    Args:
        decay: in the limit. At first it is (1 + step) / (10 + step), so that the start is soon forgotten.
        step: batches before this one.
    """
    decay = min(decay, (1 + step) / (10 + step))
    averages: list[Tensor] = list(average.parameters())
    torch._foreach_lerp_(averages, list(current.parameters()), 1 - decay)
