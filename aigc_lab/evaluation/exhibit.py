"""What a reader looks at beside the numbers: samples, the training items nearest to them, the same prompts
continued by every generator of text, and the divergence frontier."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.data.spec import DataSpec
from aigc_lab.evaluation.metrics import nearest_neighbours
from aigc_lab.files import write_atomically
from aigc_lab.pictures import sheet, to_png

N_IMAGES, N_PAIRS, N_TEXTS, N_PROMPTS, COLUMNS = 64, 16, 6, 4, 16

Frontier = Sequence[tuple[float, float]]
"""How well real data covers generated and the reverse, from (0, 1) to (1, 0): `metrics.divergence_frontier`."""


@dataclass(frozen=True)
class TextPair:
    """A sampled passage, the training passage nearest to it in feature space, and the length in bytes of the
    longest run that it shares with any of the training text."""

    sample: str
    nearest: str
    longest_shared: int


@dataclass(frozen=True)
class Prompt:
    """The first quarter of a held-out passage, and how it really goes on."""

    given: bytes
    real: bytes


@dataclass(frozen=True)
class Continuation:
    """A prompt, how it really goes on, and how a generator continues it for as many symbols."""

    prompt: str
    real: str
    generated: str


@dataclass(frozen=True)
class Exhibit:
    """What there is to see of a generator; a part that it has not is empty.

    Attributes:
        sheet, neighbours: PNG: a sheet of samples; samples above their nearest training images.
        texts: samples, each with its nearest training passage.
        continuations: of the harness's prompts, in their order.
        frontier: against the real items that the metrics compare with.
    """

    sheet: bytes | None = None
    neighbours: bytes | None = None
    texts: Sequence[TextPair] = ()
    continuations: Sequence[Continuation] = ()
    frontier: Frontier = ()

    def save(self, folder: Path) -> None:
        """Write the pictures that there are, then exhibit.json, which says what there is."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {"sheet": self.sheet, "neighbours": self.neighbours}
        for name, picture in pictures.items():
            if picture:
                write_atomically(folder / f"{name}.png", picture)
        values = {
            "pictures": [name for name, picture in pictures.items() if picture],
            "texts": [asdict(pair) for pair in self.texts],
            "continuations": [asdict(continuation) for continuation in self.continuations],
            "frontier": list(self.frontier),
        }
        write_atomically(folder / "exhibit.json", json.dumps(values, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Exhibit":
        """
        Raises:
            OSError, ValueError, TypeError: a part is missing or damaged.
        """
        values = json.loads((folder / "exhibit.json").read_text(encoding="utf-8"))
        if not isinstance(values, dict) or set(values) != {"pictures", "texts", "continuations", "frontier"}:
            raise ValueError(f"{folder}/exhibit.json: damaged")
        return cls(
            **{name: (folder / f"{name}.png").read_bytes() for name in values["pictures"]},
            texts=[TextPair(**pair) for pair in values["texts"]],
            continuations=[Continuation(**continuation) for continuation in values["continuations"]],
            frontier=[(float(x), float(y)) for x, y in values["frontier"]],
        )


def make_exhibit(
    samples: Samples,
    points: Tensor,
    train: Samples,
    train_points: Tensor,
    *,
    continuations: Sequence[Continuation] = (),
    frontier: Frontier = (),
) -> Exhibit:
    """The first samples and, for some of them, the nearest training item by distance of features."""
    if isinstance(samples, Images):
        assert isinstance(train, Images)
        index, _ = nearest_neighbours(train_points, points[:N_PAIRS])
        pairs = Images(torch.cat([samples.pixels[:N_PAIRS], train.pixels[index]]), samples.levels)
        return Exhibit(
            sheet=to_png(sheet(samples[:N_IMAGES], columns=COLUMNS)),
            neighbours=to_png(sheet(pairs, columns=len(index))),
            frontier=frontier,
        )
    assert isinstance(train, Texts) and isinstance(samples, Texts)
    index, _ = nearest_neighbours(train_points, points[:N_TEXTS])
    shared = longest_shared(samples.passages[:N_TEXTS], b"".join(train.passages))
    chosen = zip(samples[:N_TEXTS].to_strings(), train[index].to_strings(), shared, strict=True)
    return Exhibit(texts=[TextPair(*pair) for pair in chosen], continuations=continuations, frontier=frontier)


@runtime_checkable
class Continues(Protocol):
    """A generator that can go on from given symbols, as an autoregressive one can."""

    spec: DataSpec

    def continue_symbols(self, prompt_BP: Tensor, length: int, *, rng: torch.Generator) -> Tensor: ...


def prompts(held_out: Samples) -> list[Prompt]:
    """The beginnings of the first held-out passages, cut between characters; none for images."""
    if not isinstance(held_out, Texts):
        return []
    found = []
    for passage in held_out.passages[:N_PROMPTS]:
        given = passage[: len(passage) // 4].decode(errors="ignore").encode()
        if passage.startswith(given):  # not where the passage holds invalid bytes
            found.append(Prompt(given, passage.removeprefix(given)))
    return found


def continue_prompts(
    generator: object, prompts: Sequence[Prompt], rng: Callable[[int], torch.Generator]
) -> list[Continuation]:
    """What the generator makes of every prompt, each with noise of its own; nothing where it cannot continue."""
    if not isinstance(generator, Continues):
        return []
    continued = []
    for i, prompt in enumerate(prompts):
        given, real = generator.spec.encode(Texts([prompt.given, prompt.real]))
        symbols = generator.continue_symbols(given[None], len(real), rng=rng(i))
        written = generator.spec.decode(symbols)
        assert isinstance(written, Texts)
        texts = Texts([prompt.given, prompt.real, written.passages[0].removeprefix(prompt.given)])
        continued.append(Continuation(*texts.to_strings()))
    return continued


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
