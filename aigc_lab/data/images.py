"""Image data sets, held in memory as uint8 levels [n, channels, height, width]."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data.samples import Images, LabelledImages
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.data.splits import by_hash, content_hash
from aigc_lab.errors import UserError
from aigc_lab.types import Fraction, ImageSize, Levels, PositiveInt

if TYPE_CHECKING:
    from PIL.Image import Image


class RawImages(NamedTuple):
    """What a source delivers: both splits, and the number of levels its pixels can take."""

    name: str
    train: LabelledImages
    held_out: LabelledImages
    levels: int


@dataclass(kw_only=True)
class ImageData(ABC):
    """A source of images, read on first use.

    Args:
        batch_size: images in one optimisation batch, over all processes.
        levels: quantise the pixels to this many values (2: binary); null keeps the source's own.
    """

    batch_size: PositiveInt
    levels: Levels | None

    @abstractmethod
    def _read(self) -> RawImages: ...

    @cached_property
    def _splits(self) -> RawImages:
        raw = self._read()
        levels = raw.levels if self.levels is None else self.levels
        if levels == raw.levels:
            return raw
        if levels > raw.levels:
            raise UserError(f"data.levels={self.levels}: the pixels of {raw.name} take {raw.levels} values only")

        def quantise(split: LabelledImages) -> LabelledImages:
            pixels = split.pixels.int() * levels // raw.levels
            return LabelledImages(pixels.to(torch.uint8), split.labels)

        return RawImages(raw.name, quantise(raw.train), quantise(raw.held_out), levels)

    @cached_property
    def spec(self) -> DataSpec:
        """What models must know; reads the data."""
        _, train, held_out, levels = self._splits
        n_classes = int(torch.cat([train.labels, held_out.labels]).max()) + 1
        return DataSpec(
            name=self._splits.name,
            modality="image",
            shape=tuple(train.pixels.shape[1:]),
            vocab_size=levels,
            tokenizer=None,
            passage=0,
            n_classes=n_classes,
            n_train=len(train.pixels),
            n_held_out=len(held_out.pixels),
            content_hash=content_hash(*train, *held_out, f"{tuple(train.pixels.shape)} {levels}"),
            class_counts=tuple(train.labels.bincount(minlength=n_classes).tolist()),
        )

    def real(self, split: Split) -> Images:
        """All images of a split."""
        return Images(self._of(split).pixels, self._splits.levels)

    def labels(self, split: Split) -> Tensor:
        """Their classes, int64 [n]."""
        return self._of(split).labels

    def intensities(self) -> tuple[Tensor, Tensor]:
        """The pixels of both splits, train and held-out, in [0, 1]: float32 [n, C, H, W]."""
        scale = self._splits.levels - 1
        return self._splits.train.pixels / scale, self._splits.held_out.pixels / scale

    likelihood_items = real
    """What likelihoods are measured on: the images themselves."""

    @property
    def n_items(self) -> int:
        return self.spec.n_train

    def gather(self, epoch: Tensor, item: Tensor) -> Tensor:
        """Training images: uint8 [b, C, H, W]."""
        return self._splits.train.pixels[item]

    def gather_labelled(self, epoch: Tensor, item: Tensor) -> LabelledImages:
        """Training images and their classes."""
        return LabelledImages(*(part[item] for part in self._splits.train))

    @property
    def n_held_out_items(self) -> int:
        return self.spec.n_held_out

    def gather_held_out(self, item: Tensor) -> Tensor:
        """Held-out images: uint8 [b, C, H, W]."""
        return self._splits.held_out.pixels[item]

    def gather_held_out_labelled(self, item: Tensor) -> LabelledImages:
        """Held-out images and their classes."""
        return LabelledImages(*(part[item] for part in self._splits.held_out))

    def _of(self, split: Split) -> LabelledImages:
        return self._splits.train if split == "train" else self._splits.held_out


@dataclass(kw_only=True)
class Digits(ImageData):
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels and 17 levels (UCI; embedded, no download)."""

    held_out: Fraction

    def _read(self) -> RawImages:
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = torch.from_numpy(digits.images.astype(np.uint8)).unsqueeze(1)
        return _split("digits", pixels, torch.from_numpy(digits.target).long(), self.held_out, levels=17)


