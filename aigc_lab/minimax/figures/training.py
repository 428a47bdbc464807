"""Both players at work on the line: the paper's first figure, frame by frame, and the value of the game."""

import math
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from aigc_lab.minimax import exact
from aigc_lab.minimax.figures.canvas import DISCRIMINATOR, EXACT, FAINT, GENERATED, REAL, SOFT, legend, tidy
from aigc_lab.minimax.line import Cells, Standing, quantiles
from aigc_lab.minimax.toy import Snapshot

N_ARROWS = 31
DENSITY_ROOM = 1.6
"""How high the density axis reaches, in peaks of the data's density."""


def figure_one(snapshot: Snapshot, cells: Cells) -> Figure:
    """Figure 1 of Goodfellow et al. 2014 at one moment: p, p_g, D, the exact D* dashed, and where G takes z."""
    x, p, q, best = (curve[1:-1] for curve in (cells.centres, *cells.densities(), cells.optimum()))  # no tails
    z = quantiles(N_ARROWS)
    with torch.no_grad():
        trained = snapshot.discriminator(x.float()[:, None]).sigmoid().flatten()
        ends = snapshot.generator(z[:, None]).flatten()
    jsd = exact.jensen_shannon(cells.p, cells.q)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1], gridspec_kw={"hspace": 0})
    for density, color, name in ((p, REAL, "p, data"), (q, GENERATED, "p_g, generator")):
        above.plot(x, density, color=color, lw=1.8, label=name)
        above.fill_between(x, density, color=color, alpha=0.12, lw=0)
    above.set_ylim(0, DENSITY_ROOM * float(p.max()))
    tidy(above, y="density", title=f"step {snapshot.step:,}: JSD(p, p_g) = {jsd:.4f} nats")
    judged = above.twinx()
    judged.plot(x, trained, color=DISCRIMINATOR, lw=1.8, label="D, trained")
    judged.plot(x, best, color=EXACT, ls="--", lw=1.2, label="D*, exact")
    judged.set(ylim=(0, 1.3), yticks=[0, 0.5, 1])
    judged.axhline(0.5, color=FAINT, lw=1, zorder=0)
    tidy(judged, y="D(x)")
    judged.spines["right"].set(visible=True, color=SOFT)
    handles = [h for axes in (above, judged) for h in axes.get_legend_handles_labels()[0]]
    above.legend(handles=handles, loc="upper center", ncols=4, fontsize=8, edgecolor="none")
    low, high = float(x[0]), float(x[-1])
    start = (low + high) / 2 + (high - low) / 8 * z  # z on the middle of its line, one unit as wide as an sd of x
    below.quiver(
        start,
        torch.zeros(N_ARROWS),
        ends - start,
        torch.ones(N_ARROWS),
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.002,
        headwidth=5,
        color=GENERATED,
    )
    for height in (0, 1):
        below.axhline(height, color=SOFT, lw=1)
    below.set(xlim=(low, high), ylim=(-0.12, 1.12), yticks=[0, 1], yticklabels=["z", "x"])
    tidy(below, x="z ~ N(0, 1) in equal shares; an arrow ends at x = G(z)")
    below.spines[["left", "bottom"]].set_visible(False)
    below.tick_params(length=0)
    return figure


def value_curves(standings: Sequence[Standing]) -> Figure:
    """V(D_t, G_t) on held-out points below the exact C(G_t), which descends to −log 4; the gap is shaded."""
    steps = [s.step for s in standings]
    optimum = [s.optimum for s in standings]
    held_out = [s.value for s in standings]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, optimum, color=EXACT, ls="--", lw=1.6, label="C(G_t), exact")
    axes.plot(steps, held_out, color=DISCRIMINATOR, lw=1.8, label="V(D_t, G_t), held out, ± 2 sd")
    axes.fill_between(
        steps,
        [s.value - 2 * s.error for s in standings],
        [s.value + 2 * s.error for s in standings],
        color=DISCRIMINATOR,
        alpha=0.35,
        lw=0,
    )
    axes.fill_between(steps, held_out, optimum, color=GENERATED, alpha=0.18, lw=0, label="gap: what D_t misses")
    axes.axhline(-math.log(4), color=SOFT, ls=":", lw=1.4, label="−log 4: p_g = p")
    tidy(axes, x="generator step", y="nats", title="The value of the game while both players learn")
    legend(axes, loc="upper right")
    return figure
