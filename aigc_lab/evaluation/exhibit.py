"""What a reader looks at beside the numbers: samples, and the training items nearest to them."""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.evaluation.metrics import nearest_neighbours
from aigc_lab.files import write_atomically
from aigc_lab.pictures import sheet, to_png

N_IMAGES, N_PAIRS, N_TEXTS, COLUMNS = 64, 16, 6, 16


@dataclass(frozen=True)
class TextPair:
    """A sampled passage, the training passage nearest to it in feature space, and the length in bytes of the
    longest run that it shares with any of the training text."""

    sample: str
    nearest: str
    longest_shared: int


@dataclass(frozen=True)
class Exhibit:
    """Either pictures (PNG: a sheet of samples; samples above their nearest training images) or texts."""

    sheet: bytes | None
    neighbours: bytes | None
    texts: list[TextPair]

    def save(self, folder: Path) -> None:
        """Write the parts that there are."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in (("sheet.png", self.sheet), ("neighbours.png", self.neighbours)):
            if picture:
                write_atomically(folder / name, picture)
        if self.texts:
            rows = [asdict(pair) for pair in self.texts]
            write_atomically(folder / "texts.json", json.dumps(rows, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Exhibit":
        """
        Raises:
            OSError, ValueError, TypeError: a part is missing or damaged.
        """
        if (texts := folder / "texts.json").is_file():
            return cls(None, None, [TextPair(**row) for row in json.loads(texts.read_text(encoding="utf-8"))])
        return cls((folder / "sheet.png").read_bytes(), (folder / "neighbours.png").read_bytes(), [])


def make_exhibit(samples: Samples, points: Tensor, train: Samples, train_points: Tensor) -> Exhibit:
    """The first samples and, for some of them, the nearest training item by distance of features."""
    if isinstance(samples, Images):
        assert isinstance(train, Images)
        index, _ = nearest_neighbours(train_points, points[:N_PAIRS])
        pairs = Images(torch.cat([samples.pixels[:N_PAIRS], train.pixels[index]]), samples.levels)
        return Exhibit(
            to_png(sheet(samples[:N_IMAGES], columns=COLUMNS)), to_png(sheet(pairs, columns=len(index))), []
        )
    assert isinstance(train, Texts) and isinstance(samples, Texts)
    index, _ = nearest_neighbours(train_points, points[:N_TEXTS])
    shared = longest_shared(samples.passages[:N_TEXTS], b"".join(train.passages))
    chosen = zip(samples[:N_TEXTS].to_strings(), train[index].to_strings(), shared, strict=True)
    return Exhibit(None, None, [TextPair(*pair) for pair in chosen])


def longest_shared(passages: list[bytes], text: bytes) -> list[int]:
    """Length of the longest run of bytes that each passage has in common with the text.

    Runs of a length are compared by polynomial hashes modulo 2^64 (Rabin & Karp), the length is found by
    bisection: a run of length k contains runs of every shorter one.
    """
    prefix = _prefix_hashes(text)
    hashes_of_length = cache(lambda k: np.sort(_window_hashes(prefix, k)))

    def occurs(passage_prefix: np.ndarray, k: int) -> bool:
        known, wanted = hashes_of_length(k), _window_hashes(passage_prefix, k)
        place = np.searchsorted(known, wanted)
        return bool((known[np.minimum(place, len(known) - 1)] == wanted).any())

    found = []
    for passage in passages:
        passage_prefix = _prefix_hashes(passage)
        low, high = 0, min(len(passage), len(text))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if occurs(passage_prefix, middle) else (low, middle - 1)
        found.append(low)
    return found


_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so it has an inverse modulo 2^64
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))


def _prefix_hashes(data: bytes) -> np.ndarray:
    """Σ_{j<i} base^j (byte_j + 1) for every i, uint64 [len + 1]."""
    values = np.frombuffer(data, dtype=np.uint8).astype(np.uint64) + np.uint64(1)
    return np.concatenate([[np.uint64(0)], np.cumsum(values * _powers(_BASE, len(values)), dtype=np.uint64)])


def _window_hashes(prefix: np.ndarray, k: int) -> np.ndarray:
    """The hash of every run of k bytes, independent of where it stands."""
    return (prefix[k:] - prefix[:-k]) * _powers(_INVERSE, len(prefix) - k)


def _powers(base: np.uint64, n: int) -> np.ndarray:
    """base^0 .. base^(n-1) modulo 2^64."""
    return np.concatenate([[np.uint64(1)], np.cumprod(np.full(max(0, n - 1), base), dtype=np.uint64)])[:n]
