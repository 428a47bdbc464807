"""Controls: generators whose quality is known, scored by the very code that scores the models.

The oracle shows what perfect samples score, half of the training split against the other half what perfect
samples score when nothing at all is held out, noise what useless ones do, the baseline what hardly any learning
buys. The others each have one fault, and show which metrics are blind to it: the copycat replays the training
split, the noisy copycat with small changes, one mode is dropped, or the features are those of a Gaussian with the
right mean and covariance.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.evaluation.arguments import FEATURE_CONTROLS, SAMPLE_CONTROLS
from aigc_lab.evaluation.completions import Completion, Prompt
from aigc_lab.generators import Cost, Generator, LogLikelihood


@dataclass(frozen=True)
class Replay:
    """Real items of one split, without replacement: the oracle (held-out) or the copycat (train).

    No likelihood: a replay does not say how probable anything else is.
    """

    items: Samples
    modality: str

    def sample(self, n: int, *, rng: torch.Generator) -> Samples:
        assert n <= len(self.items), f"{n} items asked for, {len(self.items)} there"
        return self.items[torch.randperm(len(self.items), generator=rng)[:n]]

    def log_likelihood(self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1) -> None:
        return None

    def cost(self) -> Cost:
        sizes = self.items.bytes_per_item()
        return Cost(parameters=0, flops_per_sample=0, bytes_per_sample=sizes[0])


@dataclass(frozen=True)
class NoisyReplay(Replay):
    """Training items with small changes: a tenth of the pixels one level brighter or darker, or one byte in fifty
    replaced by another of the text's own."""

    def sample(self, n: int, *, rng: torch.Generator) -> Samples:
        return _disturbed(super().sample(n, rng=rng), rng)


def _disturbed(samples: Samples, rng: torch.Generator) -> Samples:
    if isinstance(samples, Images):
        u = torch.rand(samples.pixels.shape, generator=rng)
        steps = (u < 0.05).int() - (u > 0.95).int()
        pixels = (samples.pixels.int() + steps).clamp(0, samples.levels - 1)
        return Images(pixels.to(torch.uint8), samples.levels)
    assert isinstance(samples, Texts)
    text = torch.frombuffer(bytearray(b"".join(samples.passages)), dtype=torch.uint8)
    others = text[torch.randint(len(text), text.shape, generator=rng)]
    changed = bytes(torch.where(torch.rand(text.shape, generator=rng) < 0.02, others, text).numpy())
    ends = np.cumsum([len(passage) for passage in samples.passages])
    return Texts([changed[end - len(p) : end] for end, p in zip(ends, samples.passages, strict=True)])


@dataclass(frozen=True)
class Noise:
    """Every pixel level, every byte, equally likely."""

    spec: DataSpec

    @property
    def modality(self) -> str:
        return self.spec.modality

    def sample(self, n: int, *, rng: torch.Generator) -> Samples:
        if self.modality == "image":
            shape = (n, *self.spec.shape)
            pixels = torch.randint(self.spec.vocab_size, shape, generator=rng, dtype=torch.uint8)
            return Images(pixels, self.spec.vocab_size)
        symbols = torch.randint(256, (n, self.spec.passage), generator=rng, dtype=torch.uint8)
        return Texts([bytes(row) for row in symbols.numpy()])

    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood:
        n_bytes = torch.tensor(batch.bytes_per_item())
        values = self.spec.vocab_size if self.modality == "image" else 256
        return LogLikelihood(-n_bytes.double() * math.log(values), n_bytes, "exact")

    def cost(self) -> Cost:
        sample = self.sample(1, rng=torch.Generator())
        return Cost(parameters=0, flops_per_sample=0, bytes_per_sample=sample.bytes_per_item()[0])


class PixelMarginals:
    """Independent pixels, each with its own frequencies of levels in the training split (add-one smoothed).

    For binary pixels this is the pixel-wise Bernoulli model.
    """

    modality = "image"

    def __init__(self, train: Images) -> None:
        shape, levels = train.pixels.shape[1:], train.levels
        own_bins = torch.arange(shape.numel()) * levels
        counts = torch.ones(shape.numel() * levels, dtype=torch.float64)
        for pixels in train.pixels.flatten(1).split(1000):
            counts += torch.bincount((own_bins + pixels).flatten(), minlength=len(counts))
        counts = counts.view(*shape, levels)
        self.levels, self.log_p = train.levels, (counts / counts.sum(-1, keepdim=True)).log()

    def sample(self, n: int, *, rng: torch.Generator) -> Images:
        cumulative = self.log_p.exp().cumsum(-1)
        draws = torch.rand(n, *cumulative.shape[:-1], generator=rng, dtype=torch.float64)
        by_pixel = draws.movedim(0, -1).contiguous()  # below which entry of its own pixel's law each draw falls
        pixels = torch.searchsorted(cumulative, by_pixel).movedim(-1, 0).clamp(max=self.levels - 1)
        return Images(pixels.to(torch.uint8).contiguous(), self.levels)

    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood:
        assert isinstance(batch, Images)
        log_p = self.log_p.expand(len(batch), *self.log_p.shape)
        nats = log_p.gather(-1, batch.pixels.long().unsqueeze(-1)).flatten(1).sum(1)
        return LogLikelihood(nats, torch.tensor(batch.bytes_per_item()), "exact")

    def cost(self) -> Cost:
        n_pixels = self.log_p[..., 0].numel()
        return Cost(n_pixels * (self.levels - 1), flops_per_sample=0, bytes_per_sample=n_pixels)


