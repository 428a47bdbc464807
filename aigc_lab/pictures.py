"""Sheets of images."""

from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from aigc_lab.data.samples import Images

GAP, PAPER = 2, 255


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


def _to_rgb(image: Tensor) -> Tensor:
    """One or three channels as three; any other number by its first channel."""
    return image if len(image) == 3 else image[:1].expand(3, -1, -1)
