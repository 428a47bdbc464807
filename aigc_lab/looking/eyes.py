"""Networks that pictures are looked at with: a run's own, or one of torchvision's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.errors import UserError
from aigc_lab.flow import Flow
from aigc_lab.generators import LatentVariable, NeuralGenerator
from aigc_lab.quantised import Quantised

SMALLEST = 32
"""Pixels of a side of a picture: layers that have nothing to see at this size are not looked at."""
FAMILIES = ("alexnet", "resnet*", "resnext*", "squeezenet*", "vgg*", "wide_resnet*")
"""Of torchvision's networks: those whose rectifiers are layers of their own."""
HEADS = ("classifier", "fc")
"""Their parts that say the class, and are not looked at."""
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
    """The first output of each layer, as they come; `_SeenAll` when all are there."""
    found: dict[nn.Module, Tensor] = {}

    def record(layer: nn.Module, inputs: object, output: Tensor) -> None:
        found.setdefault(layer, output)
        if len(found) == len(set(layers)):
            raise _SeenAll

    handles = [layer.register_forward_hook(record) for layer in set(layers)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def eyes_of(network: nn.Module, channels: int, kind: type[nn.Module] = nn.Conv2d) -> Eyes:
    """Any network with layers of a kind: style by the first at every resolution, content by the second at the last
    but one (or the last, or the first, where there are no more). Of VGG-19's rectifiers these are the paper's
    layers, conv1_1 to conv5_1 and conv4_2.

    Raises:
        UserError: it has none.
    """
    network.requires_grad_(False).eval()
    layers = [layer for layer in network.modules() if isinstance(layer, kind)]
    # behind the convolutions, a layer of one size
    with torch.no_grad(), _recording(layers) as found, suppress(_SeenAll, RuntimeError):
        network(torch.zeros(1, channels, SMALLEST, SMALLEST))
    sides: dict[int, list[nn.Module]] = {}
    for layer, maps in found.items():
        sides.setdefault(maps.shape[-1], []).append(layer)
    if not sides:
        raise UserError("--what style: the run's network has no convolutions to see with; give --vgg FILE")
    *_, last = sides.values()
    deep = list(sides.values())[-2] if len(sides) > 1 else last
    return Eyes(network, [side[0] for side in sides.values()], deep[min(1, len(deep) - 1)], channels)


def eyes_of_torchvision(path: Path) -> Eyes:
    """One of torchvision's `FAMILIES` from a file of its weights, told by the beginning of the file's name
    (resnet18-f37072fd.pth); by any other name it is VGG-19. VGGs have average pooling as in the paper.

    Raises:
        UserError: it holds something else.
    """
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models, include=FAMILIES)
    name = max((name for name in names if path.name.startswith(name)), key=len, default="vgg19")
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None)
    for head in HEADS:
        if hasattr(network, head):
            setattr(network, head, nn.Identity())
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        trunk = {key: tensor for key, tensor in weights.items() if key.partition(".")[0] not in HEADS}
        network.load_state_dict(trunk, assign=True)
    except Exception as error:  # whatever a damaged file, or another one, comes to
        reason = str(error).split(". ")[0].split("\n")[0].rstrip(":")
        raise UserError(f"--vgg {path}: no weights of torchvision's {name} ({reason[:100]})") from None
    for layer in network.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    if name.startswith("vgg"):
        for place, layer in network.features.named_children():
            if isinstance(layer, nn.MaxPool2d):
                setattr(network.features, place, nn.AvgPool2d(2))
    return eyes_of(nn.Sequential(_ImageNetInput(), network.float()), 3, nn.ReLU)


class _ImageNetInput(nn.Module):
    """[-1, 1] -> what torchvision's networks were trained on."""

    def forward(self, x: Tensor) -> Tensor:
        mean, sd = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_SD))
        return ((x + 1) / 2 - mean) / sd


def network_of(generator: NeuralGenerator) -> nn.Module | None:
    """What a generator sees pictures of any size in [-1, 1] with; None where it has no convolutions for that."""
    network = _looking(generator)
    has_convolutions = network is not None and any(isinstance(layer, nn.Conv2d) for layer in network.modules())
    return network if has_convolutions else None


@singledispatch
def _looking(generator: NeuralGenerator) -> nn.Module | None:
    """A network that it has for images; a GAN's discriminator is not part of what is sampled."""
    return None


@_looking.register
def _(generator: LatentVariable) -> nn.Module | None:
    return None if generator.takes_classes else generator.encoder  # with classes it sees more than a picture


@_looking.register
def _(generator: Quantised) -> nn.Module | None:
    return _Continued(generator.encoder, generator.spec.shape[1] // generator.grid[0])


@_looking.register
def _(generator: Flow) -> nn.Module | None:
    return _AtTheEnd(generator)


class _Continued(nn.Module):
    """A network whose pictures have sides that are whole multiples: others are continued by their last pixels."""

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, x: Tensor) -> Tensor:
        *_, height, width = x.shape
        return self.network(F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate"))


class _AtTheEnd(nn.Module):
    """A flow at t = 1, where it sees data: the way down its U-Net has the first layers of every resolution."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(x, x.new_ones(len(x)))
