"""What needs no training: two laws and the best discriminator between them, and gradients against separation."""

import math
from collections.abc import Callable, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Distribution, Normal

from aigc_lab.minimax import exact
from aigc_lab.minimax.figures.canvas import (
    DISCRIMINATOR,
    EXACT,
    FAINT,
    GENERATED,
    REAL,
    SOFT,
    THIRD,
    legend,
    signed,
    tidy,
)

N_POINTS = 801
REACH = 3.5
"""Standard deviations that a picture of two laws shows to either side of their means."""
SLOPES = tuple(i / 16 for i in range(49))
SEPARATIONS = tuple(i / 4 for i in range(1, 33))


def optimum(p: Distribution, q: Distribution) -> Figure:
    """Proposition 1: both densities, and D* = p / (p + q) above them."""
    x = span(p, q)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.2])
    above.plot(x, exact.optimal_discriminator(p, q)(x), color=EXACT, ls="--", lw=1.8, label="D* = p / (p + q)")
    above.axhline(0.5, color=FAINT, lw=1, zorder=0)
    above.set(ylim=(-0.04, 1.04), yticks=[0, 0.5, 1])
    tidy(above, y="D*(x)", title=f"C(G) = 2 JSD − log 4 = {signed(exact.minimax_value(p, q))} nats")
    for law, color, name in ((p, REAL, "p, data"), (q, GENERATED, "q, generator")):
        density = law.log_prob(x).exp()
        below.plot(x, density, color=color, lw=1.8, label=name)
        below.fill_between(x, density, color=color, alpha=0.12, lw=0)
    below.set_ylim(bottom=0)
    tidy(below, x="x", y="density")
    legend(below)
    return figure


def value_of_slopes(p: Distribution, q: Distribution, slopes: Sequence[float] = SLOPES) -> Figure:
    """Theorem 1 and the gap identity: V of the discriminators whose logit is D*'s times a slope.

    The dots are V plus ∫ (p + q) KL(Ber(D*) || Ber(D)), computed as an integral of its own.
    """
    best = exact.optimal_discriminator(p, q)
    scaled = [exact.Discriminator(_times(best.logit, slope)) for slope in slopes]
    values, gaps = ([f(d, p, q) for d in scaled] for f in (exact.value, exact.value_gap))
    top = exact.minimax_value(p, q)
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(top, color=EXACT, ls="--", lw=1.5, label="C(G), exact")
    axes.plot(slopes, values, color=DISCRIMINATOR, lw=2, label="V(D, G)")
    sums = [v + g for v, g in zip(values, gaps, strict=True)]
    axes.plot(slopes, sums, "o", ms=4, markevery=4, color=THIRD, label="V + ∫ (p + q) KL(Ber D* || Ber D)")
    axes.fill_between(slopes, values, top, color=DISCRIMINATOR, alpha=0.12, lw=0)
    axes.axhline(-math.log(4), color=SOFT, ls=":", lw=1.2, label="−log 4: D = ½ everywhere")
    tidy(axes, x="slope s of D = σ(s · logit D*)", y="nats", title="No discriminator passes C(G); the gap is a KL")
    legend(axes, loc="lower center")
    return figure


def _times(logit: Callable[[Tensor], Tensor], slope: float) -> Callable[[Tensor], Tensor]:
    return lambda x: slope * logit(x)


def saturation(separations: Sequence[float] = SEPARATIONS) -> Figure:
    """N(0, 1) against N(θ, 1): what either loss tells the generator, and what the two distances tell at all."""
    p = Normal(torch.zeros(()).double(), torch.ones(()).double())
    laws = [Normal(p.loc + theta, p.scale) for theta in separations]
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    gradients, distances = figure.subplots(1, 2)
    saturating = [exact.saturating_gradient(p, q) for q in laws]
    gradients.plot(separations, saturating, color=GENERATED, lw=2, label="minimax: saturates")
    heuristic = [exact.non_saturating_gradient(p, q) for q in laws]
    gradients.plot(separations, heuristic, color=REAL, lw=2, ls="--", label="non-saturating")
    gradients.set_yscale("log")
    tidy(gradients, title="Gradient at D*", x="separation θ", y="slope of the loss in θ")
    legend(gradients, loc="lower left")
    jsd = [exact.jensen_shannon(p, q) for q in laws]
    distances.plot(separations, jsd, color=GENERATED, lw=2, label="JSD, nats")
    distances.plot(
        separations, [exact.wasserstein_value(p, q) for q in laws], color=REAL, lw=2, ls="--", label="W₁"
    )
    distances.axhline(math.log(2), color=SOFT, ls=":", lw=1.2)
    top = separations[-1], math.log(2)
    distances.annotate("log 2", top, (0, 3), textcoords="offset points", fontsize=8, color=SOFT, ha="right")
    tidy(distances, title="Distance", x="separation θ", y="")
    legend(distances, loc="upper left")
    return figure


def span(*laws: Distribution) -> Tensor:
    """The points at which a picture shows laws on the line, float64."""
    means, sds = ([float(m) for m in moments] for moments in zip(*[(w.mean, w.stddev) for w in laws], strict=True))
    low = min(m - REACH * s for m, s in zip(means, sds, strict=True))
    high = max(m + REACH * s for m, s in zip(means, sds, strict=True))
    return torch.linspace(low, high, N_POINTS, dtype=torch.float64)
