"""What all figures share: colours, axes without clutter, and files."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# Okabe & Ito's palette: told apart by the colour-blind and, by lightness, in grey print.
REAL = "#0072B2"
GENERATED = "#D55E00"
DISCRIMINATOR = "#009E73"
THIRD = "#CC79A7"
EXACT = "#1a1a1a"
SOFT = "#8a8f98"
FAINT = "#d9dce2"

DPI = 110
N_COLOURS = 256


def tidy(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Titles at the left, labels of one size, no box."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8, color=SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)


def legend(axes: Axes, **where: object) -> None:
    axes.legend(fontsize=8, frameon=False, **where)


def signed(number: float, digits: int = 6) -> str:
    """A number with a minus sign as wide as a plus."""
    return f"{number:.{digits}f}".replace("-", "−")


def to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def to_small_png(figure: Figure) -> bytes:
    """In a palette, at a quarter of the size."""
    buffer = io.BytesIO()
    (drawn,) = _in_a_palette([_pixels(figure)])
    drawn.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def to_svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def to_gif(figures: Sequence[Figure], *, seconds: float = 8.0, rest: float = 2.0) -> bytes:
    """An endless animation of figures of one size, of that length, that rests on the last."""
    frames = _in_a_palette([_pixels(figure) for figure in figures])
    each = round(1000 * seconds / len(frames))
    durations = [each] * (len(frames) - 1) + [round(1000 * rest)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, format="gif", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
    )
    return buffer.getvalue()


def _in_a_palette(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames of one size in colours near their own, of one palette: with one for each they would flicker."""
    width, height = frames[0].size
    strip = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
    strip = strip.quantize(N_COLOURS, method=Image.Quantize.MAXCOVERAGE)
    return [strip.crop((0, i * height, width, (i + 1) * height)) for i in range(len(frames))]


def _pixels(figure: Figure) -> Image.Image:
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
