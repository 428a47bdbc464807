"""The moving average of weights, which is what several families sample with."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, *, decay: float, step: int) -> None:
    """Parameters become decay · average + (1 - decay) · current, and so do buffers of numbers: the statistics of
    BatchNorm belong to the weights that made them.

    Args:
        decay: in the limit. At first it is (1 + step) / (10 + step), so that the start is soon forgotten.
        step: batches before this one.
    """
    decay = min(decay, (1 + step) / (10 + step))
    pairs = zip(
        [*average.parameters(), *average.buffers()], [*current.parameters(), *current.buffers()], strict=True
    )
    averages: list[Tensor] = []
    values: list[Tensor] = []
    for kept, now in pairs:
        if kept.is_floating_point():
            averages.append(kept)
            values.append(now)
        else:
            kept.copy_(now)  # a counter
    torch._foreach_lerp_(averages, values, 1 - decay)
