"""What a model must know of its data: enough to build, load and sample it without the data."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from aigc_lab.data.chat import ChatFormat
from aigc_lab.data.samples import Images, Pairs, Points, Samples, Texts
from aigc_lab.data.tokens import Tokenizer, tokenizer_from_json
from aigc_lab.errors import UserError

Split = Literal["train", "held_out"]


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """An item is an array of `shape` whose elements take `vocab_size` values.

    For images the values are grey or colour levels; for texts the symbols of a tokenizer; likewise for pairs of
    texts, where the shape (context,) is the longest of either; for points, of shape (d,), a continuum, which is
    written as vocab_size = 0.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    name: str
    modality: Literal["image", "text", "points", "pairs"]
    shape: tuple[int, ...]
    vocab_size: int
    tokenizer: Tokenizer | None
    """Of texts and pairs; None for others."""
    passage: int
    """Bytes of the passages by which texts are sampled and compared, whatever a model's context; 0 for others."""
    n_classes: int
    n_train: int
    n_held_out: int
    content_hash: str
    """SHA-256 over both splits and everything that defines an item; stands in every result."""
    chat: ChatFormat | None = None
    """How conversations are written, where the model can hold them."""
    class_counts: tuple[int, ...] = ()
    """Training items of each class, of images; () where there are no classes."""

    def to_json(self) -> dict[str, Any]:
        tokenizer = self.tokenizer and self.tokenizer.to_json()
        chat = self.chat and asdict(self.chat)
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"tokenizer": tokenizer, "chat": chat}

    def summary(self) -> dict[str, Any]:
        """`to_json` with a hash in place of the tokenizer, which may be megabytes."""
        tokenizer = self.tokenizer and {"kind": self.tokenizer.kind, "hash": self.tokenizer.hash}
        return self.to_json() | {"tokenizer": tokenizer}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DataSpec":
        """
        Raises:
            UserError: a field is missing, unknown or wrong.
        """
        wanted = {f.name for f in fields(cls)}
        needed = {f.name for f in fields(cls) if f.default is MISSING}
        if not isinstance(values, Mapping) or not needed <= set(values) <= wanted:
            raise UserError(
                "the data description is damaged, or of another version of the lab: expected the fields "
                f"{', '.join(sorted(wanted))}"
            )
        tokenizer = None if values["tokenizer"] is None else tokenizer_from_json(values["tokenizer"])
        try:
            spec: DataSpec = TypeAdapter(cls).validate_python({**values, "tokenizer": tokenizer})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UserError(f"the data description is damaged: {first['loc'][0]}: {first['msg']}") from None
        least, rank = {"image": (2, 3), "text": (2, 1), "points": (0, 1), "pairs": (2, 1)}[spec.modality]
        if spec.vocab_size < least or len(spec.shape) != rank or min(spec.shape) < 1:
            raise UserError(f"the data description is damaged: {spec.vocab_size} values in shape {spec.shape}")
        symbols = spec.tokenizer.vocab_size if spec.tokenizer else None
        if symbols != (spec.vocab_size if spec.modality in ("text", "pairs") else None):
            raise UserError(f"the data description is damaged: {spec.vocab_size} values, but {symbols} symbols")
        return spec

    @property
    def length(self) -> int:
        """Symbols per item."""
        return math.prod(self.shape)

    def encode(self, samples: Samples) -> list[Tensor]:
        """Each sample as a sequence of symbols, int64.

        Raises:
            ValueError: a text cannot be written in the tokenizer's symbols, or the samples are points or pairs.
        """
        if isinstance(samples, Points):
            raise ValueError("points are not made of symbols")
        if isinstance(samples, Pairs):
            raise ValueError("pairs are two sequences of symbols each")
        if isinstance(samples, Images):
            return list(samples.pixels.flatten(1).long())
        assert self.tokenizer is not None
        return [self.tokenizer.encode(passage) for passage in samples.passages]

    def decode(self, symbols: Tensor) -> Samples:
        """Sequences of symbols [n, L] as samples; the inverse of `encode`. For images, L = `length`."""
        if self.modality == "image":
            return Images(symbols.to(torch.uint8).view(-1, *self.shape), self.vocab_size)
        assert self.tokenizer is not None
        return Texts([self.tokenizer.decode(row) for row in symbols])
