"""The Dirac-GAN: nine methods in the plane of both players, and what R1's weight does to the eigenvalues."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aigc_lab.minimax import games
from aigc_lab.minimax.figures.canvas import EXACT, FAINT, GENERATED, REAL, SOFT, THIRD, legend, tidy

STEP = 0.2
N_STEPS = 500
START = (1.0, 1.0)
CLIP = 1.0
REACH = 2.0
ARRIVED = 0.05
"""Closer to the equilibrium than this at the end, a method is said to converge."""
GAMMAS = tuple(float(g) for g in np.linspace(0, 2, 81))


@dataclass(frozen=True)
class Panel:
    """A method of training, in the order of Mescheder et al. 2018 and its code."""

    title: str
    field: games.Field
    clip: float = float("inf")

    def simultaneous(self) -> games.Update:
        step = games.simultaneous(self.field, STEP)
        bound = torch.tensor([float("inf"), self.clip], dtype=torch.float64)
        return lambda x: step(x).clamp(-bound, bound)

    def alternating(self) -> games.Update:
        return games.alternating(self.field, STEP, clip=self.clip)


PANELS = (
    Panel("GAN", games.dirac_gan),
    Panel("non-saturating GAN", games.dirac_nsgan),
    Panel("WGAN, clipped at 1", games.bilinear, clip=CLIP),
    Panel("WGAN-GP, γ = 1, g₀ = 0.3", games.gradient_penalty(games.bilinear, gamma=1.0, target=0.3)),
    Panel("instance noise, σ = 0.7", games.instance_noise(games.dirac_gan, sd=0.7)),
    Panel("R1, γ = 0.3", games.r1(games.dirac_gan, gamma=0.3)),
    Panel("R1, γ = 1 (critical)", games.r1(games.dirac_gan, gamma=1.0)),
    Panel("consensus, γ = 1", games.consensus(games.dirac_gan, gamma=1.0)),
    Panel("non-saturating + R1, γ = 0.3", games.r1(games.dirac_nsgan, gamma=0.3)),
)


def phase_portraits(n_steps: int = N_STEPS) -> Figure:
    """3 x 3: the field, and the orbits of simultaneous and alternating gradient descent from (1, 1), h = 0.2."""
    figure = Figure(figsize=(7.6, 7.9), layout="constrained")
    start = torch.tensor(START, dtype=torch.float64)
    for axes, panel in zip(figure.subplots(3, 3, sharex=True, sharey=True).flat, PANELS, strict=True):
        orbits = {
            name: games.orbit(update, start, n_steps)
            for name, update in (("simultaneous", panel.simultaneous()), ("alternating", panel.alternating()))
        }
        _draw_field(axes, panel.field)
        for (name, orbit), color in zip(orbits.items(), (REAL, GENERATED), strict=True):
            axes.plot(orbit[:, 0], orbit[:, 1], color=color, lw=0.9, alpha=0.85, label=name, marker=".", ms=1.6)
            axes.plot(*orbit[-1], "o", ms=5, color=color, mec="white", mew=0.8)
        axes.plot(0, 0, "+", color=EXACT, ms=9, mew=1.4)
        axes.plot(*START, "s", color=EXACT, ms=3.5)
        axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[-2, 0, 2], yticks=[-2, 0, 2], aspect="equal")
        tidy(axes, title=panel.title)
        axes.title.set_fontsize(8.5)
        axes.text(
            0.02,
            0.03,
            verdict(orbits["simultaneous"], orbits["alternating"]),
            transform=axes.transAxes,
            fontsize=7.5,
            color=EXACT,
            bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.5},
        )
    figure.supxlabel("θ, the generator's point", fontsize=9)
    figure.supylabel("ψ, the discriminator's slope", fontsize=9)
    keys = [
        Line2D([], [], color=c, lw=1.5, label=n) for c, n in ((REAL, "simultaneous"), (GENERATED, "alternating"))
    ]
    marks = [
        Line2D([], [], color=EXACT, ls="", marker=m, label=n) for m, n in (("s", "start"), ("+", "equilibrium"))
    ]
    figure.legend(handles=keys + marks, loc="outside upper center", ncols=4, fontsize=8.5, frameon=False)
    return figure


def verdict(simultaneous: torch.Tensor, alternating: torch.Tensor) -> str:
    """How far from the equilibrium both orbits end."""
    ends = [float(orbit[-1].norm()) for orbit in (simultaneous, alternating)]
    if max(ends) < ARRIVED:
        return "converges"
    return "ends at |x| = " + ", ".join(f"{end:.2g}" for end in ends)


def _draw_field(axes: Axes, field: games.Field) -> None:
    ticks = torch.linspace(-REACH, REACH, 13, dtype=torch.float64)
    theta, psi = torch.meshgrid(ticks, ticks, indexing="xy")
    v = field(torch.stack([theta, psi], -1).reshape(-1, 2)).reshape(13, 13, 2)
    size = v.norm(dim=-1, keepdim=True)
    arrows = v / size.clamp(min=1e-9) * size.clamp(max=1.0).sqrt()
    axes.quiver(theta, psi, arrows[..., 0], arrows[..., 1], color=FAINT, width=0.006, scale=18, zorder=0)


def eigenvalue_locus(gammas: tuple[float, ...] = GAMMAS) -> Figure:
    """λ = −γ/2 ± √(γ²/4 − 1/4) of the Dirac-GAN with R1 at its equilibrium, and the rate |1 + hλ| of training."""
    origin = torch.zeros(2, dtype=torch.float64)
    found = [games.eigenvalues(games.r1(games.dirac_gan, gamma=gamma), origin) for gamma in gammas]
    eigenvalues = torch.stack(found)
    figure = Figure(figsize=(8.0, 3.5), layout="constrained")
    plane, rates = figure.subplots(1, 2)
    plane.axvspan(0, 0.3, color=FAINT, alpha=0.6, lw=0)
    plane.axhline(0, color=FAINT, lw=1, zorder=0)
    both = eigenvalues.T.flatten()
    dots = plane.scatter(both.real, both.imag, c=gammas * 2, cmap="viridis", s=12)
    lead = {"arrowstyle": "-", "color": SOFT}
    plane.annotate("γ = 0: ±i/2, a circle", (0, 0.5), (-1.3, 0.54), fontsize=8, va="center", arrowprops=lead)
    plane.annotate("γ = 1: they meet", (-0.5, 0), (-1.4, -0.3), fontsize=8, arrowprops=lead)
    plane.text(0.06, -0.56, "unstable", fontsize=8, color=SOFT, rotation=90, ha="center", va="bottom")
    plane.set(xlim=(-2, 0.12), ylim=(-0.62, 0.62), xticks=[-2, -1.5, -1, -0.5, 0])
    bar = figure.colorbar(dots, ax=plane, shrink=0.9, ticks=[0, 0.5, 1, 1.5, 2])
    bar.set_label("γ", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    tidy(plane, title="Eigenvalues of the flow", x="Re λ", y="Im λ")
    for h, color, style in ((0.2, REAL, "-"), (0.5, GENERATED, "--"), (1.0, THIRD, "-.")):
        rate = (1 + h * eigenvalues).abs().amax(1)
        rates.plot(gammas, rate, color=color, ls=style, lw=1.8, label=f"h = {h:g}")
    rates.axhline(1, color=SOFT, ls=":", lw=1.2)
    tidy(rates, title="Simultaneous descent: below 1 converges", x="γ of R1", y="slowest |1 + hλ| per step")
    legend(rates)
    return figure
