"""Stacked digits (Metz et al. 2017): images whose 1,000 modes can be counted."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aigc_lab.data.images import ImageData
from aigc_lab.data.samples import Images
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.data.splits import content_hash
from aigc_lab.data.stream import fold
from aigc_lab.types import NonNegativeInt, PositiveInt

CHANNELS = 3
_SPLITS: dict[Split, int] = {"train": 0, "held_out": 1}


@dataclass(kw_only=True)
class StackedImages:
    """Random triples of grey images, each in a colour channel; the class of an item is its triple of classes.

    Only the triples are kept: an item is put together when it is asked for.

    Args:
        images: the grey images; a split's triples are drawn, with replacement, from the same split of theirs.
        batch_size: items in one optimisation batch, over all processes.
        n_train, n_held_out: items in each split.
        seed: of the triples; the run's seed does not move the data.
    """

    images: ImageData
    batch_size: PositiveInt
    n_train: PositiveInt
    n_held_out: PositiveInt
    seed: NonNegativeInt

    @cached_property
    def spec(self) -> DataSpec:
        """What models must know; reads the data.

        Raises:
            ValueError: the images are not grey.
        """
        of = self.images.spec
        channels, *sides = of.shape
        if channels != 1:
            raise ValueError(f"images: {of.name} has {channels} channels; only grey images can be stacked")
        return DataSpec(
            name=f"stacked {of.name}",
            modality="image",
            shape=(CHANNELS, *sides),
            vocab_size=of.vocab_size,
            tokenizer=None,
            passage=0,
            n_classes=of.n_classes**CHANNELS,
            n_train=self.n_train,
            n_held_out=self.n_held_out,
            content_hash=content_hash(of.content_hash, *self._triples.values()),
        )

    @cached_property
    def _triples(self) -> dict[Split, Tensor]:
        """Which image stands in each channel: int64 [n, 3] of each split."""
        sizes = {"train": (self.images.n_items, self.n_train)}
        sizes |= {"held_out": (self.images.n_held_out_items, self.n_held_out)}
        return {
            split: torch.randint(
                sizes[split][0],
                (sizes[split][1], CHANNELS),
                generator=torch.Generator().manual_seed(fold(self.seed, key)),
            )
            for split, key in _SPLITS.items()
        }

    def real(self, split: Split) -> Images:
        """All items of a split, put together anew at each call."""
        triples = self._triples[split]
        return Images(self.images.real(split).pixels[triples].squeeze(2), self.spec.vocab_size)

    def labels(self, split: Split) -> Tensor:
        """The triples of classes as one number in 0 .. K³-1, int64 [n]."""
        classes = self.images.labels(split)[self._triples[split]]
        return (classes * self.images.spec.n_classes ** torch.arange(CHANNELS - 1, -1, -1)).sum(1)

    likelihood_items = real

    @property
    def n_items(self) -> int:
        return self.n_train

    def gather(self, epoch: Tensor, item: Tensor) -> Tensor:
        """Training items: uint8 [b, 3, H, W]."""
        return self._stacked("train", item)

    @property
    def n_held_out_items(self) -> int:
        return self.n_held_out

    def gather_held_out(self, item: Tensor) -> Tensor:
        """Held-out items: uint8 [b, 3, H, W]."""
        return self._stacked("held_out", item)

    def _stacked(self, split: Split, item: Tensor) -> Tensor:
        return self.images.real(split).pixels[self._triples[split][item]].squeeze(2)
