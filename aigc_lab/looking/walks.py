"""Walks among latents."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from aigc_lab.data.samples import Images, join
from aigc_lab.errors import UserError
from aigc_lab.looking.latents import Encodes, pictures
from aigc_lab.looking.scene import Scene, View
from aigc_lab.pictures import sheet

STEPS = 9
"""Images of a walk in the picture; the animation has `FRAMES` from one end to the other."""
FRAMES = 24
PSI = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
EXEMPLARS = 3
"""Images whose latents stand for a class: DCGAN's three (Radford et al. 2016, figure 7)."""


def interpolate(scene: Scene) -> View:
    """n walks from one latent to another: on the sphere where they are normal (White 2016), straight where they
    are uniform. The animation goes there and back."""
    model = scene.latents
    begin, end = model.draw(2 * scene.n, scene.rng()).chunk(2)

    def at(t: float) -> Images:
        return pictures(model, model.law.walk(begin, end, t))

    walk = [at(i / (STEPS - 1)) for i in range(STEPS)]
    rows = Images(torch.stack([images.pixels for images in walk], 1).flatten(0, 1), model.levels)
    there = [sheet(at(i / FRAMES), columns=math.ceil(scene.n**0.5)) for i in range(FRAMES + 1)]
    caption = f"each row: {STEPS} steps from one latent to another ({model.law.walk.__name__})"
    return View(sheet(rows, columns=STEPS), caption, [*there, *there[-2:0:-1]])


def truncate(scene: Scene) -> View:
    """The same n latents psi z, a row for each psi: scaled towards their mean, which is 0 (Karras et al. 2019,
    section 2.1 of its appendix, for latents instead of their styles). Less variety, and often better pictures."""
    model = scene.latents
    z = model.draw(scene.n, scene.rng())
    rows = [pictures(model, psi * z) for psi in PSI]
    joined = join(rows)
    assert isinstance(joined, Images)
    frames = [sheet(row, columns=math.ceil(scene.n**0.5)) for row in rows]
    caption = f"a row for each psi: {', '.join(f'{psi:g}' for psi in PSI)}"
    return View(sheet(joined, columns=scene.n), caption, [*frames, *frames[-2:0:-1]])


def arithmetic(scene: Scene, *, classes: tuple[int, ...] | None = None) -> View:
    """n rows of A, B, C and A - B + C. With an encoder the three are the means of the latents of a few training
    images of each of three classes, others in every row; without one, or without so many classes, they are latents
    as they are drawn.

    Raises:
        UserError: the classes do not fit.
    """
    model, told = scene.latents, scene.generator.takes_classes
    known = _known(scene) if isinstance(model, Encodes) and not told else []
    if isinstance(model, Encodes) and not told and (classes is not None or len(known) >= 3):
        chosen = _three(known[:3] if classes is None else classes, known)
        means = [_mean_latents(scene, model, c, i) for i, c in enumerate(chosen)]
        caption = "each row: means of {} training images of {}, {} and {}, and A - B + C".format(
            EXEMPLARS, *chosen
        )
    elif classes is None:
        means = list(model.draw(3 * scene.n, scene.rng()).chunk(3))
        caption = "each row: A, B, C and A - B + C of latents as they are drawn"
    else:
        why = (
            "this run is told the class, and its latents do not know it"
            if told
            else "without an encoder, nobody knows the latents of a class"
        )
        raise UserError(f"--classes: {why}; leave it out")
    a, b, c = means
    shown = [pictures(model, z).pixels for z in (a, b, c, a - b + c)]
    return View(sheet(Images(torch.stack(shown, 1).flatten(0, 1), model.levels), columns=4), caption)


def _known(scene: Scene) -> list[int]:
    """Classes that have training images; none where all images are of one."""
    labels = scene.dataset.labels("train")
    known = [] if labels is None else labels.unique().tolist()
    return known if len(known) > 1 else []


def _three(chosen: Sequence[int], known: Sequence[int]) -> Sequence[int]:
    """
    Raises:
        UserError: they are not three of those that have training images.
    """
    given = ",".join(map(str, chosen))
    if not known:
        raise UserError(f"--classes {given}: the data of this run has no classes; leave it out")
    if len(chosen) != 3 or not set(chosen) <= set(range(known[-1] + 1)):
        raise UserError(f"--classes {given}: give three of the classes 0 to {known[-1]}, A,B,C for A - B + C")
    if empty := set(chosen) - set(known):
        raise UserError(f"--classes {given}: there are no training images of {min(empty)}")
    return chosen


@torch.inference_mode()
def _mean_latents(scene: Scene, model: Encodes, label: int, place: int) -> Tensor:
    """n means over exemplars of a class, [n, d]; A and B are others even where they are of one class."""
    pixels, labels = scene.labelled("train")
    members = (labels == label).nonzero().flatten()
    chosen = members[torch.randint(len(members), (scene.n * EXEMPLARS,), generator=scene.rng(2, place))]
    z = model.encode(pixels[chosen].to(scene.generator.device))
    return z.view(scene.n, EXEMPLARS, -1).mean(1)
