"""A decoder-only Transformer over sequences of symbols: bytes, characters or pixel values.

Shapes: B batch, L positions, H heads, D = width / n_heads, V symbols.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.types import Fraction, PositiveInt, Shape


@dataclass
class KVCache:
    """Keys and values of the positions seen so far, preallocated for `capacity` positions.

    `keys` and `values` are [n_layers, B, H, capacity, D]; `length` positions of them are filled.
    """

    keys: Tensor
    values: Tensor
    length: int = 0

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]


class Transformer(nn.Module):
    """Pre-norm Transformer with rotary positions (Su et al. 2021), RMSNorm and QK-norm, ReLU² feed-forward.

    The input alphabet has one symbol more than the output: `start`, the symbol before the first.

    Args:
        shape: shape of one item; its number of elements is the longest sequence, `context`.
        vocab_size: V, the number of values that an element takes.
        width: channels of the residual stream.
        n_layers, n_heads: blocks, and attention heads in each.
        dropout: rate on the residual branches and the embedding.
        place_embedding: add a learned vector for each position to the rotary ones. For images, where every
            pixel has its own statistics, it is worth 0.03 bits per pixel on the digits; a text's windows begin
            anywhere, and their positions mean nothing.

    Raises:
        ValueError: `width` does not divide into `n_heads` heads of even size.
    """

    def __init__(
        self,
        *,
        shape: Shape,
        vocab_size: PositiveInt,
        width: PositiveInt,
        n_layers: PositiveInt,
        n_heads: PositiveInt,
        dropout: Fraction,
        place_embedding: bool,
    ) -> None:
        super().__init__()
        if width % n_heads or (width // n_heads) % 2:
            raise ValueError(f"width={width} must divide into n_heads={n_heads} heads of even size")
        self.context = math.prod(shape)
        self.n_heads, self.head_size = n_heads, width // n_heads
        self.vocab_size = vocab_size
        self.start = vocab_size
        self.embedding = nn.Embedding(vocab_size + 1, width)
        self.places = nn.Parameter(torch.zeros(self.context, width)) if place_embedding else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, n_heads, dropout) for _ in range(n_layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.register_buffer("rotation", rotary_angles(self.context, width // n_heads), persistent=False)
        self._initialise(n_layers)

    rotation: Tensor

    def _initialise(self, n_layers: int) -> None:
        """GPT-2's: normal(0, 0.02), residual projections scaled down by the number of branches."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and name != "places":
                scale = 0.02 / math.sqrt(2 * n_layers) if name.endswith("project.weight") else 0.02
                nn.init.normal_(parameter, std=scale)

    def forward(self, symbols_BL: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits [B, L, V] of the symbol that follows each of the given ones.

        With a `cache`, the given symbols continue those it holds, and are added to it.
        """
        return self.head(self.hidden(symbols_BL, cache))

    def hidden(self, symbols_BL: Tensor, cache: KVCache | None = None) -> Tensor:
        """What the logits are read from, [B, L, width]; see `forward`."""
        begin = cache.length if cache else 0
        length = symbols_BL.shape[1]
        assert begin + length <= self.context, f"{begin + length} positions exceed the context {self.context}"
        rotation = self.rotation[:, begin : begin + length]
        x = self.embedding(symbols_BL)
        if self.places is not None:
            x = x + self.places[begin : begin + length]
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            past = (cache.keys[i], cache.values[i], begin) if cache else None
            x = block(x, rotation, past)
        if cache:
            cache.length += length
        return self.norm(x)

    def new_cache(self, batch: int) -> KVCache:
        """An empty cache for `batch` sequences of at most `context` positions."""
        shape = (len(self.blocks), batch, self.n_heads, self.context, self.head_size)
        return KVCache(self.head.weight.new_zeros(shape), self.head.weight.new_zeros(shape))


class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, n_heads)
        self.feed_forward_norm = nn.RMSNorm(width)
        self.feed_forward = FeedForward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotation: Tensor, past: tuple[Tensor, Tensor, int] | None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, past))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Attention(nn.Module):
    """Causal multi-head attention; queries and keys are normalised, then rotated by their position."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads, self.head_size = n_heads, width // n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.RMSNorm(self.head_size)
        self.key_norm = nn.RMSNorm(self.head_size)
        self.project = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotation: Tensor, past: tuple[Tensor, Tensor, int] | None) -> Tensor:
        B, L, _ = x.shape
        q, k, v = self.qkv(x).view(B, L, 3, self.n_heads, self.head_size).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.query_norm(q), rotation), rotate(self.key_norm(k), rotation)
        if past is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            keys, values, begin = past
            end = begin + L
            keys[:, :, begin:end], values[:, :, begin:end] = k, v
            mask = None  # one new position sees everything before it
            if L > 1:
                mask = torch.ones(L, end, dtype=torch.bool, device=x.device).tril(begin)
            y = F.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], attn_mask=mask)
        return self.project(y.transpose(1, 2).reshape(B, L, -1))


class FeedForward(nn.Module):
    """Four times wider, ReLU² (So et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.project = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(F.relu(self.expand(x)).square())


def rotary_angles(context: int, head_size: int, base: float = 10_000.0) -> Tensor:
    """[2, context, head_size]: cosines and signed sines for `rotate`, frequencies base^(-2i/head_size)."""
    frequencies = base ** (-torch.arange(0, head_size, 2) / head_size)
    angles = torch.outer(torch.arange(context), frequencies)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the pair (x_i, x_{i+D/2}) of each position by its angles. x: [B, H, L, D]."""
    cos, sin = rotation.to(x.dtype)
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin
