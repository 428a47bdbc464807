"""Held-out images, and what a generator makes of them or of a part of them."""

from functools import singledispatch

import torch
from torch import Tensor

from aigc_lab.any_order import AnyOrder
from aigc_lab.data.samples import Images
from aigc_lab.generators import Autoregressive, NeuralGenerator
from aigc_lab.looking.latents import Encodes, Explains, Reconstructs, latent_model, pictures, search
from aigc_lab.looking.scene import Scene, View, beside
from aigc_lab.quantised import Quantised

COMPLETIONS = 3
"""Of each image, where they are drawn and not searched."""


def reconstruct(scene: Scene) -> View:
    """n held-out images above the pictures of their latents: the encoder's, or those that a search finds."""
    images, classes = scene.held_out()
    again, how = _reconstructed(scene.generator, images, classes, scene.rng())
    error = ((again.pixels.double() - images.pixels.double()) / (images.levels - 1)).square().mean().sqrt()
    caption = f"held-out images above the pictures of {how}; they differ by {float(error):.3f} of the range (rms)"
    return View(beside([images, again]), caption)


def _reconstructed(
    generator: NeuralGenerator, images: Images, classes: Tensor | None, rng: torch.Generator
) -> tuple[Images, str]:
    if isinstance(generator, Reconstructs):
        return generator.reconstruct(images), "their codes"
    model, pixels = latent_model(generator, classes), images.pixels.to(generator.device)
    assert model is not None, "refused by `look`"
    if isinstance(model, Encodes):
        with torch.inference_mode():
            return pictures(model, model.encode(pixels)), model.what
    assert isinstance(model, Explains), "all others encode"
    z = search(model, pixels, _everything(pixels), rng=rng)
    return pictures(model, z), "latents found by gradient descent"


def inpaint(scene: Scene) -> View:
    """n held-out images, the same with a hole, and the hole filled; what is visible stays as it is."""
    images, classes = scene.held_out()
    visible, filled, how = fill(scene.generator, images, classes, scene.rng())
    holed = torch.where(visible, images.pixels, images.levels // 2)
    rows = [images, Images(holed, images.levels)]
    rows += [Images(torch.where(visible, images.pixels, part.pixels), images.levels) for part in filled]
    return View(beside(rows), f"held-out images, with a hole, and {how}")


@singledispatch
def fill(
    generator: NeuralGenerator, images: Images, classes: Tensor | None, rng: torch.Generator
) -> tuple[Tensor, list[Images], str]:
    """What stays visible, bool [1, 1, H, W], whole images for what does not, and how they came about.

    With latents, a square of half the side is filled with the picture of the likeliest latent.

    Args:
        classes: of the images, for a generator that takes classes.
    """
    model = latent_model(generator, classes)
    assert isinstance(model, Explains), "refused by `look`"
    *_, height, width = images.pixels.shape
    visible = torch.ones(1, 1, height, width, dtype=torch.bool)
    visible[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    device = generator.device
    z = search(model, images.pixels.to(device), visible.to(device), rng=rng)
    return visible, [pictures(model, z)], "filled by the likeliest latent given what is visible"


@fill.register
def _(
    generator: Autoregressive, images: Images, classes: Tensor | None, rng: torch.Generator
) -> tuple[Tensor, list[Images], str]:
    """The lower half is drawn given the upper, from the model's own law."""
    visible, given = _upper_half(images)
    rest = generator.spec.length - given.shape[1]
    drawn = [generator.continue_symbols(given, rest, rng=rng) for _ in range(COMPLETIONS)]
    return visible, [_decode(generator, symbols) for symbols in drawn], _HALVES


@fill.register
def _(
    generator: AnyOrder, images: Images, classes: Tensor | None, rng: torch.Generator
) -> tuple[Tensor, list[Images], str]:
    visible, given = _upper_half(images)
    rest = generator.spec.length - given.shape[1]
    drawn = []
    for _ in range(COMPLETIONS):
        seeds = torch.randint(2**62, (len(images),), generator=rng).tolist()
        with torch.inference_mode():
            lower = generator.fill(given, rest, [torch.Generator().manual_seed(seed) for seed in seeds])
        drawn.append(torch.cat([given, lower], 1))
    return visible, [_decode(generator, symbols) for symbols in drawn], _HALVES


@fill.register
def _(
    generator: Quantised, images: Images, classes: Tensor | None, rng: torch.Generator
) -> tuple[Tensor, list[Images], str]:
    """The lower half of the codes is drawn given the upper, from the prior's own law; the picture of codes is the
    median of p(x | c). The upper codes are the whole image's: the encoder sees across the border."""
    assert generator.prior is not None, "refused by `look`"
    rows, columns = generator.grid
    height = images.pixels.shape[2]
    visible = _upper(images, rows // 2 * height // rows)
    with torch.inference_mode():
        every = generator.quantise(generator.features(images.pixels.to(generator.device))).cpu()
    given = every[:, : rows // 2 * columns]
    filled = []
    for _ in range(COMPLETIONS):
        codes = generator.prior.continue_symbols(given, generator.length - given.shape[1], rng=rng)
        with torch.inference_mode():
            maps = generator.maps(generator.codebook[codes.to(generator.device)])
            pixels = generator.likelihood.median(maps, images.levels)
        filled.append(Images(pixels.to(torch.uint8).cpu(), images.levels))
    return visible, filled, _HALVES_OF_CODES


_HALVES = f"{COMPLETIONS} lower halves drawn given the upper ones"
_HALVES_OF_CODES = f"{COMPLETIONS} lower halves of codes drawn given the upper ones, which saw the whole image"


def _upper_half(images: Images) -> tuple[Tensor, Tensor]:
    """Which pixels it has, bool [1, 1, H, W], and its symbols [n, P]."""
    half = images.pixels.shape[2] // 2
    return _upper(images, half), images.pixels[:, :, :half].flatten(1).long()


def _upper(images: Images, rows: int) -> Tensor:
    """The pixels of the first rows, bool [1, 1, H, W]."""
    *_, height, width = images.pixels.shape
    return (torch.arange(height) < rows)[None, None, :, None].expand(1, 1, height, width)


def _everything(pixels: Tensor) -> Tensor:
    return torch.ones(1, 1, *pixels.shape[2:], dtype=torch.bool, device=pixels.device)


def _decode(generator: NeuralGenerator, symbols: Tensor) -> Images:
    images = generator.spec.decode(symbols)
    assert isinstance(images, Images)
    return images