class ByteTrigrams:
    """p(byte | the two before it), interpolated with shorter contexts by Witten-Bell smoothing.

    p(w | c) = (count(cw) + u(c) p(w | c')) / (count(c) + u(c)), where u(c) is the number of different bytes
    seen after c and c' is c without its first byte (Chen & Goodman 1998, section 2.4).
    """

    modality = "text"

    def __init__(self, train: bytes, passage: int) -> None:
        self.passage = passage
        text = np.frombuffer(train, dtype=np.uint8).astype(np.int64)
        unigrams = np.bincount(text, minlength=256)
        bigrams = np.bincount(text[:-1] * 256 + text[1:], minlength=256**2).reshape(256, 256)
        contexts, row = np.unique(text[:-2] * 256 + text[1:-1], return_inverse=True)
        trigrams = np.bincount(row * 256 + text[2:], minlength=256 * len(contexts)).reshape(-1, 256)
        self.unigram = _witten_bell(unigrams, np.full(256, 1 / 256))
        self.bigram = _witten_bell(bigrams, self.unigram)
        # one row per context that occurred, then the bigrams for those that did not
        self.trigram = np.concatenate([_witten_bell(trigrams, self.bigram[contexts % 256]), self.bigram])
        self.row = len(contexts) + np.tile(np.arange(256), 256)
        self.row[contexts] = np.arange(len(contexts))
        self.n_counts = sum(int((counts > 0).sum()) for counts in (unigrams, bigrams, trigrams))

    def sample(self, n: int, *, rng: torch.Generator) -> Texts:
        draws = torch.rand(n, self.passage, generator=rng, dtype=torch.float64).numpy()
        text = np.empty((n, self.passage), dtype=np.int64)
        for i in range(self.passage):
            if i >= 2:
                p = self.trigram[self.row[text[:, i - 2] * 256 + text[:, i - 1]]]
            else:
                p = self.bigram[text[:, 0]] if i else np.broadcast_to(self.unigram, (n, 256))
            text[:, i] = np.minimum((p.cumsum(1) < draws[:, i : i + 1]).sum(1), 255)
        return Texts([bytes(row) for row in text.astype(np.uint8)])

    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood:
        assert isinstance(batch, Texts)
        nats = torch.tensor([self._log_p(passage) for passage in batch.passages], dtype=torch.float64)
        return LogLikelihood(nats, torch.tensor(batch.bytes_per_item()), "exact")

    def _log_p(self, passage: bytes) -> float:
        text = np.frombuffer(passage, dtype=np.uint8).astype(np.int64)
        first = np.log(self.unigram[text[:1]]).sum() + np.log(self.bigram[text[:1], text[1:2]]).sum()
        return float(first + np.log(self.trigram[self.row[text[:-2] * 256 + text[1:-1]], text[2:]]).sum())

    def cost(self) -> Cost:
        return Cost(self.n_counts, flops_per_sample=0, bytes_per_sample=self.passage)


