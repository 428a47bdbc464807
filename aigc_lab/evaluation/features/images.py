"""Images as pixels, as fixed random convolutions of them, or as a classifier of their own labels sees them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Images, Samples
from aigc_lab.data.spec import DataSpec
from aigc_lab.data.splits import content_hash
from aigc_lab.data.stream import items
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features.base import Features, hash_of, train_once
from aigc_lab.nets.conv import Conv
from aigc_lab.objectives.likelihoods import to_unit
from aigc_lab.types import NonNegativeInt, PositiveFloat, PositiveInt

BATCH = 100
"""Images looked at together: few enough to stay in a processor's cache."""


def resized(images: Images, size: int) -> Tensor:
    """As every pretrained network gets them: uint8 [n, 3, size, size].

    Levels are stretched to 0 .. 255 and rounded, grey is repeated in three channels, sides are interpolated
    linearly with antialiasing (Parmar et al. 2022) and rounded again: what an 8-bit file of that size would hold.
    A picture that is not square is stretched.
    """
    pixels = images.to_uint8().float()
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return pixels.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The pixels themselves in [0, 1], averaged over cells where the image is larger.

    Args:
        size: longest side that is kept; a larger image is resized to a square of it, antialiased, in 8 bits.
    """

    size: PositiveInt

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Nothing is learned."""
        channels, *sides = dataset.spec.shape

        def extract(samples: Samples) -> Tensor:
            assert isinstance(samples, Images)
            if max(sides) <= self.size:
                return samples.pixels.flatten(1).double() / (samples.levels - 1)
            parts = samples.pixels.split(BATCH)
            small = [resized(Images(pixels, samples.levels), self.size)[:, :channels] for pixels in parts]
            return torch.cat(small).flatten(1).double() / 255

        name = f"pixels{channels}x{'x'.join(str(min(side, self.size)) for side in sides)}"
        return Features(name, content_hash(name), extract)


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
        network = self.network(dataset, cache_dir)
        digest = hash_of(network)
        head = network.head.double()

        @torch.inference_mode()
        def classify(points: Tensor) -> Tensor:
            return head(points).softmax(-1)

        return Features(f"classifier{self.dim}", digest, _image_features(network.features), classify)

    def network(self, dataset: Dataset, cache_dir: Path) -> "_Classifier":
        """The network itself, trained or read from the cache: its `features` are what `fit` extracts.

        Raises:
            UserError: the data has fewer than two classes.
        """
        spec, labels = dataset.spec, dataset.labels("train")
        if labels is None or spec.n_classes < 2:
            raise UserError(f"{spec.name} has no classes to train a classifier on")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            architecture = Conv(width=self.width, max_width=4 * self.width)
            network = _fast(_Classifier(architecture, spec.shape, self.dim, spec.n_classes))
        train_once(network, self.cached(spec, cache_dir), lambda: self._train(network, dataset, labels))
        return network

    def cached(self, spec: DataSpec, cache_dir: Path) -> Path:
        """Where it is once it has been trained on this data."""
        key = content_hash(spec.content_hash, repr(sorted(asdict(self).items())), _VERSION)
        return cache_dir / "features" / f"classifier-{key[:16]}.safetensors"

    def _train(self, network: "_Classifier", dataset: Dataset, labels: Tensor) -> None:
        images = dataset.real("train")
        assert isinstance(images, Images)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=self.steps)
        for step in range(self.steps):
            _, index = items(self.seed, step * self.batch_size, self.batch_size, len(images))
            logits = network(_fast(to_unit(images.pixels[index], images.levels)))
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[index]).backward()
            optimizer.step()
            schedule.step()


_VERSION = "3"
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Conv(width=self.width, max_width=4 * self.width).encoder(dataset.spec.shape, self.dim)
        return Features(f"random-conv{self.dim}", hash_of(network), _image_features(_fast(network)))


def _image_features(network: nn.Module) -> Callable[[Samples], Tensor]:
    network.eval()

    @torch.inference_mode()
    def extract(samples: Samples) -> Tensor:
        assert isinstance(samples, Images)
        batches = samples.pixels.split(BATCH)
        return torch.cat([network(_fast(to_unit(pixels, samples.levels))) for pixels in batches]).double()

    return extract


Layout = TypeVar("Layout", bound=nn.Module | Tensor)


def _fast(x: Layout) -> Layout:
    """With the channels last in memory: convolutions of few channels are twice as fast on a CPU."""
    return cast(Layout, x.to(memory_format=torch.channels_last))
