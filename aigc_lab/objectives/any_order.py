"""Likelihood in any order: a bound on log p from symbols that are masked at random.

A model of p(x_i | the symbols that are not masked) that unmasks `at_once` symbols in each of S = ⌈D / at_once⌉
steps, at places drawn uniformly, has a law with (Uria et al. 2014; Hoogeboom et al. 2022)

    log p(x)  ≥  E_order Σ_s Σ_{i unmasked in step s} log p(x_i | symbols unmasked before)
              =  E_s E_mask  S · min(at_once, k) / k · Σ_{i masked} log p(x_i | symbols not masked),

where step s = 0 .. S-1 is drawn uniformly, and of the D symbols k = D - s · at_once are still masked: those that
step s unmasks are as good as any of them. For `at_once` = 1, k is uniform on 1 .. D, and absorbing diffusion
(Austin et al. 2021) in continuous time has the same bound.

Shapes: B rows, L positions, V symbols.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def draw_mask(free_BL: Tensor, at_once: int, step_B: Tensor, order_BL: Tensor) -> tuple[Tensor, Tensor]:
    """A mask, and what the masked symbols' log p is multiplied with: bool [B, L] and [B].

    Args:
        free_BL: which positions may be masked, D of them; at least one in every row.
        step_B: in [0, 1): where in its S steps a row is.
        order_BL: random numbers; free positions are unmasked from the largest to the smallest.
    """
    D = free_BL.sum(1)
    S = -(-D // at_once)
    k = D - (step_B * S).long().clamp(max=S - 1) * at_once
    rank = order_BL.masked_fill(~free_BL, math.inf).argsort(1).argsort(1)
    return free_BL & (rank < k[:, None]), S * k.clamp(max=at_once) / k


def stratified(uniform: Tensor, n: int) -> Tensor:
    """n numbers in [0, 1), evenly apart from a uniform one on: each is uniform, and together they vary less."""
    return (uniform + torch.arange(n, device=uniform.device) / n) % 1


def bound(logits_BLV: Tensor, symbols_BL: Tensor, masked_BL: Tensor, weight_B: Tensor) -> Tensor:
    """weight · Σ_{i masked} log p(x_i), whose mean over steps and masks is at most log p(x): [B] nats."""
    nats = F.cross_entropy(logits_BLV.mT.float(), symbols_BL, reduction="none")
    return -weight_B * (nats * masked_BL).sum(1)