def _witten_bell(counts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """Smooth counts [..., w] towards the probabilities of the shorter context, which broadcast to them."""
    total = counts.sum(-1, keepdims=True)
    distinct = (counts > 0).sum(-1, keepdims=True)
    smoothed = (counts + distinct * shorter) / np.maximum(total + distinct, 1)
    return np.where(total == 0, shorter, smoothed)  # a context that never occurred says nothing


class ControlFactory(Protocol):
    def __call__(self, dataset: Dataset) -> Generator: ...


def oracle(dataset: Dataset) -> Generator:
    """Held-out real data: what perfect samples would score."""
    return _replay(dataset, "held_out")


def copycat(dataset: Dataset) -> Generator:
    """The training set replayed: perfect to every metric that is blind to memorisation."""
    return _replay(dataset, "train")


def noisy_copycat(dataset: Dataset) -> Generator:
    """The training set replayed with small changes: it escapes metrics that see exact copies only."""
    return NoisyReplay(dataset.real("train"), dataset.spec.modality)


def noise(dataset: Dataset) -> Generator:
    """Uniform noise: what useless samples score."""
    return Noise(dataset.spec)


def baseline(dataset: Dataset) -> Generator:
    """Independent pixels, or byte trigrams."""
    train = dataset.real("train")
    if isinstance(train, Images):
        return PixelMarginals(train)
    assert isinstance(train, Texts)
    return ByteTrigrams(b"".join(train.passages), dataset.spec.passage)


CONTROLS: Mapping[str, ControlFactory] = dict(
    zip(SAMPLE_CONTROLS, (oracle, copycat, noisy_copycat, baseline, noise), strict=True)
)


def truth(prompts: Sequence[Prompt], samples: Samples) -> list[Completion]:
    """How every prompt really goes on."""
    return [Completion(prompt.given, prompt.real, prompt.real) for prompt in prompts]


def heedless(prompts: Sequence[Prompt], samples: Samples) -> list[Completion]:
    """Samples that know nothing of the prompts, cut to their length."""
    if not isinstance(samples, Texts):
        return []
    return [
        Completion(prompt.given, prompt.real, text[: len(prompt.real)])
        for prompt, text in zip(prompts, samples.passages, strict=False)
    ]


COMPLETE: Mapping[str, Callable[[Sequence[Prompt], Samples], list[Completion]]] = {
    "oracle": truth,
    "noise": heedless,
}
"""How the controls that show the floor and the worst value answer prompts."""


def _own(split: Split) -> Callable[[Dataset, int, torch.Generator], Tensor | None]:
    """The classes of the items that a replay of the split samples."""

    def classes(dataset: Dataset, n: int, rng: torch.Generator) -> Tensor | None:
        labels = dataset.labels(split)
        return None if labels is None else labels[torch.randperm(len(labels), generator=rng)[:n]]

    return classes


ASKED: Mapping[str, Callable[[Dataset, int, torch.Generator], Tensor | None]] = {
    "oracle": _own("held_out"),
    "copycat": _own("train"),
    "noise": _own("train"),
}
"""Of which class the samples of controls are, or were to be: those that are drawn with the same `rng`."""


@dataclass(frozen=True)
class Contest:
    """Features that a control sets against each other: see `Evidence`."""

    reference: Tensor
    generated: Tensor
    train: Tensor
    known: Tensor
    fresh: Tensor


class FeatureControl(Protocol):
    def __call__(self, reference: Tensor, train: Tensor, held_out: Tensor, *, rng: torch.Generator) -> Contest:
        """A control from features of the reference items, the training and the held-out split, each [., d]."""
        ...


def halves(reference: Tensor, train: Tensor, held_out: Tensor, *, rng: torch.Generator) -> Contest:
    """Half of the training split as samples, the other half as the reference."""
    first, second = _halved(train, rng)
    return Contest(first[: len(reference)], second[: len(reference)], first, first, held_out)


def dropped_mode(reference: Tensor, train: Tensor, held_out: Tensor, *, rng: torch.Generator) -> Contest:
    """As `halves`, but no sample is of the largest of ten clusters; others take their place."""
    from sklearn.cluster import KMeans

    first, second = _halved(train, rng)
    seed = int(torch.randint(2**31, (), generator=rng))
    clusters = KMeans(N_MODES, n_init=1, random_state=seed).fit(reference.numpy())
    largest = np.bincount(clusters.labels_).argmax()
    kept = second[torch.from_numpy(clusters.predict(second.numpy()) != largest)]
    return Contest(first[: len(reference)], kept[: len(reference)], first, first, held_out)


def _halved(train: Tensor, rng: torch.Generator) -> tuple[Tensor, ...]:
    return train[torch.randperm(len(train), generator=rng)].tensor_split(2)


def gaussian(reference: Tensor, train: Tensor, held_out: Tensor, *, rng: torch.Generator) -> Contest:
    """Draws from the normal law with the mean and the covariance of the reference."""
    dim = reference.shape[1]
    values, vectors = torch.linalg.eigh(torch.cov(reference.T).reshape(dim, dim))
    root = vectors * values.clamp(min=0).sqrt()
    noise = torch.randn(len(held_out), dim, generator=rng, dtype=reference.dtype)
    return Contest(reference, reference.mean(0) + noise @ root.T, train, train, held_out)


def stand_in(train: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(known, fresh): part of the training split stands in for held-out items where these are the samples."""
    order = torch.randperm(len(train), generator=rng)
    n = min(n, len(train) // 2)
    return train[order[n:]], train[order[:n]]


N_MODES = 10

FROM_FEATURES: Mapping[str, FeatureControl] = dict(
    zip(FEATURE_CONTROLS, (halves, dropped_mode, gaussian), strict=True)
)


def _replay(dataset: Dataset, split: Split) -> Generator:
    return Replay(dataset.real(split), dataset.spec.modality)
