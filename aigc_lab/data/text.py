"""Text corpora: documents, the symbols that a tokenizer writes them in, and the windows that models train on.

A training item is a window of `context` symbols at any offset. A model sees every window behind the same
start symbol, so it learns the law of such windows, and what it samples from the start symbol can be
compared with passages of real text. Both begin between characters, as far as symbols do.
"""

import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data.chat import ChatFormat
from aigc_lab.data.corpora import Corpus, InMemory, OnDisk, file_size, split_at, split_by
from aigc_lab.data.packing import Batch, Packed
from aigc_lab.data.samples import Texts
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.data.splits import blocks, content_hash, without_repeats
from aigc_lab.data.stream import fold
from aigc_lab.data.token_files import Tokens, in_memory, on_disk
from aigc_lab.data.tokenizing import Tokenizing, WithChat
from aigc_lab.data.tokens import Tokenizer, whole
from aigc_lab.errors import UserError
from aigc_lab.types import Fraction, PositiveInt

BLANK_LINE = "\n\n"


@dataclass(kw_only=True)
class TextData(ABC):
    """A corpus, read on first use. Training holds none of it in memory where there is a cache to keep its symbols
    in; evaluation reads the passages and documents it compares into memory.

    Args:
        batch_size: windows in one optimisation batch, over all processes.
        context: symbols in a window.
        tokenizer: what a symbol is.
        packing: windows of whole documents that do not see each other (see `packing`), in place of windows that
            begin anywhere and run across documents.
        passage: bytes of the passages by which samples are compared with real text.
        held_out: share of the corpus held out: whole documents, or the end of the only one.
        cache_dir: where symbols and trained tokenizers are kept; None keeps them in memory.
    """

    batch_size: PositiveInt
    context: PositiveInt
    tokenizer: Tokenizing
    packing: bool
    passage: PositiveInt
    held_out: Fraction
    cache_dir: Path | None = None

    @abstractmethod
    def _read(self) -> Corpus: ...

    @cached_property
    def _corpus(self) -> Corpus:
        corpus = self._read()
        if not corpus.n_bytes("held_out"):
            why = "it is one document, and training needs one" if self.held_out else "data.held_out=0"
            raise UserError(f"data: nothing of {corpus.name} is held out: {why}")
        splits: tuple[Split, ...] = ("train", "held_out")
        for split in splits:
            self._require(corpus, split, corpus.n_bytes(split), "bytes", "passage")
        return corpus

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self.tokenizer.fit(self._corpus, self.cache_dir)

    def _tokens(self, split: Split) -> Tokens:
        corpus, tokenizer = self._corpus, self._tokenizer
        if self.cache_dir is None:
            tokens = in_memory(corpus.texts(split), tokenizer)
        else:
            key = content_hash(corpus.digest(split), tokenizer.hash)
            path = self.cache_dir / "symbols" / f"{corpus.name}-{split}-{key[:16]}.bin"
            tokens = on_disk(corpus.texts(split), tokenizer, path)
        self._require(corpus, split, len(tokens.symbols), "symbols", "context")
        return tokens

    def _require(self, corpus: Corpus, split: Split, found: int, unit: str, key: str) -> None:
        if found < (least := 2 * getattr(self, key)):
            raise UserError(
                f"data: the {split.replace('_', '-')} text of {corpus.name} has {found} {unit}, but "
                f"data.{key}={getattr(self, key)} needs at least {least}"
            )

    @property
    def form(self) -> ChatFormat | None:
        """How conversations are written, where the tokenizer says so."""
        return self.tokenizer.chat() if isinstance(self.tokenizer, WithChat) else None

    @cached_property
    def _train(self) -> Tokens:
        return self._tokens("train")

    @cached_property
    def _held_out(self) -> Tokens:
        return self._tokens("held_out")

    @cached_property
    def spec(self) -> DataSpec:
        """What models must know; reads the data."""
        corpus = self._corpus
        passages = f"passages of {self.passage} bytes"
        return DataSpec(
            name=corpus.name,
            modality="text",
            shape=(self.context,),
            vocab_size=self._tokenizer.vocab_size,
            tokenizer=self._tokenizer,
            passage=self.passage,
            n_classes=0,
            n_train=len(self._train.symbols),
            n_held_out=len(self._held_out.symbols),
            content_hash=content_hash(corpus.digest("train"), corpus.digest("held_out"), passages),
            chat=self.form,
        )

    def real(self, split: Split) -> Texts:
        """The split cut into disjoint passages of `passage` bytes, in order. A character that the end of a passage
        would cut in two begins the next one."""
        return Texts(list(_passages(self._corpus.pieces(split), self.passage)))

    def labels(self, split: Split) -> None:
        """None: texts have no classes."""
        return

    def likelihood_items(self, split: Split) -> Texts:
        """What likelihoods are measured on: whole documents."""
        corpus = self._corpus
        return Texts([b"".join(corpus.documents.pieces(i)) for i in corpus.numbers(split)])

    @cached_property
    def _packed(self) -> dict[Split, Packed]:
        return {"train": Packed(self._train, self.context), "held_out": Packed(self._held_out, self.context)}

    @property
    def n_items(self) -> int:
        """Windows in an epoch: packed, or disjoint behind an offset that changes from epoch to epoch."""
        if self.packing:
            return len(self._packed["train"])
        return len(self._train.symbols) // self.context - 1

    def gather(self, epoch: Tensor, item: Tensor) -> Batch:
        """Training windows: int64 [b, context], or packed."""
        if self.packing:
            return self._packed["train"].gather(item)
        offset = np.array([fold(e) % self.context for e in epoch.tolist()])
        symbols, begin = self._train.symbols, item.numpy() * self.context + offset
        ahead = self._tokenizer.begins_character[symbols[begin[:, None] + np.arange(min(4, self.context))]]
        return self._windows(symbols, begin + ahead.argmax(1))  # a character has at most four bytes

    @property
    def n_held_out_items(self) -> int:
        return len(self._packed["held_out"]) if self.packing else len(self._held_out.symbols) // self.context

    def gather_held_out(self, item: Tensor) -> Batch:
        """Held-out windows, disjoint: int64 [b, context], or packed."""
        if self.packing:
            return self._packed["held_out"].gather(item)
        return self._windows(self._held_out.symbols, item.numpy() * self.context)

    def _windows(self, symbols: np.ndarray, begin: np.ndarray) -> Tensor:
        begin = np.minimum(begin, len(symbols) - self.context)
        return torch.from_numpy(symbols[begin[:, None] + np.arange(self.context)].astype(np.int64))


