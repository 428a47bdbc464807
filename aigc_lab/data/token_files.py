"""A corpus as one array of symbols, in memory or in a file that is mapped into it."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from aigc_lab.data.cache import keeping
from aigc_lab.data.tokens import Tokenizer
from aigc_lab.errors import UserError
from aigc_lab.files import replacing


class Tokens(NamedTuple):
    """Documents one behind the other.

    Attributes:
        symbols: unsigned integers [n], as small as the vocabulary allows.
        starts: where each document begins, and where the last ends, int64 [documents + 1].
    """

    symbols: np.ndarray
    starts: np.ndarray


def in_memory(texts: Iterable[Iterable[bytes]], tokenizer: Tokenizer) -> Tokens:
    """The symbols of documents, each given in pieces.

    Raises:
        UserError: the tokenizer cannot write a text, or loses some of it.
    """
    file = BytesIO()
    starts = _write(texts, tokenizer, file)
    return Tokens(np.frombuffer(file.getbuffer(), dtype=_dtype(tokenizer)), starts)


def on_disk(texts: Iterable[Iterable[bytes]], tokenizer: Tokenizer, path: Path) -> Tokens:
    """The same in a file, which is written unless it is there: one piece of a document is in memory at a time.

    Raises:
        UserError: also where the file cannot be written.
    """
    starts_path = path.with_suffix(".starts.npy")
    try:
        return _mapped(path, starts_path, tokenizer)
    except (OSError, ValueError):
        pass  # not there, or damaged
    with keeping(path):
        with replacing(path) as file:
            starts = _write(texts, tokenizer, file)
        with replacing(starts_path) as file:
            np.save(file, starts)
        return _mapped(path, starts_path, tokenizer)


def _mapped(path: Path, starts_path: Path, tokenizer: Tokenizer) -> Tokens:
    """
    Raises:
        OSError, ValueError: a file is missing, or the two do not fit together.
    """
    starts = np.load(starts_path, allow_pickle=False)
    symbols = np.memmap(path, dtype=_dtype(tokenizer), mode="r")
    if starts[-1] != len(symbols):
        raise ValueError(f"{path}: not as long as it was when it was written")
    return Tokens(symbols, starts)


def _write(texts: Iterable[Iterable[bytes]], tokenizer: Tokenizer, file: BinaryIO) -> np.ndarray:
    starts, dtype = [0], _dtype(tokenizer)
    try:
        for text in texts:
            starts.append(starts[-1])
            for piece in text:
                symbols = tokenizer.encode(piece)
                starts[-1] += len(symbols)
                file.write(symbols.numpy().astype(dtype).tobytes())
    except ValueError as error:
        raise UserError(f"data.tokenizer: {error}") from None
    return np.array(starts, dtype=np.int64)


def _dtype(tokenizer: Tokenizer) -> np.dtype:
    return np.min_scalar_type(tokenizer.vocab_size - 1)
