"""The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017), of the same blocks as `Transformer`.

Shapes: B batch, S positions of a source, L of a target, V symbols.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from aigc_lab.nets.attention import KVCache, Source
from aigc_lab.nets.incremental import by_forward
from aigc_lab.nets.transformer import Block, Transformer
from aigc_lab.types import Fraction, PositiveInt, Shape


class Decoder(Transformer):
    """A causal Transformer whose blocks look at a source too."""

    cross: ClassVar[bool] = True


class EncoderDecoder(nn.Module):
    """log p of a target, symbol by symbol, given a source that is seen as a whole.

    Sources and targets have one alphabet, the data's and `start`, and one embedding (ibid., section 3.4).

    Args:
        shape: (context,): the longest source, and the longest target, its start counted.
        vocab_size: V.
        n_encoder_layers, n_decoder_layers: blocks that read the source, and that write the target.
        width, n_heads, n_kv_heads, hidden, dropout, norm, feed_forward, qk_norm, bias, tied: as for `Transformer`.
        rotary, position_embedding: likewise. Cross-attention finds its way in the source by what the encoder says
            of a position, so where a position matters by itself it wants embeddings of positions.

    Raises:
        ValueError: as for `Transformer`.
    """

    def __init__(
        self,
        *,
        shape: Shape,
        vocab_size: PositiveInt,
        width: PositiveInt,
        n_encoder_layers: PositiveInt,
        n_decoder_layers: PositiveInt,
        n_heads: PositiveInt,
        n_kv_heads: PositiveInt | None = None,
        hidden: PositiveInt | None = None,
        dropout: Fraction = 0.0,
        rotary: bool = True,
        position_embedding: bool = True,
        norm: Literal["rms", "layer"] = "rms",
        feed_forward: Literal["relu2", "gelu", "swiglu"] = "relu2",
        qk_norm: bool = True,
        bias: bool = False,
        tied: bool = True,
    ) -> None:
        super().__init__()
        common: dict[str, Any] = {
            "shape": shape,
            "vocab_size": vocab_size,
            "width": width,
            "n_heads": n_heads,
            "n_kv_heads": n_kv_heads,
            "hidden": hidden,
            "dropout": dropout,
            "rotary": rotary,
            "position_embedding": position_embedding,
            "norm": norm,
            "feed_forward": feed_forward,
            "qk_norm": qk_norm,
            "bias": bias,
        }
        self.encoder = Transformer(**common, n_layers=n_encoder_layers, tied=True, causal=False)  # without a head
        self.decoder = Decoder(**common, n_layers=n_decoder_layers, tied=tied)
        self.encoder.embedding = self.decoder.embedding
        self.context, self.start = self.decoder.context, self.decoder.start

    def matrices(self) -> Iterator[nn.Parameter]:
        """The matrices of the blocks, which map hidden channels to hidden channels."""
        yield from self.encoder.matrices()
        yield from self.decoder.matrices()

    def forward(self, source_BS: Tensor, target_BL: Tensor) -> Tensor:
        """Logits [B, L, V + 1] of the symbol that follows each of the given ones of the target.

        Args:
            source_BS: symbols; negative behind the end of a source that is shorter than others.
        """
        return self.decoder(target_BL, source=self.read(source_BS))

    def read(self, source_BS: Tensor) -> list[Source]:
        """What each block of the decoder sees of the sources."""
        there = source_BS >= 0
        hidden = self.encoder.hidden(source_BS.clamp(min=0), documents_BL=there.long())
        blocks = cast(Iterable[Block], self.decoder.blocks)
        return [block.cross_attention.read(hidden, there) for block in blocks]

    def given(self, source_BS: Tensor) -> "Given":
        """The decoder as a model of sequences for `aigc_lab.decoding`, whose row i is about source i."""
        return Given(self.decoder, self.read(source_BS))


class Given:
    """A decoder that has read its sources, one for every row that it will write."""

    def __init__(self, decoder: Decoder, source: Sequence[Source]) -> None:
        self.decoder, self.source = decoder, source
        self.context, self.vocab_size, self.start = decoder.context, decoder.vocab_size, decoder.start

    @property
    def device(self) -> torch.device:
        return self.decoder.device

    def incremental(self, rows: int) -> Callable[[Tensor, KVCache], Tensor]:
        """What continues a cache by one symbol a row."""
        return by_forward(self)

    def new_cache(self, batch: int) -> KVCache:
        return self.decoder.new_cache(batch)

    def __call__(
        self, symbols_BL: Tensor, cache: KVCache | None = None, *, documents_BL: Tensor | None = None
    ) -> Tensor:
        return self.decoder(symbols_BL, cache, documents_BL=documents_BL, source=self.source)