def _passages(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """A text in passages of `size` bytes, or up to three fewer; what is left at its end is dropped."""
    rest = b""
    for piece in pieces:
        text, at = rest + piece, 0
        while len(text) - at >= size:
            passage = text[at : at + size]
            passage = whole(passage) or passage  # a size below that of a character
            yield passage
            at += len(passage)
        rest = text[at:]


@dataclass(kw_only=True)
class Pydoc(TextData):
    """CPython's language reference, as `help("topics")` knows it (embedded; no download).

    Its few topics differ so much that whole ones held out would not follow the law of the others; blocks of
    paragraphs do, and no paragraph stands in both splits.
    """

    def _read(self) -> Corpus:
        from pydoc_data.topics import topics

        texts = blocks(without_repeats(topics[name] for name in sorted(topics)), at_least=500)
        return Corpus.of("pydoc", InMemory(texts), separator=BLANK_LINE.encode(), held_out=self.held_out)


@dataclass(kw_only=True)
class StdlibCode(TextData):
    """The source code of Python's standard library, without tests and tables (embedded; no download)."""

    def _read(self) -> Corpus:
        root = Path(sysconfig.get_paths()["stdlib"])
        skipped = {
            "site-packages",
            "dist-packages",
            "test",
            "tests",
            "idlelib",
            "turtledemo",
            "encodings",
            "pydoc_data",
        }
        files = [p for p in sorted(root.rglob("*.py")) if not skipped & set(p.relative_to(root).parts)]
        texts = [text for p in files if (text := p.read_text(encoding="utf-8", errors="replace")).strip()]
        return Corpus.of("stdlib_code", InMemory(texts), separator=BLANK_LINE.encode(), held_out=self.held_out)


@dataclass(kw_only=True)
class TextFile(TextData):
    """A UTF-8 file or a folder of them, read in pieces. Whole documents are held out; of a single one its end.

    Args:
        path: the file or folder.
        name: of the corpus in results; null: the file's or folder's.
        pattern: which files of a folder, as a glob.
        separator: what parts the documents of a file, where \\n and \\t are a line's end and a tab, as a shell
            passes them; null: every file is one document.
    """

    path: str
    name: str | None
    pattern: str
    separator: str | None

    def _read(self) -> Corpus:
        """
        Raises:
            UserError: there is no such file, or it is empty or no text.
        """
        path = Path(self.path)
        if not path.exists():
            raise UserError(f"data.path={self.path}: no such file or folder")
        files = self._files(path) if path.is_dir() else [path]
        sizes = [file_size(file) for file in files]
        separator = (self.separator or BLANK_LINE).replace("\\n", "\n").replace("\\t", "\t").encode()
        held_out: float | list[bool] = self.held_out
        if self.separator:
            spans = np.array([(i, *span) for i, file in enumerate(files) for span in split_by(file, separator)])
            if len(spans) < 2:
                raise UserError(
                    f"data.separator={self.separator!r}: parts {path} in no two documents, and one is held out"
                )
        elif len(files) > 1:
            spans = np.array([(i, 0, size) for i, size in enumerate(sizes)])
        else:
            spans, held_out = split_at(path, sizes[0], 1 - self.held_out), [False, True]
        documents = OnDisk(files, spans)
        name = self.name or (path.name if path.is_dir() else path.stem)
        return Corpus.of(name, documents, separator=separator, held_out=held_out)

    def _files(self, folder: Path) -> list[Path]:
        files = [p for p in sorted(folder.glob(self.pattern)) if p.is_file() and not p.name.startswith(".")]
        if len(files) < 2:
            raise UserError(
                f"data.path={self.path}: {len(files)} files match data.pattern={self.pattern}; a folder needs "
                "at least 2 (one is held out)"
            )
        return files
