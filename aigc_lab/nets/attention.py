"""Attention and what it sees: rotary positions, masks, the cache of keys and values.

Shapes: B batch, L positions, H heads, K heads of keys and values (K divides H), D channels of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROTARY_BASE = 10_000.0


@dataclass
class KVCache:
    """Keys and values of the positions seen so far, preallocated for `capacity` positions.

    `keys` and `values` are [n_layers, B, K, capacity, D]; `length` positions of them are filled. `documents`
    [B, length] is there when several texts share a row; see `document_sight`.
    """

    keys: Tensor
    values: Tensor
    length: int = 0
    documents: Tensor | None = None

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on as what row `rows[i]` was."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]

    def layer(self, i: int) -> "Past":
        """What block i reads and extends."""
        return Past(self.keys[i], self.values[i], self.length)


@dataclass(frozen=True)
class Past:
    """One layer of a `KVCache`: [B, K, capacity, D], of which `length` positions are filled."""

    keys: Tensor
    values: Tensor
    length: int

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, K, L, D] behind what is there, in place; everything that is there then."""
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        return self.keys[:, :, :end], self.values[:, :, :end]


@dataclass(frozen=True)
class Sight:
    """Which positions may be seen: those where `mask` is true (none: all), and with `causal` no later one."""

    mask: Tensor | None = None
    causal: bool = False


def causal_sight(length: int, *, seen: int, window: int | None, device: torch.device) -> Sight:
    """What `length` new positions behind `seen` old ones may see: themselves and those before, the last
    `window` of these with a sliding window (Beltagy et al. 2020), itself counted."""
    narrow = window is not None and seen + length > window
    if not narrow and not (seen and length > 1):
        return Sight(causal=length > 1)  # the fast kernels; a single new position sees everything
    new = torch.arange(seen, seen + length, device=device)[:, None]
    old = torch.arange(seen + length, device=device)
    mask = old <= new
    return Sight(mask & (old > new - window) if window is not None else mask)


def document_sight(documents_BE: Tensor, length: int, *, window: int | None, causal: bool) -> Sight:
    """As `causal_sight` for the last `length` of E positions, but within one document only.

    Args:
        documents_BE: a number per position, the same for neighbours of one document: several texts that share a
            row (packing), or one behind padding.
    """
    seen = documents_BE.shape[1] - length
    same = documents_BE[:, seen:, None] == documents_BE[:, None, :]
    if causal:
        every = causal_sight(length, seen=seen, window=window, device=documents_BE.device)
        mask = every.mask
        if mask is None:
            mask = torch.ones(length, seen + length, dtype=torch.bool, device=documents_BE.device).tril(seen)
        same = same & mask
    return Sight(same[:, None])


def places(documents_BL: Tensor) -> Tensor:
    """The position of each symbol in its document, from 0: [B, L]."""
    index = torch.arange(documents_BL.shape[1], device=documents_BL.device).expand_as(documents_BL)
    begins = torch.ones_like(documents_BL, dtype=torch.bool)
    begins[:, 1:] = documents_BL[:, 1:] != documents_BL[:, :-1]
    return index - (index * begins).cummax(1).values


class HeadNorm(nn.RMSNorm):
    """Unit RMS of each head, computed as precisely as its weight is stored: with autocast what it is given is not,
    and torch's fused kernels take one precision only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017), with fewer heads of keys and values where asked for (grouped
    queries, Ainslie et al. 2023).

    Args:
        width: channels of the input.
        n_heads, n_kv_heads: H, and K which divides it.
        qk_norm: queries and keys have unit RMS before they are rotated (Henry et al. 2020).
        bias: of the projections.
    """

    def __init__(self, width: int, *, n_heads: int, n_kv_heads: int, qk_norm: bool, bias: bool) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_size = n_heads, n_kv_heads, width // n_heads
        self.qkv = nn.Linear(width, (n_heads + 2 * n_kv_heads) * self.head_size, bias=bias)
        self.query_norm = HeadNorm(self.head_size, eps=1e-6) if qk_norm else nn.Identity()
        self.key_norm = HeadNorm(self.head_size, eps=1e-6) if qk_norm else nn.Identity()
        self.project = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, rotation: Tensor | None, sight: Sight, past: Past | None = None) -> Tensor:
        """[B, L, width] -> the same; `past` is seen too, and extended."""
        B, L, _ = x.shape
        heads = self.qkv(x).view(B, L, -1, self.head_size).transpose(1, 2)
        q, k, v = heads.split([self.n_heads, self.n_kv_heads, self.n_kv_heads], 1)
        q, k = self.query_norm(q), self.key_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if past is not None:
            k, v = past.extend(k, v)
        return self.project(attend(q, k, v, sight))


@dataclass(frozen=True)
class Source:
    """What cross-attention sees of another sequence: `keys` and `values` [B, K, S, D] of its S positions, and
    which of them are there, bool [B, 1, 1, S]."""

    keys: Tensor
    values: Tensor
    mask: Tensor


class CrossAttention(nn.Module):
    """Queries of one sequence, keys and values of another (Vaswani et al. 2017, section 3.2.3), which are computed
    once however often they are looked at. Nothing is rotated: the two have no distance.

    Args:
        width, n_heads, n_kv_heads, qk_norm, bias: as for `Attention`.
    """

    def __init__(self, width: int, *, n_heads: int, n_kv_heads: int, qk_norm: bool, bias: bool) -> None:
        super().__init__()
        self.head_size = width // n_heads
        self.query = nn.Linear(width, width, bias=bias)
        self.kv = nn.Linear(width, 2 * n_kv_heads * self.head_size, bias=bias)
        self.query_norm = HeadNorm(self.head_size, eps=1e-6) if qk_norm else nn.Identity()
        self.key_norm = HeadNorm(self.head_size, eps=1e-6) if qk_norm else nn.Identity()
        self.project = nn.Linear(width, width, bias=bias)

    def read(self, source_BSC: Tensor, there_BS: Tensor) -> Source:
        """Another sequence's hidden channels, and which of its positions are there, as `forward` sees them."""
        B, S, _ = source_BSC.shape
        keys, values = self.kv(source_BSC).view(B, S, -1, self.head_size).transpose(1, 2).chunk(2, 1)
        return Source(self.key_norm(keys), values, there_BS[:, None, None])

    def forward(self, x: Tensor, source: Source) -> Tensor:
        """[B, L, width] -> the same."""
        B, L, _ = x.shape
        q = self.query_norm(self.query(x).view(B, L, -1, self.head_size).transpose(1, 2))
        return self.project(attend(q, source.keys, source.values, Sight(source.mask)))


def attend(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    """softmax(q kᵀ / √D) v of queries [B, H, L, D], keys and values [B, K, E, D], the heads side by side:
    [B, L, H·D]."""
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask=sight.mask, is_causal=sight.causal, enable_gqa=k.shape[1] < q.shape[1]
    )
    return y.transpose(1, 2).flatten(2)


def rotary_angles(context: int, head_size: int) -> Tensor:
    """[2, context, head_size]: cosines and signed sines for `rotate`, frequencies base^(-2i/head_size)
    (Su et al. 2021)."""
    frequencies = ROTARY_BASE ** (-torch.arange(0, head_size, 2) / head_size)
    angles = torch.outer(torch.arange(context), frequencies)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the pair (x_i, x_{i+D/2}) of each position by its angles. x: [B, H, L, D]; rotation: [2, L, D] or
    [2, B, 1, L, D]."""
    cos, sin = rotation.to(x.dtype)
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin
