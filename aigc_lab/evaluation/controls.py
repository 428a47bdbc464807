"""Controls: generators whose quality is known, scored by the very code that scores the models.

The oracle shows what perfect samples score, noise what useless ones do, the copycat which metrics are blind
to memorisation, the baseline what hardly any learning buys.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.evaluation.arguments import CONTROL_NAMES
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
        counts = torch.nn.functional.one_hot(train.pixels.long(), train.levels).sum(0).double() + 1
        self.levels, self.log_p = train.levels, (counts / counts.sum(-1, keepdim=True)).log()

    def sample(self, n: int, *, rng: torch.Generator) -> Images:
        cumulative = self.log_p.exp().cumsum(-1)
        draws = torch.rand(n, *self.log_p.shape[:-1], 1, generator=rng, dtype=torch.float64)
        return Images((draws > cumulative).sum(-1).clamp(max=self.levels - 1).to(torch.uint8), self.levels)

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


CONTROLS: Mapping[str, ControlFactory] = dict(zip(CONTROL_NAMES, (oracle, copycat, baseline, noise), strict=True))


def _replay(dataset: Dataset, split: Split) -> Generator:
    return Replay(dataset.real(split), dataset.spec.modality)
