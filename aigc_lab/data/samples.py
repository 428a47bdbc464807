"""What generators emit and metrics read: images as levels, texts as bytes, points as numbers, pairs of texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Images of discrete pixels: uint8 [n, channels, height, width] with values 0 .. levels-1."""

    pixels: Tensor
    levels: int

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | Tensor) -> "Images":
        return Images(self.pixels[index], self.levels)

    def bytes_per_item(self) -> list[int]:
        """One byte a pixel and channel, whatever the number of levels."""
        return [self.pixels[0].numel()] * len(self) if len(self) else []

    def to_uint8(self) -> Tensor:
        """The pixels stretched to 0 .. 255, for display."""
        return (self.pixels.float() * (255 / (self.levels - 1))).round().to(torch.uint8)


class LabelledImages(NamedTuple):
    """uint8 pixels [n, C, H, W] and int64 labels [n]."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Texts:
    """Passages of UTF-8 text as bytes. A model of bytes may emit an invalid sequence; it is kept."""

    passages: list[bytes]

    def __len__(self) -> int:
        return len(self.passages)

    def __getitem__(self, index: slice | Tensor) -> "Texts":
        if isinstance(index, slice):
            return Texts(self.passages[index])
        return Texts([self.passages[i] for i in index.tolist()])

    def bytes_per_item(self) -> list[int]:
        return [len(passage) for passage in self.passages]

    @property
    def in_one(self) -> bytes:
        """All passages, one behind the other: the text that they were cut from."""
        return b"".join(self.passages)

    def to_strings(self) -> list[str]:
        """The passages decoded, with U+FFFD in place of invalid bytes."""
        return [passage.decode(errors="replace") for passage in self.passages]


@dataclass(frozen=True)
class Points:
    """Points on the line, in the plane or in space: float32 [n, d]."""

    coordinates: Tensor

    def __len__(self) -> int:
        return len(self.coordinates)

    def __getitem__(self, index: slice | Tensor) -> "Points":
        return Points(self.coordinates[index])

    def bytes_per_item(self) -> list[int]:
        """Four bytes a coordinate."""
        return [self.coordinates[0].nbytes] * len(self) if len(self) else []


@dataclass(frozen=True)
class Pairs:
    """Texts, and what each is to become."""

    sources: Texts
    targets: Texts

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: slice | Tensor) -> "Pairs":
        return Pairs(self.sources[index], self.targets[index])

    def bytes_per_item(self) -> list[int]:
        """Of the targets: what a model of pairs writes."""
        return self.targets.bytes_per_item()


Samples = Images | Texts | Points | Pairs


def join(parts: Sequence[Samples]) -> Samples:
    """Concatenate samples of one kind, in order."""
    first = parts[0]
    assert not isinstance(first, Pairs), "pairs are never generated as a whole"
    if isinstance(first, Images):
        return Images(torch.cat([p.pixels for p in parts if isinstance(p, Images)]), first.levels)
    if isinstance(first, Points):
        return Points(torch.cat([p.coordinates for p in parts if isinstance(p, Points)]))
    return Texts([passage for p in parts if isinstance(p, Texts) for passage in p.passages])
