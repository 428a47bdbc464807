"""The rank statistic behind both AUC and the test of Mann and Whitney."""

import torch
from torch import Tensor

from aigc_lab.estimate import Estimate


def probability_greater(x: Tensor, y: Tensor) -> Estimate:
    """P(x > y) + P(x = y) / 2 over all pairs of x [n] and y [m]: U / (n m), and the AUC of scores x against y.

    1/2 for identical laws. The interval is DeLong's (1988), over both samples.
    """
    of_x, of_y = _share_below(x, y), _share_below(y, x)
    return Estimate.linear(float(of_x.mean()), of_x, of_y)


def _share_below(x: Tensor, y: Tensor) -> Tensor:
    """For each x the share of the y below it, an equal one counting half, float64."""
    ordered = y.sort().values
    below, not_above = (torch.searchsorted(ordered, x, right=right) for right in (False, True))
    return (below + not_above).double() / (2 * len(y))
