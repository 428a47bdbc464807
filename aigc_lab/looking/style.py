"""Style transfer (Gatys, Ecker & Bethge 2016) by any network with convolutions: a run's own, a classifier of its
data, or one of torchvision's."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from aigc_lab.data.samples import Images
from aigc_lab.errors import UserError
from aigc_lab.looking.eyes import SMALLEST, Eyes, eyes_of, eyes_of_torchvision, network_of
from aigc_lab.looking.scene import Scene, View
from aigc_lab.objectives.style import content_loss, gram, style_loss
from aigc_lab.pictures import sheet

FRAMES = 12
LIMIT = 0.99
"""Of the pixels that it begins with: tanh has no slope at its ends."""


def transfer(
    eyes: Eyes,
    content: Tensor,
    style: Tensor,
    *,
    steps: int,
    style_weight: float,
    watch: Callable[[Tensor], None] = lambda picture: None,
) -> tuple[Tensor, float, float]:
    """The picture, begun as the content, that has the content's maps and the style's Gram matrices: L-BFGS on its
    pixels (section 2.3), which are tanh of what it moves, and so stay in their range.

    Maps are divided by a layer's root mean square over both pictures, so that one weight serves every network
    (the paper normalises VGG's for the same reason).

    Args:
        content, style: [1, C, H, W] in [-1, 1], of any size each.
        steps: of L-BFGS.
        style_weight: β/α of the paper, for these losses.
        watch: is shown the picture about `FRAMES` times on its way.

    Returns:
        The picture, in [-1, 1], and the loss before and after.

    Raises:
        UserError: the loss is no number.
    """
    with torch.no_grad():
        (of_content, wanted), (of_style, last) = eyes.maps(content), eyes.maps(style)
        scales = [_scale(a, b) for a, b in zip(of_content, of_style, strict=True)]
        content_scale = _scale(wanted, last)
        grams = [gram(maps * scale) for maps, scale in zip(of_style, scales, strict=True)]
    raw = content.contiguous().clamp(-LIMIT, LIMIT).atanh().requires_grad_(True)

    def loss_now() -> Tensor:
        layers, deep = eyes.maps(raw.tanh())
        styled = style_loss([maps * scale for maps, scale in zip(layers, scales, strict=True)], grams)
        return content_loss(deep * content_scale, wanted * content_scale) + style_weight * styled

    def closure() -> Tensor:
        loss = loss_now()
        raw.grad = torch.autograd.grad(loss, raw)[0].contiguous()  # L-BFGS takes it as one vector
        return loss

    before = _finite(loss_now())
    optimizer = torch.optim.LBFGS([raw], line_search_fn="strong_wolfe", tolerance_change=0.0)
    each = math.ceil(steps / FRAMES)
    for done in range(0, steps, each):
        optimizer.param_groups[0]["max_iter"] = min(each, steps - done)
        optimizer.step(closure)
        watch(raw.detach().tanh())
    return raw.detach().tanh(), before, _finite(loss_now())


def _finite(loss: Tensor) -> float:
    """
    Raises:
        UserError: it is not.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UserError(
            f"--what style: the loss is {value}: --style-weight is too large, or weights are no numbers"
        )
    return value


def _scale(a: Tensor, b: Tensor) -> float:
    return float(torch.cat([a.flatten(), b.flatten()]).square().mean().sqrt().clamp(min=1e-8) ** -1)


def style(
    scene: Scene,
    *,
    style: Path | None = None,
    content: Path | None = None,
    vgg: Path | None = None,
    size: int = 256,
    steps: int = 200,
    style_weight: float = 100.0,
) -> View:
    """A picture (or a sheet of n samples of the run) in the style of another one. It is looked at with the network
    of torchvision's whose weights are given, or else the run's own, or else the classifier of its data.

    Raises:
        UserError: a file is missing or no picture, or too small, or the weight is no positive number.
    """
    if style is None:
        raise UserError("--what style: give the picture whose style it is with --style FILE")
    if not 0 < style_weight < math.inf:
        raise UserError(f"--style-weight {style_weight:g}: give a positive number")
    model = _fitted(_opened(style, "--style"), size, f"--style {style}")
    if content is None:
        samples = scene.generator.sample(scene.n, rng=scene.rng())
        assert isinstance(samples, Images)
        painted = _fitted(sheet(samples, columns=math.ceil(scene.n**0.5)), size, f"-n {scene.n}")
    else:
        painted = _fitted(_opened(content, "--content"), size, f"--content {content}")
    eyes = eyes_of_torchvision(vgg) if vgg else _eyes(scene)
    frames: list[Image.Image] = []
    start, wanted = (_numbers(p, eyes.channels) for p in (painted, model))
    picture, before, after = transfer(
        eyes, start, wanted, steps=steps, style_weight=style_weight, watch=lambda x: frames.append(_image(x))
    )
    caption = f"the loss fell from {before:.4g} to {after:.4g} in {steps} steps"
    return View(_image(picture), caption, [_image(start), *frames])


def _eyes(scene: Scene) -> Eyes:
    """The run's own, or the classifier's of its data."""
    own = network_of(scene.generator)
    if own is None:
        own = scene.classifier.network(scene.dataset, scene.cache_dir).features
    return eyes_of(own, scene.generator.spec.shape[0])


def _opened(path: Path, option: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        why = "no such file" if not path.exists() else "not a picture that can be read"
        raise UserError(f"{option} {path}: {why}") from None


def _fitted(image: Image.Image, size: int, what: str) -> Image.Image:
    """With a longer side of at most `size`.

    Raises:
        UserError: the shorter one is below `SMALLEST` then.
    """
    shrunk = min(1.0, size / max(image.size))
    width, height = (round(side * shrunk) for side in image.size)
    if min(width, height) < SMALLEST:
        at = f" at --size {size}" if shrunk < 1 else ""
        raise UserError(f"{what}: a picture of {width}x{height}{at}; sides of at least {SMALLEST} are needed")
    return image if shrunk == 1 else image.resize((width, height), Image.Resampling.LANCZOS)


def _numbers(image: Image.Image, channels: int) -> Tensor:
    """[1, channels, H, W] in [-1, 1]."""
    from torchvision.transforms.functional import pil_to_tensor

    return pil_to_tensor(image.convert("L" if channels == 1 else "RGB")).float()[None] / 127.5 - 1


def _image(picture: Tensor) -> Image.Image:
    from torchvision.transforms.functional import to_pil_image

    return to_pil_image(((picture[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
