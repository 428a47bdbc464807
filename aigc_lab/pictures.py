"""Sheets of images, and plots of points."""

from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Distribution

from aigc_lab.data.samples import Images, Points

GAP, PAPER = 2, 255
RESOLUTION = 200
SAMPLE_COLOUR, LAW_COLOUR = "#0072b2", "#d55e00"  # told apart by colour-blind readers too


def sheet(images: Images, *, columns: int, cell: int = 48) -> Image.Image:
    """Images in rows of `columns`, enlarged by a whole factor (no smoothing) to sides of about `cell` pixels."""
    pixels = images.to_uint8()
    n, _, height, width = pixels.shape
    factor = max(1, round(cell / max(height, width)))
    pixels = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    rows = -(-n // columns)
    step_y, step_x = height * factor + GAP, width * factor + GAP
    canvas = torch.full((3, rows * step_y + GAP, columns * step_x + GAP), PAPER, dtype=torch.uint8)
    for i, image in enumerate(pixels):
        y, x = GAP + i // columns * step_y, GAP + i % columns * step_x
        canvas[:, y : y + step_y - GAP, x : x + step_x - GAP] = _to_rgb(image)
    return Image.fromarray(canvas.permute(1, 2, 0).numpy())


def to_png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def to_gif(frames: Sequence[Image.Image], *, milliseconds: int = 80) -> bytes:
    """An animation that repeats; each frame stays so long."""
    buffer = BytesIO()
    first, *others = frames
    first.save(buffer, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    return buffer.getvalue()


def plot(points: Points, law: Distribution) -> bytes:
    """Points beside the density that they should have, as PNG: a histogram on the line, a scatter in the plane."""
    from matplotlib.figure import Figure

    x = points.coordinates.double()
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    near = torch.cat([x, _quantile_box(law)])
    low, high = near.min(0).values, near.max(0).values
    low, high = low - (high - low) / 20, high + (high - low) / 20
    lines = [torch.linspace(float(a), float(b), RESOLUTION) for a, b in zip(low, high, strict=True)]
    if x.shape[1] == 1:
        axes.hist(
            x[:, 0].numpy(), bins=max(10, round(len(x) ** 0.5)), density=True, color=SAMPLE_COLOUR, alpha=0.5
        )
        axes.plot(lines[0], law.log_prob(lines[0].double()).exp(), color=LAW_COLOUR)
    else:
        mesh = torch.cartesian_prod(*lines).double()
        density = law.log_prob(mesh).exp().view(RESOLUTION, RESOLUTION)
        axes.contour(*lines, density.mT, levels=6, colors=LAW_COLOUR, linewidths=0.8)
        axes.scatter(x[:, 0], x[:, 1], s=4, color=SAMPLE_COLOUR, alpha=0.6, linewidths=0)
        axes.set_aspect("equal")
    axes.set_title(f"{len(points)} samples (blue) and the density of the data (orange)", fontsize=10)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _quantile_box(law: Distribution) -> Tensor:
    """Opposite corners of a box with most of the law's mass, [2, d]; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        drawn = law.sample((1000,)).reshape(1000, -1)
    return torch.stack([drawn.min(0).values, drawn.max(0).values])


def _to_rgb(image: Tensor) -> Tensor:
    """One or three channels as three; any other number by its first channel."""
    return image if len(image) == 3 else image[:1].expand(3, -1, -1)
