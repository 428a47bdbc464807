"""What a model must know of its data: enough to build, load and sample it without the data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from aigc_lab.data.samples import Images, Points, Samples, Texts
from aigc_lab.errors import UserError

Split = Literal["train", "held_out"]


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """An item is an array of `shape` whose elements take `vocab_size` values.

    For images the values are grey or colour levels; for texts symbols of the vocabulary, which is the 256
    bytes when `vocabulary` is None and its characters otherwise; for points, of shape (d,), a continuum, which
    is written as vocab_size = 0.
    """

    name: str
    modality: Literal["image", "text", "points"]
    shape: tuple[int, ...]
    vocab_size: int
    vocabulary: str | None
    passage: int
    """Bytes of the passages by which texts are sampled and compared, whatever a model's context; 0 for others."""
    n_classes: int
    n_train: int
    n_held_out: int
    content_hash: str
    """SHA-256 over both splits and everything that defines an item; stands in every result."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DataSpec":
        """
        Raises:
            UserError: a field is missing or unknown.
        """
        wanted = {f.name for f in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != wanted:
            raise UserError(f"the data description is damaged: expected the fields {', '.join(sorted(wanted))}")
        try:
            spec: DataSpec = TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UserError(f"the data description is damaged: {first['loc'][0]}: {first['msg']}") from None
        least, rank = {"image": (2, 3), "text": (2, 1), "points": (0, 1)}[spec.modality]
        if spec.vocab_size < least or len(spec.shape) != rank or min(spec.shape) < 1:
            raise UserError(f"the data description is damaged: {spec.vocab_size} values in shape {spec.shape}")
        return spec

    @property
    def length(self) -> int:
        """Symbols per item."""
        return math.prod(self.shape)

    def encode(self, samples: Samples) -> list[Tensor]:
        """Each sample as a sequence of symbols, int64.

        Raises:
            ValueError: a text has a character outside the vocabulary, or the samples are points.
        """
        if isinstance(samples, Points):
            raise ValueError("points are not made of symbols")
        if isinstance(samples, Images):
            return list(samples.pixels.flatten(1).long())
        if self.vocabulary is None:
            return [encode_bytes(passage) for passage in samples.passages]
        return [encode_characters(passage.decode(), self.vocabulary) for passage in samples.passages]

    def decode(self, symbols: Tensor) -> Samples:
        """Sequences of symbols [n, L] as samples; the inverse of `encode`. For images, L = `length`."""
        if self.modality == "image":
            return Images(symbols.to(torch.uint8).view(-1, *self.shape), self.vocab_size)
        if self.vocabulary is None:
            return Texts([bytes(row) for row in symbols.to(torch.uint8).cpu().numpy()])
        return Texts(["".join(self.vocabulary[i] for i in row).encode() for row in symbols.tolist()])


def encode_bytes(text: bytes) -> Tensor:
    """Bytes as integers, int64 (torch.frombuffer refuses an empty buffer)."""
    return torch.tensor(list(text), dtype=torch.long)


def encode_characters(text: str, vocabulary: str) -> Tensor:
    """Characters as indices into the vocabulary, int64.

    Raises:
        ValueError: a character is not in the vocabulary.
    """
    index = {character: i for i, character in enumerate(vocabulary)}
    try:
        return torch.tensor([index[character] for character in text], dtype=torch.long)
    except KeyError as error:
        raise ValueError(
            f"the character {error.args[0]!r} is not in the vocabulary of the training data"
        ) from None
