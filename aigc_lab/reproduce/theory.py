"""Measures of what theory predicts, without a generator to train: they ignore the run and use the seed alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal, Normal

from aigc_lab.minimax import exact, games, sampled
from aigc_lab.nets.mlp import MLP
from aigc_lab.objectives.games import Minimax, NonSaturating
from aigc_lab.optimizers import WarmupCosine
from aigc_lab.reproduce.trial import Seen, Trial
from aigc_lab.types import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONVERGES, CYCLES, DIVERGES = -1.0, 0.0, 1.0
"""What an orbit does, as a number: `fate`."""
TWO_SPEEDS = torch.tensor([0.05, 0.5], dtype=torch.float64)
"""Steps of the generator and of the discriminator."""


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """What every method does to the Dirac-GAN and to the bilinear game: converges (-1), cycles (0), diverges (1).

    Gives `fate: METHOD` for each, read off an orbit from (1, 1), and some numbers of the orbits that are known
    exactly (`aigc_lab.minimax.games`).

    Args:
        n: iterations, at least 500.
    """

    n: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        start = torch.ones(2, dtype=torch.float64)
        fates = {f"fate: {name}": fate(radii(update, start, self.n)) for name, update in methods().items()}
        pairs = with_memory().items()
        fates |= {f"fate: {name}": fate(radii(update, games.at_rest(start), self.n)) for name, update in pairs}
        two_speeds = games.simultaneous(games.dirac_gan, TWO_SPEEDS)
        energy = (games.orbit(two_speeds, start, self.n).square() / TWO_SPEEDS).sum(1)  # its orbits are ellipses
        fates["fate: GAN, two time-scales"] = fate(energy.sqrt())
        return fates | known_numbers(start) | {"energy: GAN, two time-scales, 500 steps": float(energy[500])}

    def figure(self, seen: Sequence[Seen]) -> "Figure":
        """Nine of the methods, drawn."""
        from aigc_lab.minimax import figures

        return figures.phase_portraits()


def methods(step: float = 0.2) -> dict[str, games.Update]:
    """Updates of states (θ, ψ), by the names of the reference."""
    gan, nsgan, wgan, rpgan = games.dirac_gan, games.dirac_nsgan, games.bilinear, games.dirac_relativistic
    penalised = games.gradient_penalty(wgan, gamma=1.0, target=0.3)
    return {
        "GAN, simultaneous": games.simultaneous(gan, step),
        "GAN, alternating": games.alternating(gan, step),
        "NSGAN, simultaneous": games.simultaneous(nsgan, step),
        "NSGAN, alternating": games.alternating(nsgan, step),
        "RpGAN, simultaneous": games.simultaneous(rpgan, step),
        "RpGAN, alternating": games.alternating(rpgan, step),
        "RpGAN + R1 + R2": games.simultaneous(games.r1(games.r1(rpgan, gamma=0.5), gamma=0.5), step),
        "GAN + R1": games.simultaneous(games.r1(gan, gamma=1.0), step),
        "NSGAN + R1": games.simultaneous(games.r1(nsgan, gamma=1.0), step),
        "GAN + R1 + R2": games.simultaneous(games.r1(games.r1(gan, gamma=0.5), gamma=0.5), step),
        "GAN + instance noise": games.simultaneous(games.instance_noise(gan, sd=0.7), step),
        "GAN + consensus": games.simultaneous(games.consensus(gan, gamma=1.0), step),
        "WGAN, simultaneous": games.simultaneous(wgan, step),
        "WGAN, alternating": games.alternating(wgan, step),
        "WGAN, clipped": games.alternating(wgan, step, clip=1.0),
        "WGAN-GP, alternating": games.alternating(penalised, step),
        "WGAN-GP, simultaneous": games.simultaneous(penalised, step),
        "hinge, alternating": games.alternating(games.dirac_hinge, step),
        "spectral norm, alternating": games.alternating(games.dirac_spectral_norm, step),
        "bilinear, extragradient": games.extragradient(wgan, 0.5),
        "bilinear, extragradient, step 1.1": games.extragradient(wgan, 1.1),
        "bilinear, proximal point": games.proximal_point(wgan, step),
    }


def with_memory(step: float = 0.2) -> dict[str, games.Update]:
    """Updates of pairs of states."""
    return {
        "bilinear, optimistic, step 0.3": games.optimistic(games.bilinear, 0.3),
        "bilinear, optimistic, step 0.58": games.optimistic(games.bilinear, 0.58),
        "bilinear, momentum -1/2": games.alternating_momentum(games.bilinear, step, momentum=-0.5),
        "bilinear, momentum +1/2": games.alternating_momentum(games.bilinear, step, momentum=0.5),
    }


def known_numbers(start: Tensor, step: float = 0.2) -> dict[str, float]:
    """Radii that the reference gives to several digits."""
    spiral = radii(games.simultaneous(games.dirac_gan, step), start, 500)
    damped = radii(games.simultaneous(games.r1(games.dirac_gan, gamma=1.0), step), start, 100)
    circle = radii(games.simultaneous(games.dirac_nsgan, step), start, 3000)[-1500:]
    flow = games.flow(games.dirac_gan, start, [0.0, 200.0]).norm(dim=1)
    return {
        "radius: GAN, simultaneous, 500 steps": float(spiral[-1]),
        "radius: GAN + R1, 100 steps": float(damped[-1]),
        "radius: NSGAN, simultaneous, in the end": float(circle.mean()),
        "radius: GAN, continuous time, drift": float(flow[-1] - flow[0]),
    }


def radii(update: games.Update, start: Tensor, n: int) -> Tensor:
    """The distance of (θ, ψ) from the equilibrium along an orbit, [n + 1]."""
    return games.orbit(update, start, n)[:, :2].norm(dim=1)


def fate(radius: Tensor) -> float:
    """Whether a radius that oscillates falls, stays or grows: its mean over the last fifth of an orbit against
    that over the third fifth, by more than 2 %. One that ends within a millionth of its beginning has arrived.
    """
    middle, end = (radius.chunk(5)[i].mean() for i in (2, 4))
    if end < 1e-6 * radius[0]:
        return CONVERGES
    ratio = float(end / middle)
    return CONVERGES if ratio < 0.98 else CYCLES if ratio <= 1.02 else DIVERGES


@dataclass(frozen=True, kw_only=True)
class TrainedDiscriminators:
    """Proposition 1 and theorem 1 on networks: one discriminator trained for each pair of laws of `PAIRS`.

    Gives `V: PAIR` on held-out points, to be held against C(G), and `|D - D*|: PAIR`, the mean over held-out
    points of both laws.

    Args:
        hidden: widths of the network.
        steps, batch_size, lr: of its training, on fresh draws; the learning rate falls to 0 along a cosine.
        n: held-out points of each law.
    """

    hidden: list[PositiveInt]
    steps: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    n: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        found: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trial.rng().initial_seed())
            for name, (p, q) in PAIRS.items():
                network = fit(self, p, q)
                real, fake = draw(p, self.n), draw(q, self.n)
                played = sampled.play(network, p, real=real, generated=fake)
                best, both = exact.optimal_discriminator(p, q), torch.cat([real, fake])
                with torch.no_grad():
                    off = network(both).flatten().sigmoid() - best(both.double().reshape(-1, *p.event_shape))
                found |= {f"V: {name}": played.value, f"|D - D*|: {name}": float(off.abs().mean())}
        return found

    def figure(self, seen: Sequence[Seen]) -> "Figure":
        """How far V fell short of C(G), and D of D*."""
        from aigc_lab.minimax import figures

        values, distances = (
            {name: [s.found[f"{of}: {name}"] for s in seen] for name in PAIRS} for of in ("V", "|D - D*|")
        )
        optima = {name: exact.minimax_value(*laws) for name, laws in PAIRS.items()}
        errors = {name: exact.minimax_value_sd(*laws) / math.sqrt(self.n) for name, laws in PAIRS.items()}
        return figures.trained_discriminators(values, optima, errors, distances)


@dataclass(frozen=True, kw_only=True)
class VanishingGradient:
    """The generator's gradient at a trained discriminator, for p = N(0, 1) and a generator θ + z.

    Gives `saturating: θ` = d/dθ E[log(1 - D(θ + z))] and `non-saturating: θ` = d/dθ E[-log D(θ + z)] with D held
    fixed. Exact values: `exact.saturating_gradient` and `exact.non_saturating_gradient`.

    Args:
        separations: θ.
        hidden, steps, batch_size, lr: of the discriminators, as in `TrainedDiscriminators`.
        n: z, in quantiles of N(0, 1).
    """

    separations: list[PositiveFloat]
    hidden: list[PositiveInt]
    steps: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    n: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        found: dict[str, float] = {}
        losses = {"saturating": Minimax(), "non-saturating": NonSaturating()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trial.rng().initial_seed())
            for separation in self.separations:
                network = fit(self, _normal(0, 1), _normal(separation, 1))
                z = sampled.latents(self.n, 1, trial.rng())
                for name, game in losses.items():
                    theta = torch.tensor(float(separation), requires_grad=True)
                    logit = network(theta + z)
                    (gradient,) = torch.autograd.grad(game.generator_loss(logit, logit), theta)
                    found[f"{name}: {separation:g}"] = float(gradient)
        return found

    def figure(self, seen: Sequence[Seen]) -> "Figure":
        """Both gradients on their exact curves."""
        from aigc_lab.minimax import figures

        saturating, non_saturating = (
            {theta: [s.found[f"{name}: {theta:g}"] for s in seen] for theta in self.separations}
            for name in ("saturating", "non-saturating")
        )
        return figures.measured_gradients(saturating, non_saturating)


def fit(settings: TrainedDiscriminators | VanishingGradient, p: Distribution, q: Distribution) -> nn.Module:
    """A discriminator trained between two laws by the minimax loss: points [n, d] -> logits [n, 1]."""
    network = MLP(hidden=settings.hidden).encoder((p.event_shape.numel(),), 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
    factor, loss_of = WarmupCosine(warmup=0, final=0.0), Minimax().discriminator_loss
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * factor(step, settings.steps)
        real, fake = draw(p, settings.batch_size), draw(q, settings.batch_size)
        optimizer.zero_grad()
        loss_of(network(real), network(fake)).backward()
        optimizer.step()
    return network


def draw(law: Distribution, n: int) -> Tensor:
    """float32 [n, d], from the global generator."""
    return law.sample((n,)).reshape(n, -1).float()


def _normal(mean: float, sd: float) -> Normal:
    return Normal(torch.tensor(mean, dtype=torch.float64), torch.tensor(sd, dtype=torch.float64))


def _plane(mean: list[float], variance: float) -> MultivariateNormal:
    mean_2 = torch.tensor(mean, dtype=torch.float64)
    return MultivariateNormal(mean_2, variance * torch.eye(2, dtype=torch.float64))


def _two_modes() -> MixtureSameFamily:
    centres = torch.tensor([-2.0, 2.0], dtype=torch.float64)
    return MixtureSameFamily(Categorical(torch.ones_like(centres)), Normal(centres, 0.5))


PAIRS: Mapping[str, tuple[Distribution, Distribution]] = {
    "N(0,1), N(1,1)": (_normal(0, 1), _normal(1, 1)),
    "N(0,1), N(0,4)": (_normal(0, 1), _normal(0, 2)),
    "N(0,1), N(3,1)": (_normal(0, 1), _normal(3, 1)),
    "two modes, their mean and variance": (_two_modes(), _normal(0, 4.25**0.5)),
    "two modes, one of them": (_two_modes(), _normal(2, 0.5)),
    "plane, shifted": (_plane([0, 0], 1), _plane([1, 1], 1)),
    "plane, wider": (_plane([0, 0], 1), _plane([0, 0], 4)),
}
"""Pairs (p, q) of the reference's table, in its order; N(mean, variance)."""
