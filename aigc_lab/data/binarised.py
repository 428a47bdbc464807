"""Binary images drawn once from the intensities of grey ones."""

from dataclasses import dataclass
from typing import Literal

import torch

from aigc_lab.data.images import ImageData, RawImages
from aigc_lab.data.samples import LabelledImages
from aigc_lab.data.spec import Split
from aigc_lab.data.stream import fold
from aigc_lab.types import NonNegativeInt

_SPLITS: dict[Split, int] = {"train": 0, "held_out": 1}
_PART = 10_000
"""Images drawn at once: their uniform numbers take four times the room of the pixels."""


@dataclass(kw_only=True)
class Binarised(ImageData):
    """Each pixel is 1 with the probability of its intensity, drawn once and kept (Salakhutdinov & Murray 2008).

    This is the law of the binarised MNIST of Larochelle & Murray (2011), by which likelihoods of MNIST are
    compared; their files are another draw of it. Likelihoods of pixels that are cut at the middle
    (`data.levels=2`), or drawn anew for every batch, do not compare with these.

    Args:
        images: the grey images.
        seed: of the draw; the run's seed does not move the data.
    """

    images: ImageData
    seed: NonNegativeInt
    levels: Literal[2] = 2

    def _read(self) -> RawImages:
        name = f"binarised {self.images.spec.name}"
        return RawImages(name, self._drawn("train"), self._drawn("held_out"), levels=2)

    def _drawn(self, split: Split) -> LabelledImages:
        rng = torch.Generator().manual_seed(fold(self.seed, _SPLITS[split]))
        grey, white = self.images.real(split).pixels, self.images.spec.vocab_size - 1
        parts = [torch.rand(part.shape, generator=rng) * white < part for part in grey.split(_PART)]
        return LabelledImages(torch.cat(parts).to(torch.uint8), self.images.labels(split))
