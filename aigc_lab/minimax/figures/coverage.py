"""Mode collapse over time: what a generator draws, and what it covers beside a perfect sampler."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import MixtureSameFamily

from aigc_lab.minimax.figures.canvas import EXACT, FAINT, GENERATED, REAL, SOFT, THIRD, tidy
from aigc_lab.minimax.modes import HIGH_QUALITY_SD, coverage, perfect_coverage

MARGIN = 0.3
"""Of the mixture's reach, around it."""
N_DRAWN = 1000
OPAQUE = {"fc": "white", "ec": "none", "pad": 0.6}


def mode_strip(samples: Sequence[tuple[int, Tensor]], mixture: MixtureSameFamily, *, title: str = "") -> Figure:
    """Above, samples at a few steps on the modes' 3 sd discs; below, three measures with a perfect sampler's.

    Args:
        samples: (step, points [n, 2]), of one n.
        mixture: `modes.ring` or `modes.grid`.
    """
    reports = [coverage(points, mixture) for _, points in samples]
    ceiling = perfect_coverage(mixture, len(samples[0][1]))
    figure = Figure(figsize=(1.75 * len(samples) + 0.6, 4.1), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.15, 1], squeeze=False)[:, 0]
    if title:
        above.suptitle(title, fontsize=10, x=0.01, ha="left")
    for axes, (step, points) in zip(above.subplots(1, len(samples), squeeze=False)[0], samples, strict=True):
        _draw_points(axes, points, mixture)
        axes.set_title(f"step {step:,}", fontsize=9)
    measures = (
        ("modes found", [r.modes for r in reports], ceiling.modes, "{:.0f}"),
        ("high quality, %", [100 * r.high_quality for r in reports], 100 * ceiling.high_quality, "{:.1f}"),
        ("reverse KL", [r.reverse_kl for r in reports], ceiling.reverse_kl, "{:.3f}"),
    )
    bars = zip(below.subplots(1, 3), measures, (REAL, GENERATED, THIRD), strict=True)
    for axes, (name, values, best, form), color in bars:
        places = range(len(values))
        drawn = axes.bar(places, values, color=color, width=0.7)
        axes.bar_label(drawn, [form.format(v) for v in values], fontsize=7.5, padding=2, zorder=5, bbox=OPAQUE)
        axes.axhline(best, color=EXACT, ls="--", lw=1.2)
        axes.set_xticks(places, [f"{step:,}" for step, _ in samples])
        axes.set_ylim(0, 1.18 * max(*values, best))
        tidy(axes, title=f"{name} (perfect: {form.format(best)})", x="step")
        axes.title.set_fontsize(9)
        axes.tick_params(axis="x", labelsize=7)
    return figure


def mode_panels(samples: Mapping[str, Tensor], mixture: MixtureSameFamily, *, columns: int) -> Figure:
    """Name -> points [n, 2]: each on the modes' 3 sd discs, with the modes found and the share within a disc."""
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(1.75 * columns, 2.15 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for (name, points), axes in zip(samples.items(), panels, strict=False):
        report = coverage(points, mixture)
        _draw_points(axes, points, mixture)
        axes.set_title(f"{name}\n{report.modes:g} modes, {report.high_quality:.1%}", fontsize=8)
    for axes in panels:  # those that are left over
        axes.set_axis_off()
    return figure


def _draw_points(axes: Axes, points: Tensor, mixture: MixtureSameFamily) -> None:
    centres = mixture.component_distribution.mean
    sd = float(mixture.component_distribution.stddev.flatten()[0])
    reach = float(centres.abs().max()) * (1 + MARGIN)
    angle = torch.linspace(0, 2 * torch.pi, 40)
    circle = HIGH_QUALITY_SD * sd * torch.stack([angle.cos(), angle.sin()], 1)
    for centre in centres:
        axes.fill(*(centre + circle).T, color=FAINT, lw=0, zorder=0)
    shown = points[:N_DRAWN]
    axes.plot(shown[:, 0], shown[:, 1], ",", color=GENERATED, rasterized=True)
    axes.plot(shown[:, 0], shown[:, 1], ".", ms=1.5, alpha=0.5, color=GENERATED, mew=0, rasterized=True)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    for side in axes.spines.values():
        side.set_color(SOFT)
