"""Corpora as documents that are read in pieces: none has to fit into memory, and no split of one."""

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from aigc_lab.data.spec import Split
from aigc_lab.data.splits import content_hash, held_out_documents
from aigc_lab.data.tokens import continues_character, whole
from aigc_lab.errors import UserError

PIECE = 1 << 16
"""Bytes of a file that are read at once. The library tokenizers needs a hundred times as much for a piece."""


class Documents(Protocol):
    def __len__(self) -> int: ...

    def pieces(self, i: int) -> Iterator[bytes]:
        """Document i from beginning to end; every piece is UTF-8 by itself.

        Raises:
            UserError: it cannot be read.
        """
        ...


@dataclass(frozen=True)
class InMemory:
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def pieces(self, i: int) -> Iterator[bytes]:
        yield self.texts[i].encode()


@dataclass(frozen=True)
class OnDisk:
    """Parts of files.

    Attributes:
        spans: of each document the number of its file, where it begins and where it ends, int64 [n, 3].
    """

    paths: Sequence[Path]
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.spans)

    def pieces(self, i: int) -> Iterator[bytes]:
        file, begin, end = self.spans[i].tolist()
        return read(self.paths[file], begin, end)


@dataclass(frozen=True)
class Corpus:
    """Documents, parted into training and held-out ones. In a split, every document but the last is followed by
    the separator.

    Attributes:
        is_held_out: bool [n].
        digests: SHA-256 of each, uint8 [n, 32].
        sizes: bytes of each, int64 [n].
    """

    name: str
    documents: Documents
    separator: bytes
    is_held_out: np.ndarray
    digests: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(
        cls, name: str, documents: Documents, *, separator: bytes, held_out: float | Sequence[bool]
    ) -> "Corpus":
        """Read all documents once, for their hashes.

        Args:
            held_out: the share of the bytes that is held out, in whole documents chosen by their hash; or which.
        """
        digests = np.empty((len(documents), 32), dtype=np.uint8)
        sizes = np.zeros(len(documents), dtype=np.int64)
        for i in range(len(documents)):
            digest = hashlib.sha256()
            for piece in documents.pieces(i):
                digest.update(piece)
                sizes[i] += len(piece)
            digests[i] = np.frombuffer(digest.digest(), dtype=np.uint8)
        share = held_out if isinstance(held_out, int | float) else None
        chosen = np.array(held_out) if share is None else held_out_documents(digests, sizes, share)
        return cls(name, documents, separator, chosen, digests, sizes)

    def numbers(self, split: Split) -> list[int]:
        """Those of the split's documents, in order."""
        return np.flatnonzero(self.is_held_out == (split == "held_out")).tolist()

    def texts(self, split: Split) -> Iterator[Iterator[bytes]]:
        """The documents, each in pieces and with the separator behind it."""
        numbers = self.numbers(split)
        for i in numbers:
            yield chain(self.documents.pieces(i), [self.separator] if i != numbers[-1] else [])

    def pieces(self, split: Split) -> Iterator[bytes]:
        """The whole text of the split."""
        return chain.from_iterable(self.texts(split))

    def n_bytes(self, split: Split) -> int:
        numbers = self.numbers(split)
        return int(self.sizes[numbers].sum()) + len(self.separator) * max(0, len(numbers) - 1)

    def digest(self, split: Split) -> str:
        """SHA-256 over the split's documents and what stands between them."""
        return content_hash(self.digests[self.numbers(split)].tobytes(), self.separator)


def read(path: Path, begin: int, end: int) -> Iterator[bytes]:
    """Part of a file in pieces, which end behind a line where they can, and behind a character elsewhere.

    Raises:
        UserError: the file cannot be read or is not UTF-8.
    """
    rest, at = b"", begin
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(begin)
            while begin < end:
                block = file.read(min(PIECE, end - begin))
                if not block:
                    raise UserError(f"data: {path} became shorter while it was read")
                begin += len(block)
                text = rest + block
                cut = len(text) if begin == end else text.rfind(b"\n") + 1 or len(whole(text))
                text[:cut].decode()
                if (zero := text.find(b"\0", 0, cut)) >= 0:
                    raise UnicodeDecodeError("utf-8", text, zero, zero + 1, "a zero byte, which stands in no text")
                yield text[:cut]
                rest, at = text[cut:], at + cut
    except UnicodeDecodeError as error:
        raise UserError(f"data: {path} is not UTF-8 text (byte {at + error.start}: {error.reason})") from None
    except OSError as error:
        raise UserError(f"data: cannot read {path}: {error.strerror}") from None


def file_size(path: Path) -> int:
    """
    Raises:
        UserError: the file cannot be read, or holds nothing but white space.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"data: cannot read {path}: {error.strerror}") from None
    if not any(piece.strip() for piece in read(path, 0, size)):
        raise UserError(f"data: {path} is empty")
    return size


def split_at(path: Path, size: int, share: float) -> np.ndarray:
    """The spans of the first `share` of a file and of the rest, parted between characters, int64 [2, 3]."""
    cut = int(size * share)
    with path.open("rb") as file:
        file.seek(cut)
        ahead = file.read(3)
    while continues_character(ahead):
        cut, ahead = cut + 1, ahead[1:]
    return np.array([[0, 0, cut], [0, cut, size]])


def split_by(path: Path, separator: bytes) -> Iterator[tuple[int, int]]:
    """(begin, end) of each document of a file; empty ones are left out."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        begin = 0
        while begin < len(text):
            found = text.find(separator, begin)
            end = found if found >= 0 else len(text)
            if text[begin:end].strip():
                yield begin, end
            begin = end + len(separator)
