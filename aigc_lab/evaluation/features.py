"""Feature extractors: what turns images and texts into the vectors that metrics compare.

An extractor is configured without data, fitted once to a training split, and then a pure function with a
content hash that stands in every score. All work offline.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors.torch
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.data.splits import content_hash
from aigc_lab.data.stream import items
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.nets.conv import Conv
from aigc_lab.objectives.likelihoods import to_unit
from aigc_lab.types import NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Features:
    """A fitted extractor.

    Attributes:
        name: what it is, for tables.
        content_hash: of everything that determines its output.
        extract: samples -> float64 [n, d].
        classify: features -> class probabilities [n, K]; None where the extractor knows no classes.
    """

    name: str
    content_hash: str
    extract: Callable[[Samples], Tensor]
    classify: Callable[[Tensor], Tensor] | None = None

    def __call__(self, samples: Samples) -> Tensor:
        """Features of the samples, float64 [n, d]."""
        return self.extract(samples)


class Extractor(Protocol):
    def fit(self, dataset: Dataset, cache_dir: Path) -> Features: ...


@dataclass(frozen=True, kw_only=True)
class ImageClassifier:
    """The penultimate layer of a small classifier, trained on the training split's own labels.

    Args:
        width: channels of its convolutions at full resolution.
        dim: size of the features.
        steps, batch_size, lr: of its training.
        seed: of its initialisation and batches.
    """

    width: PositiveInt
    dim: PositiveInt
    steps: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    seed: NonNegativeInt

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Train it, or read it from the cache.

        Raises:
            UserError: the data has fewer than two classes.
        """
        spec, labels = dataset.spec, dataset.labels("train")
        if labels is None or spec.n_classes < 2:
            raise UserError(f"evaluation.features: {spec.name} has no classes to train a classifier on")
        torch.manual_seed(self.seed)
        network = _Classifier(
            Conv(width=self.width, max_width=4 * self.width), spec.shape, self.dim, spec.n_classes
        )
        key = content_hash(spec.content_hash, repr(sorted(asdict(self).items())), _VERSION)
        cached = cache_dir / "features" / f"classifier-{key[:16]}.safetensors"
        if cached.is_file():
            network.load_state_dict(safetensors.torch.load_file(cached))
        else:
            self._train(network, dataset, labels)
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cached, safetensors.torch.save(network.state_dict()))
        digest = _hash_of(network)
        head = network.head.double()

        @torch.inference_mode()
        def classify(points: Tensor) -> Tensor:
            return head(points).softmax(-1)

        return Features(f"classifier{self.dim}", digest, _image_features(network.features), classify)

    def _train(self, network: "_Classifier", dataset: Dataset, labels: Tensor) -> None:
        images = dataset.real("train")
        assert isinstance(images, Images)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=self.steps)
        for step in range(self.steps):
            _, index = items(self.seed, step * self.batch_size, self.batch_size, len(images))
            logits = network(to_unit(images.pixels[index], images.levels))
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[index]).backward()
            optimizer.step()
            schedule.step()


_VERSION = "1"
"""Of the training procedure above: raise it when that changes, and cached classifiers are trained anew."""


class _Classifier(nn.Module):
    def __init__(self, architecture: Conv, shape: tuple[int, ...], dim: int, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(architecture.encoder(shape, dim), nn.LeakyReLU(0.2))
        self.head = nn.Linear(dim, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


@dataclass(frozen=True, kw_only=True)
class RandomConvolutions:
    """A convolutional network with fixed random weights: for images without labels.

    Args:
        width: channels at full resolution.
        dim: size of the features.
        seed: of the weights.
    """

    width: PositiveInt
    dim: PositiveInt
    seed: NonNegativeInt

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Draw the weights; nothing is learned."""
        torch.manual_seed(self.seed)
        network = Conv(width=self.width, max_width=4 * self.width).encoder(dataset.spec.shape, self.dim)
        return Features(f"random-conv{self.dim}", _hash_of(network), _image_features(network))


@dataclass(frozen=True, kw_only=True)
class HashedNgrams:
    """Latent semantic analysis of byte n-grams: square roots of their frequencies, hashed into buckets, on the
    leading singular vectors of the training split.

    The square root keeps frequent n-grams from drowning the rest (distances are Hellinger's). The singular
    vectors are those along which real passages vary; random directions, measured on the controls, hardly
    told a trigram model's babble from text.

    Args:
        lengths: of the n-grams, in bytes; each has the same weight.
        buckets: of the hash.
        dim: number of singular vectors.
        fit_on: training passages to compute them from, at most.
        seed: of the choice of these and of the randomised decomposition.
    """

    lengths: list[PositiveInt]
    buckets: PositiveInt
    dim: PositiveInt
    fit_on: PositiveInt
    seed: NonNegativeInt

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Compute the singular vectors (seconds; not cached)."""
        from sklearn.decomposition import TruncatedSVD

        train = dataset.real("train")
        assert isinstance(train, Texts)
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))[: self.fit_on]
        basis = TruncatedSVD(self.dim, random_state=self.seed).fit(self.frequencies(train[chosen].passages).sqrt())

        def extract(samples: Samples) -> Tensor:
            assert isinstance(samples, Texts)
            return torch.from_numpy(basis.transform(self.frequencies(samples.passages).sqrt()))

        name = f"{','.join(map(str, self.lengths))}-grams{self.dim}"
        return Features(name, content_hash(torch.from_numpy(basis.components_), repr(self)), extract)

    def frequencies(self, passages: list[bytes]) -> csr_array:
        """Share of each bucket in each passage, sparse [n, buckets]; rows sum to 1."""
        symbols = np.frombuffer(b"".join(passages), dtype=np.uint8).astype(np.uint64)
        row = np.repeat(np.arange(len(passages)), [len(p) for p in passages])
        total = csr_array((len(passages), self.buckets))
        code = np.zeros(len(symbols), dtype=np.uint64)
        for n in range(1, max(self.lengths) + 1):
            # code of the n bytes that begin at each place; multiplied out, then mixed (Fibonacci hashing)
            code = code[: len(symbols) - n + 1] * np.uint64(257) + symbols[n - 1 :] + np.uint64(n)
            if n in self.lengths:
                inside = row[: len(code)] == row[n - 1 :]  # not across the end of a passage
                bucket = ((code[inside] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) % np.uint64(
                    self.buckets
                )
                place = (row[: len(code)][inside], bucket.astype(np.int64))
                counts = csr_array((np.ones(len(bucket)), place), shape=total.shape)
                total += counts.multiply(1 / np.maximum(1, counts.sum(1))[:, None]).tocsr()
        return total / len(self.lengths)


def _image_features(network: nn.Module) -> Callable[[Samples], Tensor]:
    network.eval()

    @torch.inference_mode()
    def extract(samples: Samples) -> Tensor:
        assert isinstance(samples, Images)
        batches = samples.pixels.split(500)
        return torch.cat([network(to_unit(pixels, samples.levels)) for pixels in batches]).double()

    return extract


def _hash_of(network: nn.Module) -> str:
    return content_hash(*network.state_dict().values(), type(network).__name__)
