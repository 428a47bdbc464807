"""Windows packed with whole documents, which do not see each other.

Symbol i of a window is predicted from the symbols before it in its own document, behind the start symbol: packing
changes what a step costs and nothing of what it learns.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from aigc_lab.data.token_files import Tokens

PADDING = -1
"""The document of what is none; and the symbol, behind the end of a sequence."""

IGNORED = -100
"""The target that torch's losses leave out."""


@dataclass
class Windows:
    """A batch of packed windows. Not frozen: Lightning takes it apart where the weights are in bfloat16.

    Attributes:
        symbols: int64 [b, L]; 0 where nothing stands.
        documents: which document of its window each symbol belongs to, in ascending order, int64 [b, L];
            `PADDING`, at the end of a window, where nothing stands.
        learnt: which symbols are predicted, bool [b, L]; None: all.
    """

    symbols: Tensor
    documents: Tensor
    learnt: Tensor | None = None

    def __len__(self) -> int:
        return len(self.symbols)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Windows":
        """As a tensor's: what Lightning calls to move a batch."""
        return Windows(
            self.symbols.to(device, non_blocking=non_blocking),
            self.documents.to(device, non_blocking=non_blocking),
            None if self.learnt is None else self.learnt.to(device, non_blocking=non_blocking),
        )

    def chunk(self, chunks: int) -> "list[Windows]":
        """As a tensor's: micro-batches."""
        symbols, documents = self.symbols.chunk(chunks), self.documents.chunk(chunks)
        learnt = [None] * len(symbols) if self.learnt is None else self.learnt.chunk(chunks)
        return list(map(Windows, symbols, documents, learnt))

    @property
    def targets(self) -> Tensor:
        """What a network has to predict at each position: its symbol, or `IGNORED`. int64 [b, L]."""
        targets = self.symbols.masked_fill(self.documents == PADDING, IGNORED)
        return targets if self.learnt is None else targets.masked_fill(~self.learnt, IGNORED)


Batch = Tensor | Windows
"""Items of a data set side by side: plain, or packed windows."""


def padded(rows: Sequence[Tensor]) -> Tensor:
    """Sequences of symbols side by side, `PADDING` behind the shorter ones: int64 [b, the longest]."""
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=PADDING)


def begins(documents: Tensor) -> Tensor:
    """Where a document begins, bool [b, L]."""
    first = torch.ones_like(documents[:, :1], dtype=torch.bool)
    return torch.cat([first, documents[:, 1:] != documents[:, :-1]], -1)


def inputs(windows: Windows, start: int) -> Tensor:
    """What a network reads at each position to predict its symbol: the one before it, or `start` where a document
    begins. int64 [b, L]."""
    before = windows.symbols.roll(1, -1)
    return before.masked_fill(begins(windows.documents), start)


class Packed:
    """The documents of a corpus in windows of `length` symbols, as few as best fit finds; always the same ones.

    A document longer than a window is cut: each part is a document of its own, without the context before it.

    Args:
        learnt: which symbols are predicted, bool [n]; None: all.
        together: whether documents share windows; otherwise each part has one to itself.
    """

    def __init__(
        self, tokens: Tokens, length: int, *, learnt: np.ndarray | None = None, together: bool = True
    ) -> None:
        self.symbols, self.length, self.learnt = tokens.symbols, length, learnt
        first, size = tokens.starts[:-1], np.diff(tokens.starts)
        parts = -(-size // length)
        nth = np.arange(parts.sum()) - np.repeat(parts.cumsum() - parts, parts)  # part of its document
        begin = np.repeat(first, parts) + nth * length
        end = np.minimum(begin + length, np.repeat(first + size, parts))
        window = best_fit(end - begin, length) if together else np.arange(len(begin))
        order = np.argsort(window, kind="stable")
        self.begin, self.end = begin[order], end[order]
        self.parts = np.concatenate([[0], np.bincount(window).cumsum()])
        """Where each window's parts begin in `begin` and `end`, and the end."""

    def __len__(self) -> int:
        """Windows in all."""
        return len(self.parts) - 1

    def gather(self, window: Tensor) -> Windows:
        """Windows [b]."""
        symbols = torch.zeros(len(window), self.length, dtype=torch.long)
        documents = torch.full_like(symbols, PADDING)
        learnt = None if self.learnt is None else torch.zeros_like(symbols, dtype=torch.bool)
        for row, number in enumerate(window.tolist()):
            at = 0
            for i, part in enumerate(range(self.parts[number], self.parts[number + 1])):
                found = self.symbols[self.begin[part] : self.end[part]].astype(np.int64)
                symbols[row, at : at + len(found)] = torch.from_numpy(found)
                documents[row, at : at + len(found)] = i
                if learnt is not None and self.learnt is not None:
                    flags = self.learnt[self.begin[part] : self.end[part]]
                    learnt[row, at : at + len(found)] = torch.from_numpy(flags)
                at += len(found)
        return Windows(symbols, documents, learnt)


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The bin of each length, int64 [n]: the longest first, each into the fullest bin that has room for it."""
    bins, n_bins = np.empty(len(lengths), dtype=np.int64), 0
    with_room: dict[int, list[int]] = defaultdict(list)  # the bins, by the room that is left in them
    rooms: list[int] = []  # the keys under which there are any, in order
    for i in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[i])
        place = bisect_left(rooms, length)
        if place < len(rooms):
            room = rooms[place]
            bins[i] = with_room[room].pop()
            if not with_room[room]:
                del rooms[place]
        else:
            room, bins[i], n_bins = capacity, n_bins, n_bins + 1
        left = room - length
        if left and not with_room[left]:
            insort(rooms, left)
        if left:
            with_room[left].append(int(bins[i]))
    return bins
