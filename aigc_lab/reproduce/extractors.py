"""A measure of feature extractors: held-out items get one fault each, and every extractor says how much worse they
are."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, stdev

import torch
from torch import Tensor
from torch.nn import functional as F

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Images, Samples, Texts, join
from aigc_lab.errors import UserError
from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.controls import baseline, noise, noisy_copycat
from aigc_lab.evaluation.features import Extractor, Features, Judge
from aigc_lab.evaluation.metrics import bits_per_byte, frechet_distance
from aigc_lab.reproduce.trial import Trial
from aigc_lab.types import PositiveInt

N_RESAMPLES = 50
MOST = 1000.0
"""More standard deviations than this are not told apart."""


@dataclass(frozen=True)
class HeldOut:
    """Some held-out items of a data set in random order, and their classes, where it has classes."""

    data: Dataset
    items: Samples
    classes: Tensor | None

    @classmethod
    def of(cls, data: Dataset, n: int, rng: torch.Generator) -> "HeldOut":
        everything, classes = data.real("held_out"), data.labels("held_out")
        chosen = torch.randperm(len(everything), generator=rng)[:n]
        return cls(data, everything[chosen], None if classes is None else classes[chosen])


@dataclass(frozen=True, kw_only=True)
class SeenFaults:
    """How much worse every extractor says that held-out items with a fault are, one fault of `FAULTS` at a time.

    `DATA, EXTRACTOR: FAULT` is by how many standard deviations the fault raises the Fréchet distance of held-out
    items to as many training items, at most 1,000; the deviation is that of the distance without the fault, over
    50 bootstrap resamples of the held-out items. `median` is over the faults proper, without `ASIDE`.
    `DATA: FAULT, lead of CHOSEN` is what the chosen extractor has more than any of the others, in the same units.

    An extractor that is a language model judges too: `DATA, EXTRACTOR as judge: FAULT` is the rise of its bits per
    byte over those of the held-out texts, in standard errors of the difference.

    Args:
        data: images or texts.
        extractors: by name.
        chosen: one of these names.
        n: held-out items, at most, and training items.
        cache_dir: where trained extractors are kept.
    """

    data: Dataset
    extractors: dict[str, Extractor]
    chosen: str
    n: PositiveInt
    cache_dir: str

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the chosen extractor is not among several, or one does not fit the data.
        """
        if self.chosen not in self.extractors or len(self.extractors) < 2:
            raise UserError(f"claims: chosen={self.chosen} should be one of several extractors")
        rng, name = trial.rng(), self.data.spec.name
        real = HeldOut.of(self.data, self.n, rng)
        faulty = {fault: make(real, rng) for fault, make in FAULTS[self.data.spec.modality].items()}
        train = self.data.real("train")
        reference = train[torch.randperm(len(train), generator=rng)[: len(real.items)]]
        found: dict[str, float] = {}
        rises = {}
        for title, extractor in self.extractors.items():
            features = extractor.fit(self.data, Path(self.cache_dir).expanduser())
            rises[title] = _rises(features, reference, real.items, faulty, rng)
            found |= {f"{name}, {title}: {fault}": rise for fault, rise in rises[title].items()}
            if features.judge is not None:
                judged = _judged(features.judge, real.items, faulty)
                found |= {f"{name}, {title} as judge: {fault}": rise for fault, rise in judged.items()}
        for fault, rise in rises.pop(self.chosen).items():
            best = max(other[fault] for other in rises.values())
            found[f"{name}: {fault}, lead of {self.chosen}"] = rise - best
        return found


def _rises(
    features: Features, reference: Samples, real: Samples, faulty: Mapping[str, Samples], rng: torch.Generator
) -> dict[str, float]:
    """Of the Fréchet distance, for each fault and in the median."""
    known, points = features(reference), features(real)
    floor = float(frechet_distance(known, points))
    resamples = (torch.randint(len(points), (len(points),), generator=rng) for _ in range(N_RESAMPLES))
    spread = stdev(float(frechet_distance(known, points[index])) for index in resamples)
    rises = {
        name: min((float(frechet_distance(known, features(items))) - floor) / spread, MOST)
        for name, items in faulty.items()
    }
    return rises | {"median": median(rise for name, rise in rises.items() if name not in ASIDE)}


