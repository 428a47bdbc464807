"""Generators that have latents, by what is the same in all: draw z, see z, ask how well z explains an image.

Shapes: B images, d coordinates of z; images [B, C, H, W].
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from aigc_lab.data.samples import Images
from aigc_lab.flow import Flow
from aigc_lab.generators import Implicit, LatentVariable, NeuralGenerator
from aigc_lab.nets.conditional import one_hot
from aigc_lab.objectives.likelihoods import to_levels, to_unit
from aigc_lab.objectives.ode import integrate

NOISE = 0.1
"""Standard deviation, in the unit in which images span [-1, 1], of the noise that a GAN's pictures are taken to be
seen through where a latent is searched: G(z) itself has no density."""

_EDGE = math.sqrt(3)


def lerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """(1 - t) a + t b, [B, d]."""
    return torch.lerp(a, b, t)


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """sin((1-t)ω)/sin ω · a + sin(tω)/sin ω · b, ω the angle between a and b, [B, d] (White 2016, section 2.1).

    Normal latents of many dimensions lie near a sphere, and the middle of a chord far inside it, where the
    generator has never been. Where a and b point in one direction, or opposite ones, it is the chord.
    """
    cosine = torch.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.arccos()
    straight = angle.sin() < 1e-4
    sine = torch.where(straight, 1.0, angle.sin())
    curved = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / sine
    return torch.where(straight, lerp(a, b, t), curved)


@dataclass(frozen=True)
class Law:
    """Of latents: how to walk in it, log p(z) up to a constant [B], and the nearest z that can be drawn."""

    walk: Callable[[Tensor, Tensor, float], Tensor]
    log_density: Callable[[Tensor], Tensor]
    nearest: Callable[[Tensor], Tensor]


LAWS: Mapping[str, Law] = {
    "normal": Law(slerp, lambda z: -z.square().sum(1) / 2, lambda z: z),
    "uniform": Law(lerp, lambda z: torch.zeros(len(z), device=z.device), lambda z: z.clamp(-_EDGE, _EDGE)),
}
"""By the names in `aigc_lab.generators.LATENTS`."""


class LatentModel(Protocol):
    """A generator whose images are pictures of latents of mean 0.

    One that takes classes has been told those of m rows. Of B rows, a multiple of m, row i is of the class of row
    i mod m.
    """

    levels: int
    law: Law
    adds: bool
    """Whether A - B + C of latents is one."""

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """z of its law, [n, d]."""
        ...

    def picture(self, z: Tensor) -> Tensor:
        """What z looks like, [B, C, H, W] in [-1, 1]."""
        ...


@runtime_checkable
class Explains(LatentModel, Protocol):
    """One that knows how well a latent explains an image."""

    def log_visible(self, z: Tensor, pixels: Tensor, visible: Tensor) -> Tensor:
        """log p(visible pixels | z) up to a constant, [B], with a gradient by z. `visible`: bool [1, 1, H, W]."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """One that knows the latent of an image."""

    what: str
    """Its latents, in words."""

    def encode(self, pixels: Tensor) -> Tensor:
        """The latent of each image, or the mean of q(z | x): [B, d]."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """A generator that keeps what it has seen of an image in other things than z (codes)."""

    def reconstruct(self, batch: Images) -> Images:
        """What is left of images behind the bottleneck."""
        ...


class _OfImplicit:
    """A GAN's generator."""

    adds = True

    def __init__(self, generator: Implicit, classes: Tensor | None) -> None:
        self.generator, self.levels = generator, generator.spec.vocab_size
        self.classes = None if classes is None else one_hot(classes, generator.spec.n_classes).to(generator.device)
        self.law = LAWS[generator.latent]

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return self.generator.latents(n, rng)

    def picture(self, z: Tensor) -> Tensor:
        classes = None if self.classes is None else self.classes.repeat(len(z) // len(self.classes), 1)
        return self.generator(z, classes)

    def log_visible(self, z: Tensor, pixels: Tensor, visible: Tensor) -> Tensor:
        error = (self.picture(z) - to_unit(pixels, self.levels)) * visible
        return -error.square().flatten(1).sum(1) / (2 * NOISE**2)


class _OfVariable:
    """A VAE's decoder and encoder. The picture of z is the median of p(x | z), whatever the run emits."""

    adds, what = True, "the encoder's latents"

    def __init__(self, generator: LatentVariable, classes: Tensor | None) -> None:
        self.generator, self.levels, self.classes = generator, generator.spec.vocab_size, classes
        self.law = LAWS["normal"]

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.randn(n, self.generator.latent_dim, generator=rng).to(self.generator.device)

    def picture(self, z: Tensor) -> Tensor:
        return to_unit(self.generator.likelihood.median(self._maps(z), self.levels), self.levels)

    def log_visible(self, z: Tensor, pixels: Tensor, visible: Tensor) -> Tensor:
        # what is hidden is the same for every z: its term is the constant
        maps = torch.where(visible, self._maps(z), 0.0)
        return self.generator.likelihood.log_prob(maps, torch.where(visible, pixels, 0), self.levels)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.generator.encode(pixels, self._classes(pixels))[0]

    def _maps(self, z: Tensor) -> Tensor:
        return self.generator.decode(z, self._classes(z))

    def _classes(self, rows: Tensor) -> Tensor | None:
        return None if self.classes is None else self.classes.repeat(len(rows) // len(self.classes))


class _OfFlow:
    """A flow's noise x_0, which says everything about x_1. It has as many coordinates as the image, and so is all
    but on a sphere, as walks are; a sum of several is far off it."""

    adds, what = False, "the noise that the flow leads back to"

    def __init__(self, generator: Flow, classes: Tensor | None) -> None:
        self.generator, self.levels, self.classes = generator, generator.spec.vocab_size, classes
        self.law = LAWS["normal"]

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.randn(n, *self.generator.spec.shape, generator=rng).to(self.generator.device).flatten(1)

    def picture(self, z: Tensor) -> Tensor:
        return self._follow(z.unflatten(1, self.generator.spec.shape), begin=0.0, end=1.0)

    def encode(self, pixels: Tensor) -> Tensor:
        return self._follow(to_unit(pixels, self.levels), begin=1.0, end=0.0).flatten(1)

    def _follow(self, x: Tensor, *, begin: float, end: float) -> Tensor:
        """In as many steps either way as a sample takes."""
        flow = self.generator
        classes = None if self.classes is None else self.classes.repeat(len(x) // len(self.classes)).to(x.device)
        velocity = partial(flow.velocity, classes=classes)
        return integrate(flow.solver, velocity, x, begin=begin, end=end, n_steps=flow.n_steps)


@singledispatch
def latent_model(generator: NeuralGenerator, classes: Tensor | None = None) -> LatentModel | None:
    """The generator by its latents; None where it has none that say everything about an image.

    Args:
        classes: of each row, int64 [m], where it takes classes.
    """
    return None


@latent_model.register
def _(generator: Implicit, classes: Tensor | None = None) -> LatentModel | None:
    return _OfImplicit(generator, classes)


@latent_model.register
def _(generator: LatentVariable, classes: Tensor | None = None) -> LatentModel | None:
    return _OfVariable(generator, classes)


@latent_model.register
def _(generator: Flow, classes: Tensor | None = None) -> LatentModel | None:
    return _OfFlow(generator, classes)


@torch.inference_mode()
def pictures(model: LatentModel, z: Tensor) -> Images:
    """What latents look like, in levels, on the CPU."""
    return Images(to_levels(model.picture(z), model.levels).to(torch.uint8).cpu(), model.levels)


def search(
    model: Explains,
    pixels: Tensor,
    visible: Tensor,
    *,
    rng: torch.Generator,
    n_starts: int = 8,
    steps: int = 300,
    lr: float = 0.05,
) -> Tensor:
    """argmax_z log p(visible | z) + log p(z) of each image, [B, d]: Adam from several draws of z; the best is
    kept (Yeh et al. 2017, with the law of z in place of their discriminator; Bora et al. 2017).

    Where there is an encoder, one of the starts is what it says.

    Args:
        pixels: levels [B, C, H, W], on the generator's device.
        visible: bool [1, 1, H, W]; what the search sees.
        n_starts, steps, lr: of the search, whose lr falls to 0 along a cosine.
    """
    repeated = pixels.repeat(n_starts, 1, 1, 1)
    z = model.draw(len(repeated), rng)
    if isinstance(model, Encodes):  # a start from which the likeliest is rarely far, the hole taken for black
        with torch.no_grad():
            z[: len(pixels)] = model.encode(torch.where(visible, pixels, 0))
    z.requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -_log_joint(model, z, repeated, visible).sum()
        (z.grad,) = torch.autograd.grad(loss, z)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            z.copy_(model.law.nearest(z))
    with torch.no_grad():
        best = _log_joint(model, z, repeated, visible).view(n_starts, -1).argmax(0)
        return z.view(n_starts, len(pixels), -1)[best, torch.arange(len(pixels), device=z.device)]


def _log_joint(model: Explains, z: Tensor, pixels: Tensor, visible: Tensor) -> Tensor:
    return model.log_visible(z, pixels, visible) + model.law.log_density(z)
