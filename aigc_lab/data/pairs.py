"""Pairs of texts: sources, and what each is to become.

No source stands in two of the parts `train`, `validation` and `test`. The second is what training looks at now and
then; the third is `real("held_out")`, which nothing looks at before a trained model is judged.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from aigc_lab.data.corpora import Corpus, InMemory, file_size
from aigc_lab.data.jsonl import parsed
from aigc_lab.data.packing import padded
from aigc_lab.data.samples import Pairs, Texts
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.data.splits import by_hash, content_hash
from aigc_lab.data.tokenizing import Tokenizing
from aigc_lab.data.tokens import Tokenizer
from aigc_lab.errors import UserError
from aigc_lab.types import Fraction, PositiveInt

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
REAL: Mapping[Split, Part] = {"train": "train", "held_out": "test"}


class Pair(NamedTuple):
    """A source, its target, and the words for where the pair stands in its data."""

    source: str
    target: str
    place: str


@dataclass(kw_only=True)
class PairData(ABC):
    """Pairs, read on first use and kept in memory.

    Args:
        batch_size: pairs in one optimisation batch, over all processes.
        context: the longest source, and the longest target, in symbols, each with an end behind it.
        tokenizer: what a symbol is, in both.
        cache_dir: where trained tokenizers are kept; None keeps them in memory.
    """

    batch_size: PositiveInt
    context: PositiveInt
    tokenizer: Tokenizing
    cache_dir: Path | None = None

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def _read(self) -> Mapping[Part, Sequence[Pair]]: ...

    @cached_property
    def _pairs(self) -> Mapping[Part, Sequence[Pair]]:
        return self._read()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        texts = {part: [text for p in self._pairs[part] for text in (p.source, p.target)] for part in PARTS}
        others = [*texts["validation"], *texts["test"]]
        corpus = Corpus.of(
            self.name,
            InMemory([*texts["train"], *others]),
            separator=b"",
            held_out=[False] * len(texts["train"]) + [True] * len(others),
        )
        return self.tokenizer.fit(corpus, self.cache_dir)

    @cached_property
    def _symbols(self) -> Mapping[Part, list[tuple[Tensor, Tensor]]]:
        return {
            part: [(self._encode(p, "source"), self._encode(p, "target")) for p in self._pairs[part]]
            for part in PARTS
        }

    def _encode(self, pair: Pair, field: Literal["source", "target"]) -> Tensor:
        try:
            symbols = self._tokenizer.encode(getattr(pair, field).encode())
        except ValueError as error:
            raise UserError(f"data: {pair.place}: the {field}: {error}") from None
        if len(symbols) >= self.context:
            raise UserError(
                f"data: {pair.place}: the {field} has {len(symbols)} symbols and an end, but "
                f"data.context={self.context}"
            )
        return symbols

    @cached_property
    def spec(self) -> DataSpec:
        """What models must know; reads the data."""
        found = self._symbols
        texts = (f"{part}\n{p.source}\n{p.target}" for part in PARTS for p in self._pairs[part])
        return DataSpec(
            name=self.name,
            modality="pairs",
            shape=(self.context,),
            vocab_size=self._tokenizer.vocab_size,
            tokenizer=self._tokenizer,
            passage=0,
            n_classes=0,
            n_train=len(found["train"]),
            n_held_out=len(found["test"]),
            content_hash=content_hash(*texts),
        )

    def real(self, split: Split) -> Pairs:
        """The training pairs, or the test pairs."""
        pairs = self._pairs[REAL[split]]
        return Pairs(*(Texts([getattr(p, field).encode() for p in pairs]) for field in ("source", "target")))

    def labels(self, split: Split) -> None:
        """None: pairs have no classes."""
        return

    likelihood_items = real

    @property
    def n_items(self) -> int:
        return len(self._symbols["train"])

    def gather(self, epoch: Tensor, item: Tensor) -> Tensor:
        """Training pairs: int64 [b, 2, L], sources in the first row and targets in the second, `PADDING` behind
        their ends."""
        return self._batch("train", item)

    @property
    def n_held_out_items(self) -> int:
        return len(self._symbols["validation"])

    def gather_held_out(self, item: Tensor) -> Tensor:
        """Validation pairs: int64 [b, 2, L], as `gather`."""
        return self._batch("validation", item)

    def _batch(self, part: Part, item: Tensor) -> Tensor:
        chosen = [self._symbols[part][i] for i in item.tolist()]
        rows = [row for pair in chosen for row in pair]
        return padded(rows).view(len(item), 2, -1)


@dataclass(kw_only=True)
class PairFile(PairData):
    """A UTF-8 file with a pair a line: `.jsonl`, objects with the fields `source` and `target`, or `.tsv`, a
    source, a tab and a target. Pairs that stand there twice count once.

    Args:
        path: the file.
        validation, test: shares of the different sources, chosen by their hash; at least one each.
    """

    path: str
    validation: Fraction
    test: Fraction

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def _read(self) -> dict[Part, list[Pair]]:
        """
        Raises:
            UserError: there is no such file, a line holds no pair, or there are too few sources.
        """
        path = Path(self.path)
        if not path.is_file():
            raise UserError(f"data.path={self.path}: no such file")
        if path.suffix not in FORMATS:
            raise UserError(f"data.path={self.path}: should end in {' or '.join(FORMATS)}")
        file_size(path)
        first = {(p.source, p.target): p for p in reversed(list(_lines(path)))}
        return self._parted([*reversed(first.values())])

    def _parted(self, pairs: Sequence[Pair]) -> dict[Part, list[Pair]]:
        sources = list({p.source: None for p in pairs})
        order = [sources[i] for i in by_hash([source.encode() for source in sources])]
        n_test, n_validation = (max(1, round(share * len(order))) for share in (self.test, self.validation))
        if n_test + n_validation >= len(order):
            raise UserError(
                f"data: {self.path} has {len(order)} different sources, too few for data.test={self.test} and "
                f"data.validation={self.validation}"
            )
        part: dict[str, Part] = dict.fromkeys(order, "train")
        part |= dict.fromkeys(order[:n_test], "test")
        part |= dict.fromkeys(order[n_test : n_test + n_validation], "validation")
        return {name: [p for p in pairs if part[p.source] == name] for name in PARTS}


def _lines(path: Path) -> Iterator[Pair]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                place = f"{path}, line {number}"
                try:
                    yield Pair(*FORMATS[path.suffix](line.removesuffix("\n")), place)
                except ValueError as error:
                    raise UserError(f"data: {place}: {error}") from None


def _of_json(line: str) -> tuple[str, str]:
    found = parsed(line)
    if not isinstance(found, dict):
        raise ValueError("is no JSON object with the fields 'source' and 'target'")
    for field in ("source", "target"):
        if field not in found:
            raise ValueError(f"the field '{field}' is missing")
        if not isinstance(found[field], str):
            raise ValueError(f"the field '{field}' is no text")
    return found["source"], found["target"]


def _of_columns(line: str) -> tuple[str, str]:
    columns = line.split("\t")
    if len(columns) != 2:
        raise ValueError(f"has {len(columns)} columns, and a pair has 2, with a tab in between")
    return columns[0], columns[1]


FORMATS: Mapping[str, Callable[[str], tuple[str, str]]] = {".jsonl": _of_json, ".tsv": _of_columns}
"""How a line of a file of this suffix is read."""