@dataclass(kw_only=True)
class TorchvisionImages(ImageData):
    """A data set of torchvision, with its own test split held out.

    Args:
        dataset: torchvision's name.
        root: folder that holds `MNIST/raw`, `FashionMNIST/raw` or `cifar-10-batches-py`.
        download: fetch it when it is not there.
    """

    dataset: Literal["MNIST", "FashionMNIST", "CIFAR10"]
    root: str
    download: bool

    def _read(self) -> RawImages:
        from torchvision import datasets

        source = getattr(datasets, self.dataset)
        try:
            train, held_out = (source(self.root, train=t, download=self.download) for t in (True, False))
        except RuntimeError as error:
            if self.download:
                raise UserError(f"data: cannot download {self.dataset} to {self.root}: {error}") from None
            raise UserError(
                f"data: {self.dataset} is not complete in {self.root}; name its folder with AIGC_DATA or "
                "paths.data_dir, or fetch it with data.download=true"
            ) from None
        except OSError as error:
            raise UserError(f"data: cannot read or fetch {self.dataset} in {self.root}: {error}") from None
        first, second = (_labelled(split.data, split.targets) for split in (train, held_out))
        return RawImages(self.dataset, first, second, levels=256)


@dataclass(kw_only=True)
class ImageFolder(ImageData):
    """Every image below a folder; with subfolders, each is a class. Read once, resized, kept in memory.

    Args:
        path: the folder.
        size: side of the square that images are resized (antialiased) and centre-cropped to.
        channels: 1 for grey, 3 for colour.
    """

    path: str
    size: ImageSize
    channels: Literal[1, 3]
    held_out: Fraction

    def _read(self) -> RawImages:
        from PIL import Image

        folder, extensions = Path(self.path), Image.registered_extensions()
        if not folder.is_dir():
            raise UserError(f"data.path={self.path}: no such folder")
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in extensions and p.is_file())
        if len(paths) < 2:
            raise UserError(f"data.path={self.path}: {len(paths)} images found; at least 2 are needed")
        classes = {name: i for i, name in enumerate(sorted({p.parent for p in paths}))}
        pixels = torch.stack([self._load(path) for path in paths])
        labels = torch.tensor([classes[path.parent] for path in paths])
        return _split(folder.name, pixels, labels, self.held_out, levels=256)

    def _load(self, path: Path) -> Tensor:
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(_eight_bits(image)).convert("L" if self.channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"data: cannot read the image {path}: {error}") from None
        square = ImageOps.fit(upright, (self.size, self.size), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(square)).view(self.size, self.size, -1).permute(2, 0, 1).contiguous()


def _eight_bits(image: "Image") -> "Image":
    """Grey levels of 16 bits as 8; Pillow's own conversion cuts them off at 255.

    Raises:
        ValueError: its numbers are no levels of 16 bits.
    """
    from PIL.Image import fromarray

    if not image.mode.startswith(("I", "F")):
        return image
    levels = np.asarray(image)
    if image.mode == "F" or levels.min() < 0 or levels.max() >= 1 << 16:
        raise ValueError("its pixels are neither of 8 nor of 16 bits; save it as one of them")
    return fromarray((levels.astype(np.uint32) * 255 + 32767) // 65535).convert("L")


def _split(name: str, pixels: Tensor, labels: Tensor, held_out: float, *, levels: int) -> RawImages:
    """Hold out the same share of every class, and at least one image, chosen by the hash of their content.

    An unstratified split of a small data set has classes out of proportion, and the distance of real data
    from real data, the floor of every comparison, then varies by half its value.
    """
    order = torch.tensor(by_hash([image.tobytes() for image in pixels.numpy()]))
    chosen = torch.zeros(len(order), dtype=torch.bool)
    for label in labels.unique():
        members = order[labels[order] == label]
        chosen[members[: round(held_out * len(members))]] = True
    if not chosen.any():
        chosen[order[0]] = True
    if chosen.all():
        raise UserError(f"data.held_out={held_out}: leaves none of the {len(order)} images of {name} to train on")
    return RawImages(
        name,
        LabelledImages(pixels[~chosen], labels[~chosen]),
        LabelledImages(pixels[chosen], labels[chosen]),
        levels,
    )


def _labelled(pixels: Tensor | np.ndarray, labels: Tensor | list[int]) -> LabelledImages:
    """torchvision's arrays, [n, H, W] or [n, H, W, C], as [n, C, H, W]."""
    images = torch.as_tensor(pixels)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.as_tensor(labels).long())
