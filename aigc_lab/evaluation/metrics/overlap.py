"""What texts share with the training text, to the token. A text is a sequence of tokens, or bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.repetition import Text

END_OF_TRAINING, END_OF_TEXT = -1, -2
"""Symbols between texts: no token is one, and neither is the other, so that no match crosses them."""


@dataclass(frozen=True)
class SharedText:
    """The longest run of tokens that each text shares with the training text: its mean, and the longest of all."""

    mean: Estimate
    longest: int


def longest_shared(texts: Sequence[Text], training: Sequence[Text]) -> SharedText:
    """How many tokens of each text stand in the training text in one piece (Lee et al. 2022; Carlini et al. 2023).

    The whole length for copies. For fresh real text it depends on tokens, lengths and the size of the training
    text: compare with held-out text. Blind to copies with a changed token in every few.
    """
    longest = [int(lengths.max(initial=0)) for lengths in shared_lengths(texts, training)]
    return SharedText(Estimate.mean_of(torch.tensor(longest)), max(longest, default=0))


def novelty(texts: Sequence[Text], training: Sequence[Text], *, n: int) -> Estimate:
    """The share of n-grams that the training text does not hold (McCoy et al. 2023, section 4).

    0 for copies, 1 for noise at large n: compare with held-out text. The interval is of a ratio of sums over
    texts (delta method).
    """
    return new_ngrams(shared_lengths(texts, training), n=n)


def new_ngrams(shared_by_text: Sequence[np.ndarray], *, n: int) -> Estimate:
    """`novelty` of texts whose `shared_lengths` are known: every n then costs next to nothing."""
    lengths = [shared[: max(0, len(shared) - n + 1)] for shared in shared_by_text]
    new = torch.tensor([int((shared < n).sum()) for shared in lengths], dtype=torch.float64)
    total = torch.tensor([len(shared) for shared in lengths], dtype=torch.float64)
    value = float(new.sum() / total.sum())  # nan where every text is shorter than n
    return Estimate.linear(value, (new - value * total) / total.mean())


def shared_lengths(texts: Sequence[Text], training: Sequence[Text]) -> list[np.ndarray]:
    """At each place of each text, how many tokens from there on stand somewhere in the training text.

    By a suffix array (Manber & Myers 1990): runs of 1, 2, 4, ... tokens are ranked from the ranks of their
    halves; in the order of the longest ones, the best match of a place is the next training place before or
    behind it, and how far the two agree is read off the ranks from long to short. Time n log n log(longest
    text), exact, no hashing.
    """
    if not texts:
        return []
    train_symbols = _joined(training or [b""], END_OF_TRAINING)
    symbols = np.concatenate([train_symbols, _joined(texts, END_OF_TEXT)])
    ranks = _ranks(symbols, max((len(text) for text in texts), default=0))
    train_order = np.argsort(ranks[-1][: len(train_symbols)], kind="stable")
    places = np.arange(len(train_symbols), len(symbols))
    behind = np.searchsorted(ranks[-1][train_order], ranks[-1][places])
    neighbours = [train_order[np.clip(behind + step, 0, len(train_order) - 1)] for step in (-1, 0)]
    shared = np.maximum(*(_common_prefix(ranks, places, neighbour) for neighbour in neighbours))
    ends = np.cumsum([len(text) + 1 for text in texts])
    return [part[:-1] for part in np.split(shared, ends[:-1])]


def _joined(texts: Sequence[Text], end: int) -> np.ndarray:
    """All texts in one, each with an end, int64."""
    return np.concatenate(
        [
            np.append(np.frombuffer(t, np.uint8) if isinstance(t, bytes) else np.asarray(t, np.int64), end)
            for t in texts
        ]
    ).astype(np.int64)


def _ranks(symbols: np.ndarray, longest: int) -> list[np.ndarray]:
    """Of the runs of 1, 2, 4, ... symbols from each place, up to what tells all runs of `longest` apart."""
    ranks = [np.unique(symbols, return_inverse=True)[1].astype(np.int32)]
    while 1 << (len(ranks) - 1) < longest:
        half = 1 << (len(ranks) - 1)
        second = np.zeros(len(symbols), np.int64)  # past the end: before all others
        second[:-half] = ranks[-1][half:] + 1
        pairs = ranks[-1].astype(np.int64) * (len(symbols) + 1) + second
        ranks.append(np.unique(pairs, return_inverse=True)[1].astype(np.int32))
    return ranks


def _common_prefix(ranks: list[np.ndarray], places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many symbols from each place on equal those from its other."""
    length = np.zeros(len(places), np.int64)
    for level in reversed(range(len(ranks))):
        length += (ranks[level][places + length] == ranks[level][others + length]) * (1 << level)
    return length
