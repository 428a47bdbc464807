"""Text corpora, held in memory as one array of symbols per split.

A training item is a window of `context` symbols at any offset. A model sees every window behind the same
start symbol, so it learns the law of such windows, and what it samples from the start symbol can be
compared with windows of real text.
"""

import sysconfig
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data.samples import Texts
from aigc_lab.data.spec import DataSpec, Split, encode_characters
from aigc_lab.data.splits import blocks, content_hash, split_documents, without_repeats
from aigc_lab.data.stream import fold
from aigc_lab.errors import UserError
from aigc_lab.types import Fraction, PositiveInt

SEPARATOR = "\n\n"


class Documents(NamedTuple):
    name: str
    train: list[str]
    held_out: list[str]


@dataclass(kw_only=True)
class TextData(ABC):
    """A corpus, read on first use.

    Args:
        batch_size: windows in one optimisation batch, over all processes.
        context: symbols in a window.
        tokenizer: `byte`, or `char`: the characters that occur anywhere in the corpus.
        passage: bytes of the passages by which samples are compared with real text.
        held_out: share of the corpus held out: whole documents, or the end of a single file.
    """

    batch_size: PositiveInt
    context: PositiveInt
    tokenizer: Literal["byte", "char"]
    passage: PositiveInt
    held_out: Fraction

    @abstractmethod
    def _read(self) -> Documents: ...

    @cached_property
    def _documents(self) -> Documents:
        return self._read()

    @cached_property
    def _vocabulary(self) -> str | None:
        if self.tokenizer == "byte":
            return None
        return "".join(sorted(set("".join(self._documents.train + self._documents.held_out))))

    def _symbols(self, documents: list[str], split: Split) -> Tensor:
        text = SEPARATOR.join(documents)
        if self._vocabulary is None:
            symbols = torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).copy())
        else:
            symbols = encode_characters(text, self._vocabulary).int()
        needed = 2 * max(self.context, self.passage)
        if len(symbols) < needed:
            raise UserError(
                f"data: the {split.replace('_', '-')} text of {self._documents.name} has {len(symbols)} symbols, "
                f"but data.context={self.context} and data.passage={self.passage} need at least {needed}"
            )
        return symbols

    @cached_property
    def _train(self) -> Tensor:
        return self._symbols(self._documents.train, "train")

    @cached_property
    def _held_out(self) -> Tensor:
        return self._symbols(self._documents.held_out, "held_out")

    @cached_property
    def spec(self) -> DataSpec:
        """What models must know; reads the data."""
        texts = [SEPARATOR.join(d) for d in (self._documents.train, self._documents.held_out)]
        return DataSpec(
            name=self._documents.name,
            modality="text",
            shape=(self.context,),
            vocab_size=256 if self._vocabulary is None else len(self._vocabulary),
            vocabulary=self._vocabulary,
            passage=self.passage,
            n_classes=0,
            n_train=len(self._train),
            n_held_out=len(self._held_out),
            content_hash=content_hash(*texts, f"passages of {self.passage} bytes"),
        )

    def real(self, split: Split) -> Texts:
        """The split cut into disjoint passages of `passage` bytes, in order."""
        text = SEPARATOR.join(self._documents.train if split == "train" else self._documents.held_out).encode()
        n = len(text) // self.passage
        return Texts([text[i * self.passage : (i + 1) * self.passage] for i in range(n)])

    def labels(self, split: Split) -> None:
        """None: texts have no classes."""
        return

    def likelihood_items(self, split: Split) -> Texts:
        """What likelihoods are measured on: whole documents."""
        documents = self._documents.train if split == "train" else self._documents.held_out
        return Texts([document.encode() for document in documents])

    @property
    def n_items(self) -> int:
        """Windows in an epoch: disjoint, behind an offset that changes from epoch to epoch."""
        return len(self._train) // self.context - 1

    def gather(self, epoch: Tensor, item: Tensor) -> Tensor:
        """Training windows: int64 [b, context]."""
        offset = torch.tensor([fold(e) % self.context for e in epoch.tolist()])
        return self._windows(self._train, item * self.context + offset)

    @property
    def n_held_out_items(self) -> int:
        return len(self._held_out) // self.context

    def gather_held_out(self, item: Tensor) -> Tensor:
        """Held-out windows, disjoint: int64 [b, context]."""
        return self._windows(self._held_out, item * self.context)

    def _windows(self, symbols: Tensor, begin: Tensor) -> Tensor:
        return symbols[begin[:, None] + torch.arange(self.context)].long()


@dataclass(kw_only=True)
class Pydoc(TextData):
    """CPython's language reference, as `help("topics")` knows it (embedded; no download).

    Its few topics differ so much that whole ones held out would not follow the law of the others; blocks of
    paragraphs do, and no paragraph stands in both splits.
    """

    def _read(self) -> Documents:
        from pydoc_data.topics import topics

        texts = blocks(without_repeats(topics[name] for name in sorted(topics)), at_least=500)
        return Documents("pydoc", *split_documents(texts, self.held_out))


@dataclass(kw_only=True)
class StdlibCode(TextData):
    """The source code of Python's standard library, without tests and tables (embedded; no download)."""

    def _read(self) -> Documents:
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
        return Documents("stdlib_code", *split_documents(texts, self.held_out))


@dataclass(kw_only=True)
class TextFile(TextData):
    """A UTF-8 file, whose end is held out, or a folder of them, of which whole files are.

    Args:
        path: the file or folder.
        pattern: which files of a folder, as a glob.
    """

    path: str
    pattern: str

    def _read(self) -> Documents:
        path = Path(self.path)
        if path.is_dir():
            files = [p for p in sorted(path.glob(self.pattern)) if p.is_file() and not p.name.startswith(".")]
            if len(files) < 2:
                raise UserError(
                    f"data.path={self.path}: {len(files)} files match data.pattern={self.pattern}; a folder needs "
                    "at least 2 (one is held out)"
                )
            return Documents(path.name, *split_documents(map(_read_utf8, files), self.held_out))
        if not path.is_file():
            raise UserError(f"data.path={self.path}: no such file or folder")
        text = _read_utf8(path)
        cut = len(text) - int(len(text) * self.held_out)
        return Documents(path.stem, [text[:cut]], [text[cut:]])


def _read_utf8(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"data: {path} is not UTF-8 text (byte {error.start}: {error.reason})") from None
    except OSError as error:
        raise UserError(f"data: cannot read {path}: {error.strerror}") from None
    if not text.strip():
        raise UserError(f"data: {path} is empty")
    return text
