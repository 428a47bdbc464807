"""Style transfer (Gatys, Ecker & Bethge 2016) by any network with convolutions: a run's encoder, a classifier of
its data, or VGG-19."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from pickle import UnpicklingError

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from aigc_lab.data.samples import Images
from aigc_lab.errors import UserError
from aigc_lab.generators import LatentVariable, NeuralGenerator
from aigc_lab.looking.scene import Scene, View
from aigc_lab.objectives.style import content_loss, gram, style_loss
from aigc_lab.pictures import sheet

FRAMES = 12
LIMIT = 0.99
"""Of the pixels that it begins with: tanh has no slope at its ends."""
SMALLEST = 32
"""Pixels of a side: what the last layers see must not be one point."""
VGG_STYLE, VGG_CONTENT = ("1", "6", "11", "20", "29"), "22"
"""conv1_1 to conv5_1, and conv4_2, each behind its rectifier: the paper's layers, by their place in VGG-19."""
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Eyes:
    """A network, and which of its layers are looked at.

    Attributes:
        network: pictures [1, channels, H, W] in [-1, 1] in; its layers give maps.
        style, content: the layers, the first ones first.
        channels: of pictures; 1 or 3.
    """

    network: nn.Module
    style: Sequence[nn.Module]
    content: nn.Module
    channels: int

    def maps(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """Of the style layers and of the content layer, [N, H, W] each. Nothing behind the last is computed: what
        a network flattens there may have one size only."""
        layers = [*self.style, self.content]
        with _recording(layers) as found, suppress(_SeenAll):
            self.network(picture)
        every = [found[layer][0] for layer in layers]
        return every[:-1], every[-1]


class _SeenAll(Exception):
    pass


@contextmanager
def _recording(layers: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """The outputs of layers, as they come; `_SeenAll` when all are there."""
    found: dict[nn.Module, Tensor] = {}

    def record(layer: nn.Module, inputs: object, output: Tensor) -> None:
        found[layer] = output
        if len(found) == len(set(layers)):
            raise _SeenAll

    handles = [layer.register_forward_hook(record) for layer in set(layers)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def eyes_of(network: nn.Module, channels: int, size: int = 64) -> Eyes:
    """Any network with convolutions: style by the first at every resolution, content by the first at the last but
    one (or the last, where there is one resolution).

    Raises:
        UserError: it has none.
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    first: dict[int, nn.Module] = {}
    if convolutions:
        # behind the convolutions, a layer of one size
        with torch.no_grad(), _recording(convolutions) as found, suppress(_SeenAll, RuntimeError):
            network(torch.zeros(1, channels, size, size))
        for layer, maps in found.items():
            first.setdefault(maps.shape[-1], layer)
    if not first:
        raise UserError("--what style: the run's network has no convolutions to see with; give --vgg FILE")
    layers = list(first.values())
    return Eyes(network.requires_grad_(False).eval(), layers, layers[max(0, len(layers) - 2)], channels)


def eyes_of_vgg(path: Path) -> Eyes:
    """VGG-19 from a file of torchvision's weights (vgg19-dcbb9e9d.pth), with average pooling as in the paper.

    Raises:
        UserError: it holds something else.
    """
    from torchvision.models import vgg19

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with torch.device("meta"):
            network = vgg19(init_weights=False).features
        network.load_state_dict(
            {k.removeprefix("features."): w for k, w in weights.items() if k.startswith("features.")}, assign=True
        )
    except (OSError, UnpicklingError, RuntimeError, AttributeError, EOFError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"--vgg {path}: no weights of torchvision's VGG-19 ({reason})") from None
    for name, layer in network.named_children():
        if isinstance(layer, nn.MaxPool2d):
            setattr(network, name, nn.AvgPool2d(2))
        elif isinstance(layer, nn.ReLU):
            layer.inplace = False
    layers = dict(network.named_children())
    seeing = nn.Sequential(_ImageNetInput(), network).requires_grad_(False).eval()
    return Eyes(seeing, [layers[name] for name in VGG_STYLE], layers[VGG_CONTENT], 3)


class _ImageNetInput(nn.Module):
    """[-1, 1] -> what torchvision's networks were trained on."""

    def forward(self, x: Tensor) -> Tensor:
        mean, sd = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_SD))
        return ((x + 1) / 2 - mean) / sd


@singledispatch
def network_of(generator: NeuralGenerator, scene: Scene) -> nn.Module:
    """What a run sees with: a classifier of its data, where it has nothing of its own."""
    return scene.classifier.network(scene.dataset, scene.cache_dir).features


@network_of.register
def _(generator: LatentVariable, scene: Scene) -> nn.Module:
    if generator.takes_classes:  # its encoder sees more than a picture
        return network_of.dispatch(NeuralGenerator)(generator, scene)
    return generator.encoder


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

    before = float(loss_now().detach())
    optimizer = torch.optim.LBFGS([raw], line_search_fn="strong_wolfe", tolerance_change=0.0)
    each = math.ceil(steps / FRAMES)
    for done in range(0, steps, each):
        optimizer.param_groups[0]["max_iter"] = min(each, steps - done)
        optimizer.step(closure)
        watch(raw.detach().tanh())
    return raw.detach().tanh(), before, float(loss_now().detach())


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
    """A picture (or a sheet of n samples of the run) in the style of another one. Its network is VGG-19 where
    weights are given, or else the run's.

    Raises:
        UserError: a file is missing or no picture, or the run has no network to see with.
    """
    if style is None:
        raise UserError("--what style: give the picture whose style it is with --style FILE")
    model = _opened(style, "--style")
    if content is None:
        samples = scene.generator.sample(scene.n, rng=scene.rng())
        assert isinstance(samples, Images)
        painted = sheet(samples, columns=math.ceil(scene.n**0.5))
    else:
        painted = _opened(content, "--content")
    eyes = eyes_of_vgg(vgg) if vgg else eyes_of(network_of(scene.generator, scene), scene.generator.spec.shape[0])
    frames: list[Image.Image] = []
    start, wanted = (_numbers(p, eyes.channels, size) for p in (painted, model))
    picture, before, after = transfer(
        eyes, start, wanted, steps=steps, style_weight=style_weight, watch=lambda x: frames.append(_image(x))
    )
    caption = f"the loss fell from {before:.4g} to {after:.4g} in {steps} steps"
    return View(_image(picture), caption, [_image(start), *frames])


def _opened(path: Path, option: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        why = "no such file" if not path.exists() else "not a picture that can be read"
        raise UserError(f"{option} {path}: {why}") from None
    if min(upright.size) < SMALLEST:
        size = f"{upright.width}x{upright.height}"
        raise UserError(f"{option} {path}: a picture of {size}; sides of at least {SMALLEST} are needed")
    return upright


def _numbers(image: Image.Image, channels: int, size: int) -> Tensor:
    """[1, channels, H, W] in [-1, 1], whose longer side is at most `size`."""
    from torchvision.transforms.functional import pil_to_tensor

    image = image.convert("L" if channels == 1 else "RGB")
    if max(image.size) > size:
        image = ImageOps.contain(image, (size, size), Image.Resampling.LANCZOS)
    return pil_to_tensor(image).float()[None] / 127.5 - 1


def _image(picture: Tensor) -> Image.Image:
    from torchvision.transforms.functional import to_pil_image

    return to_pil_image(((picture[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
