"""Tokenizers: texts as sequences of symbols and back, byte by byte.

A tokenizer is what a trained model must know of its symbols, and no more: it is plain data, travels with the
weights and needs no corpus. How one is chosen or trained stands in `aigc_lab.data.tokenizing`.
"""

import codecs
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np
import tokenizers
import torch
from torch import Tensor

from aigc_lab.data.splits import content_hash
from aigc_lab.errors import UserError


class Tokenizer(ABC):
    """Symbols 0 .. vocab_size-1, each of which stands for the same bytes wherever it appears."""

    kind: ClassVar[str]

    one_spelling: ClassVar[bool] = True
    """Whether a text can be written in one way only. Where it can in several, the likelihood of the one that
    `encode` gives is a lower bound on the text's."""

    @property
    @abstractmethod
    def pieces(self) -> Sequence[bytes]:
        """The bytes of every symbol."""

    @abstractmethod
    def encode(self, text: bytes) -> Tensor:
        """The symbols of a text, int64 [L]; `decode` gives back this very text.

        Raises:
            ValueError: the text cannot be written in these symbols.
        """

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @property
    def special(self) -> Mapping[str, int]:
        """The symbols that stand for no text, by name; `encode` never writes them, a chat template may."""
        return {}

    def decode(self, symbols: Tensor) -> bytes:
        """The bytes of symbols [L], UTF-8 or not."""
        pieces = self.pieces
        return b"".join([pieces[i] for i in symbols.tolist()])

    @cached_property
    def sizes(self) -> Tensor:
        """Bytes in each symbol, int64 [vocab_size]."""
        return torch.tensor([len(piece) for piece in self.pieces])

    @cached_property
    def begins_character(self) -> np.ndarray:
        """Whether each symbol begins with the first byte of a character, bool [vocab_size]."""
        return np.array([not continues_character(piece) for piece in self.pieces])

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that defines the symbols."""
        return content_hash(json.dumps(self.to_json(), sort_keys=True))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]  # subclasses are dataclasses


@dataclass(frozen=True)
class Bytes(Tokenizer):
    """The 256 bytes."""

    kind = "bytes"
    pieces = tuple(bytes([i]) for i in range(256))

    def encode(self, text: bytes) -> Tensor:
        return torch.from_numpy(np.frombuffer(text, dtype=np.uint8).astype(np.int64))


@dataclass(frozen=True)
class Characters(Tokenizer):
    """The characters of an alphabet.

    Raises:
        ValueError: a character stands in it twice.
    """

    kind = "characters"
    alphabet: str

    def __post_init__(self) -> None:
        if len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError("a character stands twice in the alphabet")

    @cached_property
    def pieces(self) -> Sequence[bytes]:
        return [character.encode() for character in self.alphabet]

    @cached_property
    def _index(self) -> np.ndarray:
        """Of every code point, its place in the alphabet or -1."""
        index = np.full(0x110000, -1, dtype=np.int64)
        index[_code_points(self.alphabet)] = np.arange(len(self.alphabet))
        return index

    def encode(self, text: bytes) -> Tensor:
        try:
            characters = text.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start} is not UTF-8 text, and the symbols are characters") from None
        symbols = self._index[_code_points(characters)]
        if (symbols < 0).any():
            unknown = characters[int((symbols < 0).argmax())]
            raise ValueError(f"the character {unknown!r} is not in the vocabulary of the training data")
        return torch.from_numpy(symbols)


@dataclass(frozen=True)
class Subwords(Tokenizer):
    """Pieces of words, as the library `tokenizers` finds them; special tokens are never inserted or recognised.

    The library reads characters. Bytes that are not UTF-8 are written one by one, and no text is ever decoded by
    way of characters, so a symbol that is half a character keeps its bytes.

    Args:
        model: the library's JSON.

    Raises:
        ValueError: the library cannot read it.
    """

    kind = "subwords"
    one_spelling = False
    model: str

    def __post_init__(self) -> None:
        try:
            _ = self._library
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"the library tokenizers cannot read the tokenizer ({error})") from None

    @cached_property
    def _library(self) -> tokenizers.Tokenizer:
        found = tokenizers.Tokenizer.from_str(self.model)
        found.no_truncation()
        found.no_padding()
        found.encode_special_tokens = True  # "<|endoftext|>" in a text is text
        return found

    @cached_property
    def pieces(self) -> Sequence[bytes]:
        vocabulary = self._library.get_vocab(with_added_tokens=True)
        spelt = _spelling(json.loads(self.model))
        pieces = [b""] * (max(vocabulary.values()) + 1)  # numbers may be left out
        for token, i in vocabulary.items():
            pieces[i] = spelt(token)
        for i, added in self._library.get_added_tokens_decoder().items():
            pieces[i] = added.content.encode()
        return pieces

    @cached_property
    def special(self) -> Mapping[str, int]:
        added = self._library.get_added_tokens_decoder()
        return {token.content: i for i, token in added.items() if token.special}

    @cached_property
    def _of_byte(self) -> Mapping[bytes, int]:
        return {piece: i for i, piece in reversed(list(enumerate(self.pieces))) if len(piece) == 1}

    def encode(self, text: bytes) -> Tensor:
        found: list[int] = []
        for part in _NOT_UTF8.split(text.decode(errors="surrogateescape")):
            raw = part.encode(errors="surrogateescape")
            if not _NOT_UTF8.match(part):
                found += self._library.encode(part, add_special_tokens=False).ids
            elif raw in self._of_byte:
                found.append(self._of_byte[raw])
        symbols = torch.tensor(found, dtype=torch.long)
        if (back := self.decode(symbols)) != text:
            raise ValueError(f"the tokenizer loses text: {first_difference(text, back)}")
        return symbols


KINDS: Mapping[str, type[Tokenizer]] = {c.kind: c for c in (Bytes, Characters, Subwords)}


def tokenizer_from_json(values: Any) -> Tokenizer:
    """
    Raises:
        UserError: it is damaged.
    """
    try:
        kind, fields = KINDS[values["kind"]], {key: value for key, value in values.items() if key != "kind"}
        if not all(isinstance(value, str) for value in fields.values()):
            raise ValueError("its fields should be strings")
        return kind(**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"the tokenizer of the data description is damaged ({error!r})") from None


def whole(text: bytes) -> bytes:
    """The text without the character that its end cuts in two, if it does."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(text)
    return text[: len(text) - len(decoder.getstate()[0])]


