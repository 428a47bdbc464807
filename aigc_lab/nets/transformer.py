"""The Transformer of every sequence: bytes, characters, subwords or pixel values.

Shapes: B batch, L positions, V symbols.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.nets.attention import (
    Attention,
    CrossAttention,
    KVCache,
    Past,
    Sight,
    Source,
    causal_sight,
    document_sight,
    places,
    rotary_angles,
)
from aigc_lab.types import Fraction, PositiveInt, Shape


class Transformer(nn.Module):
    """Pre-norm Transformer (Radford et al. 2019) with the options that later work found worth having.

    The alphabet has V + 1 symbols, in and out: the data's, and `start`, which stands before the first and, where
    texts end, behind the last.

    Args:
        shape: shape of one item; its number of elements is the longest sequence, `context`.
        vocab_size: V, the number of values that an element takes.
        width: channels of the residual stream.
        n_layers, n_heads: blocks, and attention heads in each.
        n_kv_heads: heads of keys and values; None: as many as `n_heads`.
        hidden: channels inside the feed-forward; None: 4 width, or 8/3 width where it is gated, which is as many
            parameters.
        dropout: rate on the residual branches and the embedding.
        rotary: positions as rotations of queries and keys.
        position_embedding: positions as a learned vector each. For images, where every pixel has its own
            statistics, it is worth 0.03 bits per pixel on the digits beside the rotations; a text's windows
            begin anywhere, and their positions mean nothing.
        norm: `rms` (Zhang & Sennrich 2019) or `layer`.
        feed_forward: `relu2` (So et al. 2021), `gelu`, or `swiglu` (Shazeer 2020).
        qk_norm: normalise queries and keys.
        bias: of linear maps and layer norms.
        tied: the embedding is the head too.
        window: positions that attention sees, itself counted; None: all before it.
        causal: whether a position sees those before it only.

    Raises:
        ValueError: `width` does not divide into `n_heads` heads of even size, or these into `n_kv_heads` groups.
    """

    cross: ClassVar[bool] = False
    """Whether the blocks look at another sequence too."""

    def __init__(
        self,
        *,
        shape: Shape,
        vocab_size: PositiveInt,
        width: PositiveInt,
        n_layers: PositiveInt,
        n_heads: PositiveInt,
        n_kv_heads: PositiveInt | None = None,
        hidden: PositiveInt | None = None,
        dropout: Fraction = 0.0,
        rotary: bool = True,
        position_embedding: bool = False,
        norm: Literal["rms", "layer"] = "rms",
        feed_forward: Literal["relu2", "gelu", "swiglu"] = "relu2",
        qk_norm: bool = True,
        bias: bool = False,
        tied: bool = False,
        window: PositiveInt | None = None,
        causal: bool = True,
    ) -> None:
        super().__init__()
        if width % n_heads or (width // n_heads) % 2:
            raise ValueError(f"width={width} must divide into n_heads={n_heads} heads of even size")
        if n_heads % (n_kv_heads or n_heads):
            raise ValueError(f"n_heads={n_heads} must divide into n_kv_heads={n_kv_heads} groups")
        self.context = math.prod(shape)
        self.vocab_size, self.start = vocab_size, vocab_size
        self.window, self.causal = window, causal
        layout = Layout(
            width=width,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads or n_heads,
            hidden=hidden or (8 * width // 3 if feed_forward == "swiglu" else 4 * width),
            dropout=dropout,
            norm=norm,
            activation=feed_forward,
            qk_norm=qk_norm,
            bias=bias,
        )
        self.layout = layout
        self.embedding = nn.Embedding(vocab_size + 1, width)
        self.positions = nn.Parameter(torch.zeros(self.context, width)) if position_embedding else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(layout, cross=self.cross) for _ in range(n_layers))
        self.norm = layout.new_norm()
        self.head = None if tied else nn.Linear(width, vocab_size + 1, bias=False)
        rotation = rotary_angles(self.context, width // n_heads) if rotary else None
        self.register_buffer("rotation", rotation, persistent=False)
        self._initialise(n_layers)

    rotation: Tensor | None

    def _initialise(self, n_layers: int) -> None:
        """GPT-2's: normal(0, 0.02), residual projections scaled down by the number of branches, biases 0."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and name != "positions":
                scale = 0.02 / math.sqrt((2 + self.cross) * n_layers) if name.endswith("project.weight") else 0.02
                nn.init.normal_(parameter, std=scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def matrices(self) -> Iterator[nn.Parameter]:
        """The matrices of the blocks, which map hidden channels to hidden channels."""
        return (parameter for parameter in self.blocks.parameters() if parameter.ndim == 2)

    def forward(
        self,
        symbols_BL: Tensor,
        cache: KVCache | None = None,
        *,
        documents_BL: Tensor | None = None,
        source: Sequence[Source] | None = None,
    ) -> Tensor:
        """Logits [B, L, V + 1]: where causal, of the symbol that follows each of the given ones.

        With a `cache`, the given symbols continue those it holds, and are added to it. With `documents`, only
        symbols of one document see each other, and positions count from its first (`document_sight`).
        `source` is what each block sees of another sequence, where `cross`.
        """
        x = self.hidden(symbols_BL, cache, documents_BL=documents_BL, source=source)
        return F.linear(x, self.embedding.weight) if self.head is None else self.head(x)

    def hidden(
        self,
        symbols_BL: Tensor,
        cache: KVCache | None = None,
        *,
        documents_BL: Tensor | None = None,
        source: Sequence[Source] | None = None,
    ) -> Tensor:
        """What the logits are read from, [B, L, width]; see `forward`."""
        begin = cache.length if cache else 0
        length = symbols_BL.shape[1]
        assert begin + length <= self.context, f"{begin + length} positions exceed the context {self.context}"
        if documents_BL is not None and cache is not None:
            past = cache.documents
            documents_BL = documents_BL if past is None else torch.cat([past, documents_BL], 1)
            cache.documents = documents_BL
        where: slice | Tensor = slice(begin, begin + length)
        if documents_BL is None:
            every = causal_sight(length, seen=begin, window=self.window, device=symbols_BL.device)
            sight = every if self.causal else Sight()
        else:
            where = places(documents_BL)[:, begin:]
            sight = document_sight(documents_BL, length, window=self.window, causal=self.causal)
        x = self.embedding(symbols_BL)
        if self.positions is not None:
            x = x + self.positions[where]
        rotation = None
        if self.rotation is not None:
            rotation = self.rotation[:, where]
            rotation = rotation if documents_BL is None else rotation[:, :, None]  # the same for every head
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, rotation, sight, cache.layer(i) if cache else None, source[i] if source else None)
        if cache:
            cache.length += length
        return self.norm(x)

    def incremental(self, rows: int) -> Callable[[Tensor, KVCache], Tensor]:
        """What continues a cache of so many rows by one symbol each, faster than `forward` does. It keeps the
        weights of now."""
        from aigc_lab.nets.incremental import Incremental
        from aigc_lab.nets.single_row import SingleRow

        weight = self.embedding.weight
        alone = rows == 1 and weight.device.type == "cpu" and weight.dtype == torch.float32
        return SingleRow(self) if alone else Incremental(self)

    def new_cache(self, batch: int) -> KVCache:
        """An empty cache for `batch` sequences of at most `context` positions."""
        layout, like = self.layout, self.embedding.weight
        shape = (len(self.blocks), batch, layout.n_kv_heads, self.context, layout.width // layout.n_heads)
        return KVCache(like.new_zeros(shape), like.new_zeros(shape))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the blocks of a network have in common."""

    width: int
    n_heads: int
    n_kv_heads: int
    hidden: int
    dropout: float
    norm: Literal["rms", "layer"]
    activation: Literal["relu2", "gelu", "swiglu"]
    qk_norm: bool
    bias: bool

    def new_norm(self) -> nn.Module:
        return NORMS[self.norm](self.width, self.bias)


class Block(nn.Module):
    """x + attention(norm x), with `cross` then x + cross-attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, layout: Layout, *, cross: bool = False) -> None:
        super().__init__()
        heads = {"n_heads": layout.n_heads, "n_kv_heads": layout.n_kv_heads}
        self.attention_norm = layout.new_norm()
        self.attention = Attention(layout.width, **heads, qk_norm=layout.qk_norm, bias=layout.bias)
        if cross:
            self.cross_norm = layout.new_norm()
            self.cross_attention = CrossAttention(layout.width, **heads, qk_norm=layout.qk_norm, bias=layout.bias)
        self.feed_forward_norm = layout.new_norm()
        self.feed_forward = FeedForward(layout)
        self.dropout = nn.Dropout(layout.dropout)

    def forward(
        self, x: Tensor, rotation: Tensor | None, sight: Sight, past: Past | None, source: Source | None = None
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, sight, past))
        if source is not None:
            x = x + self.dropout(self.cross_attention(self.cross_norm(x), source))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class FeedForward(nn.Module):
    """A wider layer in between; a gated one has half of its `expand` as the gate."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.activation, gated = ACTIVATIONS[layout.activation]
        self.expand = nn.Linear(layout.width, layout.hidden * (2 if gated else 1), bias=layout.bias)
        self.project = nn.Linear(layout.hidden, layout.width, bias=layout.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.activation(self.expand(x)))


NORMS: Mapping[str, Callable[[int, bool], nn.Module]] = {
    "rms": lambda width, bias: nn.RMSNorm(width, eps=1e-6),
    "layer": lambda width, bias: nn.LayerNorm(width, bias=bias),
}


def relu2(x: Tensor) -> Tensor:
    """ReLU²."""
    return F.relu(x).square()


def gelu(x: Tensor) -> Tensor:
    """GPT-2's approximation of GELU (Hendrycks & Gimpel 2016)."""
    return F.gelu(x, approximate="tanh")


def swiglu(x: Tensor) -> Tensor:
    """SiLU(gate) · value; x holds the gate first: [..., 2 h] -> [..., h]."""
    gate, value = x.chunk(2, -1)
    return F.silu(gate) * value


ACTIVATIONS: Mapping[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "relu2": (relu2, False),
    "gelu": (gelu, False),
    "swiglu": (swiglu, True),
}
"""The function of the hidden layer, and whether it is gated."""