def _judged(judge: Judge, real: Samples, faulty: Mapping[str, Samples]) -> dict[str, float]:
    """Rises of bits per byte."""

    def bits(texts: Samples) -> Estimate:
        assert isinstance(texts, Texts)
        return bits_per_byte(judge(texts.passages), torch.tensor(texts.bytes_per_item()))

    floor, rises = bits(real), {}
    for name, texts in faulty.items():
        found = bits(texts)
        error = math.hypot(found.standard_error, floor.standard_error)
        rises[name] = min((found.value - floor.value) / error, MOST)
    return rises


Fault = Callable[[HeldOut, torch.Generator], Samples]
"""The items with a fault, or others in their place."""


def mixed(real: HeldOut, rng: torch.Generator) -> Samples:
    """One item in ten is the baseline's."""
    n = len(real.items) // 10
    return join([baseline(real.data).sample(n, rng=rng), real.items[n:]])


def blurred(real: HeldOut, rng: torch.Generator) -> Images:
    """Each pixel is the mean of the 3 x 3 around it."""
    images = _images(real)
    means = F.avg_pool2d(images.pixels.float(), 3, stride=1, padding=1, count_include_pad=False)
    return Images(means.round().to(torch.uint8), images.levels)


def grained(real: HeldOut, rng: torch.Generator) -> Images:
    """One pixel in fifty is any level."""
    images = _images(real)
    shape = images.pixels.shape
    other = torch.randint(images.levels, shape, generator=rng, dtype=torch.uint8)
    return Images(torch.where(torch.rand(shape, generator=rng) < 0.02, other, images.pixels), images.levels)


def swapped(real: HeldOut, rng: torch.Generator) -> Images:
    """The lower half is another image's."""
    images = _images(real)
    half = images.pixels.shape[-2] // 2
    other = images.pixels[torch.randperm(len(images), generator=rng)]
    return Images(torch.cat([images.pixels[..., :half, :], other[..., half:, :]], -2), images.levels)


def classless(real: HeldOut, rng: torch.Generator) -> Samples:
    """Without the class in the middle: of ten digits the fives."""
    assert real.classes is not None
    return real.items[real.classes != real.data.spec.n_classes // 2]


def misspelt(real: HeldOut, rng: torch.Generator) -> Texts:
    """One byte in fifty is another of the text's."""
    passages = _passages(real)
    pool = torch.tensor(list(b"".join(passages)))
    changed = []
    for passage in passages:
        old = torch.tensor(list(passage))
        new = pool[torch.randint(len(pool), old.shape, generator=rng)]
        changed.append(bytes(torch.where(torch.rand(old.shape, generator=rng) < 0.02, new, old).tolist()))
    return Texts(changed)


def shuffled(real: HeldOut, rng: torch.Generator) -> Texts:
    """The words of each passage in random order."""
    cut = [passage.split(b" ") for passage in _passages(real)]
    return Texts([b" ".join(w[i] for i in torch.randperm(len(w), generator=rng).tolist()) for w in cut])


def incoherent(real: HeldOut, rng: torch.Generator) -> Texts:
    """Eight pieces of eight passages."""
    passages = _passages(real)
    size = len(passages[0]) // 8
    pieces = [[p[i * size : (i + 1) * size] for p in passages] for i in range(8)]
    orders = [torch.randperm(len(passages), generator=rng).tolist() for _ in pieces]
    columns = [[piece[i] for i in order] for piece, order in zip(pieces, orders, strict=True)]
    return Texts([b"".join(row) for row in zip(*columns, strict=True)])


def looping(real: HeldOut, rng: torch.Generator) -> Texts:
    """The second half repeats the first."""
    return Texts([(p[: len(p) // 2] * 3)[: len(p)] for p in _passages(real)])


def _images(real: HeldOut) -> Images:
    assert isinstance(real.items, Images)
    return real.items


def _passages(real: HeldOut) -> list[bytes]:
    assert isinstance(real.items, Texts)
    return real.items.passages


CONTROLS: Mapping[str, Fault] = {
    "noise": lambda real, rng: noise(real.data).sample(len(real.items), rng=rng),
    "noisy copycat": lambda real, rng: noisy_copycat(real.data).sample(len(real.items), rng=rng),
    "baseline": lambda real, rng: baseline(real.data).sample(len(real.items), rng=rng),
    "10% baseline": mixed,
}
FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "image": {
        **CONTROLS,
        "blurred": blurred,
        "grain": grained,
        "swapped halves": swapped,
        "a class missing": classless,
    },
    "text": {
        **CONTROLS,
        "misspelt": misspelt,
        "shuffled words": shuffled,
        "incoherent": incoherent,
        "looping": looping,
    },
}
ASIDE = ("noise", "noisy copycat")
"""What the median is not over: noise is seen by all, and copies are no fault of a distance."""