def continues_character(text: bytes) -> bool:
    """Whether the text begins inside a character."""
    return text[:1] >= b"\x80" and text[:1] < b"\xc0"


def first_difference(text: bytes, back: bytes) -> str:
    """Where two texts part, shown with a little before and after."""
    at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    shown = [t[max(0, at - 12) : at + 12].decode(errors="backslashreplace") for t in (text, back)]
    return f"{shown[0]!r} comes back as {shown[1]!r}"


@cache
def byte_alphabet() -> Mapping[str, int]:
    """GPT-2's printable characters, and the byte that each stands for: those of Latin-1 for themselves, and from
    U+0100 on for the bytes that are left, in their order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_NOT_UTF8 = re.compile("([\udc80-\udcff])")
"""What `surrogateescape` makes of a byte that is not UTF-8."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How SentencePiece writes a byte that is not in its vocabulary."""


def _spelling(model: Mapping[str, Any]) -> Any:
    """The function from the library's name of a token to its bytes."""
    if any(node.get("type") == "ByteLevel" for node in nodes(model)):
        alphabet = byte_alphabet()
        return lambda token: bytes(alphabet[c] for c in token) if set(token) <= alphabet.keys() else token.encode()
    return _sentencepiece


def _sentencepiece(token: str) -> bytes:
    if byte := _BYTE.fullmatch(token):
        return bytes.fromhex(byte[1])
    return token.replace("▁", " ").encode()


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every component of the library's JSON that works on texts: normalizers, pre-tokenizers, decoders."""
    if isinstance(tree, list):
        for item in tree:
            yield from nodes(item)
    elif isinstance(tree, dict):
        yield tree
        parts = ("normalizer", "normalizers", "pre_tokenizer", "pretokenizers", "decoder", "decoders")
        yield from nodes([tree[part] for part in parts if part in tree])


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
