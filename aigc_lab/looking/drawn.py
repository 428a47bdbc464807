"""Samples: as they were logged, by class, and beside what the generator has seen."""

import torch
from torch import Tensor

from aigc_lab.data.samples import Images
from aigc_lab.errors import UserError
from aigc_lab.evaluation.metrics import nearest_neighbours
from aigc_lab.looking.scene import COLUMNS, Scene, View, beside
from aigc_lab.pictures import sheet

MANY = 20
"""Classes that are shown where none are named."""


def grid(scene: Scene) -> View:
    """n samples of the seed's noise: what `aigc_lab.callbacks.LogSamples` logs, of the final weights."""
    return View(sheet(_sampled(scene), columns=min(scene.n, COLUMNS)), f"{scene.n} samples of seed {scene.seed}")


def classes(scene: Scene, *, classes: tuple[int, ...] | None = None) -> View:
    """A row of n samples for each class, of all or the ones that are named.

    Raises:
        UserError: there is no such class.
    """
    n_classes = scene.generator.spec.n_classes
    chosen = tuple(range(min(n_classes, MANY))) if classes is None else classes
    if wrong := [c for c in chosen if not 0 <= c < n_classes]:
        raise UserError(f"--classes {wrong[0]}: the classes are 0 to {n_classes - 1}")
    asked = torch.tensor(chosen).repeat_interleave(scene.n)
    images = scene.generator.sample_classes(asked, rng=scene.rng())
    assert isinstance(images, Images)
    return View(sheet(images, columns=scene.n), f"a row for each class: {', '.join(map(str, chosen))}")


def neighbours(scene: Scene) -> View:
    """n samples above the training images that are nearest to them in pixels, and below these the nearest in the
    features of the evaluation's classifier, where it has been trained already.

    The caption counts exact copies, and compares the distances of samples with those of held-out images, which a
    generator that only remembers falls short of.
    """
    samples, train = _sampled(scene), scene.real("train")
    points, known = _flat(samples), _flat(train)
    index, distance = nearest_neighbours(known, points)
    rows, also = [samples, train[index]], ""
    if scene.classifier.cached(scene.dataset.spec, scene.cache_dir).is_file():
        trained = scene.classifier.fit(scene.dataset, scene.cache_dir)
        rows.append(train[nearest_neighbours(trained(train), trained(samples))[0]])
        also = ", and in a classifier's features"
    fresh = nearest_neighbours(known, _flat(scene.real("held_out")))[1]
    medians = f"{float(distance.median()):.3g}, of held-out images {float(fresh.median()):.3g}"
    caption = (
        f"samples above the nearest training images in pixels{also}; {int((distance == 0).sum())} of "
        f"{len(samples)} are copies; median distance {medians}"
    )
    return View(beside(rows), caption)


def _sampled(scene: Scene) -> Images:
    images = scene.generator.sample(scene.n, rng=scene.rng())
    assert isinstance(images, Images)
    return images


def _flat(images: Images) -> Tensor:
    """Pixels in [0, 1], [n, d]."""
    return images.pixels.flatten(1).double() / (images.levels - 1)
