"""What is looked at, and what is seen."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from aigc_lab.any_order import AnyOrder
from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data import Dataset
from aigc_lab.data.samples import Images, LabelledImages
from aigc_lab.data.spec import Split
from aigc_lab.data.stream import fold
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features import ImageClassifier
from aigc_lab.generators import Autoregressive, NeuralGenerator
from aigc_lab.looking import LOOKS, SAMPLES, Look
from aigc_lab.looking.eyes import network_of
from aigc_lab.looking.latents import Explains, LatentModel, Reconstructs, latent_model
from aigc_lab.pictures import sheet
from aigc_lab.quantised import Quantised

COLUMNS = 16


@dataclass(frozen=True)
class View:
    """A picture, a line that says what it shows, and the frames of an animation where there is one."""

    picture: Image.Image
    caption: str
    frames: Sequence[Image.Image] = ()


@dataclass(frozen=True)
class Scene:
    """A generator of images, and its data when it is needed.

    Attributes:
        data: the configuration of its data set.
        cache_dir: where trained classifiers are kept.
        n: how many images, or rows, or walks.
        seed: of everything that is drawn.
    """

    generator: NeuralGenerator
    data: Mapping[str, Any]
    cache_dir: Path
    n: int
    seed: int

    def rng(self, *purpose: int) -> torch.Generator:
        """Random numbers on the CPU: those of `aigc sample --seed`, or others for each further purpose."""
        return torch.Generator().manual_seed(fold(self.seed, *purpose) if purpose else self.seed)

    @cached_property
    def dataset(self) -> Dataset:
        """
        Raises:
            UserError: it is not there, or not what the run was trained on.
        """
        dataset: Dataset = build(self.data, path="data", supplied={"cache_dir": self.cache_dir})
        if dataset.spec.content_hash != self.generator.spec.content_hash:
            raise UserError(
                f"data: {dataset.spec.name} is not what the run was trained on (content hash "
                f"{self.generator.spec.content_hash[:12]}, now {dataset.spec.content_hash[:12]})"
            )
        return dataset

    def real(self, split: Split) -> Images:
        """All images of a split."""
        images = self.dataset.real(split)
        assert isinstance(images, Images)
        return images

    def labelled(self, split: Split) -> LabelledImages:
        """All images of a split and their classes.

        Raises:
            UserError: they have none.
        """
        labels = self.dataset.labels(split)
        if labels is None or self.dataset.spec.n_classes < 2:
            raise UserError(f"data: {self.dataset.spec.name} has no classes")
        return LabelledImages(self.real(split).pixels, labels)

    def held_out(self) -> tuple[Images, Tensor | None]:
        """n held-out images, or all where there are fewer, drawn by the seed; and their classes, int64 [n], for a
        generator that takes them."""
        images = self.real("held_out")
        chosen = torch.randperm(len(images), generator=self.rng(1))[: self.n]
        return images[chosen], self.labelled("held_out").labels[chosen] if self.generator.takes_classes else None

    @cached_property
    def classifier(self) -> ImageClassifier:
        """The one by whose features an evaluation compares labelled images; it may not be trained yet."""
        features = Composer().evaluate([]).evaluation.features["image"]
        built = build(features, path="evaluation.features.image")
        assert isinstance(built, ImageClassifier)
        return built

    @property
    def latents(self) -> LatentModel:
        """With a row of each class in turn where it takes classes."""
        spec = self.generator.spec
        classes = torch.arange(self.n) % spec.n_classes if self.generator.takes_classes else None
        found = latent_model(self.generator, classes)
        assert found is not None, "refused by `check`"
        return found


def beside(rows: Sequence[Images]) -> Image.Image:
    """Rows of equally many images below each other, in blocks of 16 columns; white where the last one has none."""
    levels, n = rows[0].levels, len(rows[0])
    columns = min(n, COLUMNS)
    blank = torch.full_like(rows[0].pixels[:1], levels - 1).expand(-n % columns, -1, -1, -1)
    filled = [torch.cat([row.pixels, blank]) for row in rows]
    blocks = [row[i : i + columns] for i in range(0, n, columns) for row in filled]
    return sheet(Images(torch.cat(blocks), levels), columns=columns)


def able(generator: NeuralGenerator) -> str:
    """The names of the looks that it has all for, and of those that an option makes up for what it lacks."""
    names = [SAMPLES]
    for name, look in LOOKS.items():
        lacking = _lacking(generator, look)
        if not lacking:
            names.append(name)
        elif lacking == look.needs and look.instead:
            names.append(f"{name} with --{look.instead}")
    return ", ".join(names)


def look(name: str, scene: Scene, **options: Any) -> View:
    """Look at a generator.

    Raises:
        UserError: it has not what this needs, or an option is wrong.
    """
    lacking, kind = _lacking(scene.generator, LOOKS[name]), type(scene.generator).__name__
    made_up = lacking == LOOKS[name].needs and options.get(LOOKS[name].instead) is not None
    if lacking and not made_up:
        raise UserError(f"--what {name}: {kind} has no {lacking} here; for this run: {able(scene.generator)}")
    module, _, function = LOOKS[name].function.rpartition(".")
    return getattr(importlib.import_module(f"{__package__}.{module}"), function)(scene, **options)


def _lacking(generator: NeuralGenerator, look: Look) -> str:
    """What it needs and the generator has not; "" where there is nothing."""
    return next((need for need in ("images", look.needs) if not ABILITIES[need](generator)), "")


def _has_images(generator: NeuralGenerator) -> bool:
    return generator.modality == "image"


def _latents_add_up(generator: NeuralGenerator) -> bool:
    model = latent_model(generator)
    return model is not None and model.adds


def _reconstructs(generator: NeuralGenerator) -> bool:
    return latent_model(generator) is not None or isinstance(generator, Reconstructs)


def _completes(generator: NeuralGenerator) -> bool:
    """Colours come one after the other: the upper half of three planes is not the beginning of their symbols."""
    if isinstance(generator, Quantised):
        return generator.prior is not None and generator.grid[0] > 1
    if isinstance(generator, Autoregressive | AnyOrder):
        return generator.spec.shape[0] == 1
    return isinstance(latent_model(generator), Explains)


def _sees(generator: NeuralGenerator) -> bool:
    """With its own network, or a classifier of its data."""
    return network_of(generator) is not None or generator.spec.n_classes > 1


ABILITIES: Mapping[str, Callable[[NeuralGenerator], bool]] = {
    "images": _has_images,
    "latents": lambda generator: latent_model(generator) is not None,
    "latents that add up": _latents_add_up,
    "reconstruction": _reconstructs,
    "classes": lambda generator: generator.takes_classes,
    "completion": _completes,
    "network to see with": _sees,
}
"""What a look can need of a generator of images, in the words in which it is refused."""
