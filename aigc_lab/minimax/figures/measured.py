"""What trained networks reached, seed by seed, on the exact curves."""

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.distributions import Normal

from aigc_lab.minimax import exact
from aigc_lab.minimax.figures.canvas import DISCRIMINATOR, EXACT, FAINT, GENERATED, REAL, SOFT, legend, tidy

Values = Mapping[str, Sequence[float]]
"""Name -> one value per seed."""
Game = Sequence[tuple[int, float, float]]
"""(step, V(D_t, G_t), C(G_t)) along one game."""


def measured_gradients(
    saturating: Mapping[float, Sequence[float]], non_saturating: Mapping[float, Sequence[float]]
) -> Figure:
    """θ -> both gradients of N(0, 1) against N(θ, 1) by seed, on the exact curves; and measured / exact."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    gradients, ratios = figure.subplots(1, 2)
    for measured, gradient, color, style, name in (
        (saturating, exact.saturating_gradient, GENERATED, "-", "minimax"),
        (non_saturating, exact.non_saturating_gradient, REAL, "--", "non-saturating"),
    ):
        last = max(measured)
        fine = [last * i / 64 for i in range(2, 65)]
        gradients.plot(
            fine, [gradient(*_apart(t)) for t in fine], color=color, ls=style, lw=1.6, label=f"{name}, exact"
        )
        places = [theta for theta, values in measured.items() for _ in values]
        values = [value for of_seeds in measured.values() for value in of_seeds]
        gradients.plot(places, values, "o", ms=3.5, color=color, label=f"{name}, networks")
        relative = [v / gradient(*_apart(theta)) for theta, v in zip(places, values, strict=True)]
        ratios.plot(places, relative, "o", ms=3.5, color=color, label=name)
    gradients.set_yscale("log")
    tidy(gradients, title="Gradient at a trained D, and at D*", x="separation θ", y="slope of the loss in θ")
    legend(gradients, loc="lower left")
    ratios.axhline(1, color=EXACT, ls="--", lw=1.2)
    ratios.set_ylim(bottom=0)
    tidy(ratios, title="Measured / exact", x="separation θ")
    legend(ratios, loc="lower left")
    return figure


def _apart(theta: float) -> tuple[Normal, Normal]:
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return Normal(zero, one), Normal(zero + theta, one)


def trained_discriminators(
    values: Values, optima: Mapping[str, float], errors: Mapping[str, float], distances: Values
) -> Figure:
    """V of trained discriminators less C(G), with ± 2 errors at D*, and their mean distance from D*, by pair."""
    figure = Figure(figsize=(8.0, 0.36 * len(values) + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    shortfalls = {name: [value - optima[name] for value in of_seeds] for name, of_seeds in values.items()}
    for axes, found, title in (
        (left, shortfalls, "V(D, G) − C(G), held out, nats"),
        (right, distances, "E|D − D*|"),
    ):
        for row, of_seeds in enumerate(found.values()):
            axes.plot(of_seeds, [row] * len(of_seeds), "o", ms=4, color=DISCRIMINATOR, alpha=0.8)
        axes.axvline(0, color=EXACT, ls="--", lw=1.2)
        axes.grid(axis="y", color=FAINT, lw=0.8)
        tidy(axes, title=title)
    spread = [2 * errors[name] for name in values]
    left.barh(
        range(len(values)), [2 * s for s in spread], left=[-s for s in spread], height=0.5, color=FAINT, zorder=0
    )
    left.use_sticky_edges = False
    left.margins(x=0.08)
    for axes in (left, right):
        axes.locator_params(axis="x", nbins=5)
    left.set_yticks(range(len(values)), list(values))
    left.invert_yaxis()
    return figure


def played_games(games: Mapping[str, Sequence[Game]]) -> Figure:
    """Variant -> the games of its seeds: V below C(G_t), which descends to −log 4; the gap is shaded."""
    figure = Figure(figsize=(4.0 * len(games), 3.3), layout="constrained")
    for axes, (variant, of_seeds) in zip(
        figure.subplots(1, len(games), squeeze=False)[0], games.items(), strict=True
    ):
        for game in of_seeds:
            _draw_game(axes, game)
        axes.axhline(-math.log(4), color=SOFT, ls=":", lw=1.4, label="−log 4: p_g = p")
        tidy(axes, x="step", y="nats", title=f"{variant or 'the game'}, seeds: {len(of_seeds)}".replace("_", "-"))
        handles, labels = axes.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        axes.legend(once.values(), once.keys(), fontsize=8, frameon=False)
    return figure


def _draw_game(axes: Axes, game: Game) -> None:
    steps, values, optima = zip(*game, strict=True)
    axes.plot(steps, optima, ".--", ms=4, color=EXACT, lw=1.2, label="C(G_t), of cells")
    axes.plot(steps, values, ".-", ms=4, color=DISCRIMINATOR, lw=1.4, label="V(D_t, G_t), held out")
    axes.fill_between(steps, values, optima, color=GENERATED, alpha=0.18, lw=0, label="gap")
