"""Small GANs on points of known density, trained on the spot in seconds: what the figures and the tour show.

The experiments under experiments/ are where claims are tested; these are to be looked at.
"""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MixtureSameFamily
from torch.nn.functional import logsigmoid, softplus

N_DATA = 1 << 17
WIDTH = 96
N_FREQUENCIES = 6


@dataclass(frozen=True)
class Game:
    """Both players' losses, to be minimised, given the logits [n] of a real and of a generated batch."""

    name: str
    discriminator_loss: Callable[[Tensor, Tensor], Tensor]
    generator_loss: Callable[[Tensor, Tensor], Tensor]


def _minus_value(real: Tensor, fake: Tensor) -> Tensor:
    """-V(D, G) = -E[log D(x)] - E[log(1 - D(G(z)))]."""
    return (softplus(-real) + softplus(fake)).mean()


MINIMAX = Game("minimax", _minus_value, lambda real, fake: logsigmoid(-fake).mean())
NON_SATURATING = Game("non-saturating", _minus_value, lambda real, fake: -logsigmoid(fake).mean())
RELATIVISTIC = Game(  # Jolicoeur-Martineau 2019, pairs as in R3GAN (Huang et al. 2024)
    "relativistic",
    lambda real, fake: softplus(fake - real).mean(),
    lambda real, fake: softplus(real - fake).mean(),
)


@dataclass(frozen=True)
class Snapshot:
    """Both players as they were after a number of generator steps."""

    step: int
    generator: nn.Module
    """z [n, latent_dim], normal, -> points [n, d]."""
    discriminator: nn.Module
    """Points [n, d] -> logits [n, 1]."""


@dataclass(frozen=True)
class Pace:
    """How fast who learns."""

    batch: int = 256
    discriminator_steps: int = 1
    """k: discriminator steps to one of the generator."""
    discriminator_lr: float = 2e-3
    generator_lr: float = 2e-3
    betas: tuple[float, float] = (0.5, 0.99)
    gamma: tuple[float, float] = (0.0, 0.0)
    """Weight of R1 + R2 in the first step and in the last; in equal ratios between. No penalty if 0."""

    def at(self, done: float) -> tuple[float, float]:
        """What the rates are multiplied by (1, then along a cosine to 0 over the second half), and γ."""
        first, last = self.gamma
        return math.cos(math.pi / 2 * max(0.0, 2 * done - 1)) ** 2, first and first * (last / first) ** done


def train(
    law: Distribution,
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    game: Game,
    pace: Pace,
    at: Sequence[int],
    latent_dim: int,
    seed: int = 0,
) -> list[Snapshot]:
    """Algorithm 1 of Goodfellow et al. 2014, with Adam: k steps of the discriminator, then one of the generator.

    Args:
        at: the steps, increasing, at which snapshots are taken; training ends with the last.
    """
    rng = torch.Generator().manual_seed(seed)
    data, n, last = draw(law, N_DATA, seed=seed), pace.batch, max(1, at[-1])
    optimizers = [
        torch.optim.Adam(player.parameters(), lr=lr, betas=pace.betas, fused=True)
        for player, lr in ((discriminator, pace.discriminator_lr), (generator, pace.generator_lr))
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: pace.at(step / last)[0]) for o in optimizers]
    taken = []
    for step in range(at[-1] + 1):
        if step in at:
            taken.append(Snapshot(step, copy.deepcopy(generator), copy.deepcopy(discriminator)))
        if step == at[-1]:
            break
        _, gamma = pace.at(step / last)
        for _ in range(pace.discriminator_steps):
            real, z = data[torch.randint(N_DATA, (n,), generator=rng)], latents(n, latent_dim, rng)
            points = torch.cat([real, generator(z).detach()]).requires_grad_(gamma > 0)
            logits = discriminator(points).flatten()
            loss = game.discriminator_loss(*logits.chunk(2))
            if gamma:  # γ/2 (E|∇D(x)|² + E|∇D(G(z))|²)
                (slope,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
                loss = loss + gamma / 2 * slope.square().sum() / n
            descend(loss, discriminator, optimizers[0])
        real, z = data[torch.randint(N_DATA, (n,), generator=rng)], latents(n, latent_dim, rng)
        logits = discriminator(torch.cat([real, generator(z)])).flatten()
        descend(game.generator_loss(*logits.chunk(2)), generator, optimizers[1])
        for schedule in schedules:
            schedule.step()
    return taken


def descend(loss: Tensor, player: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """One step of one player; the other's gradients are not computed."""
    parameters = list(player.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()


def latents(n: int, dim: int, rng: torch.Generator) -> Tensor:
    """z ~ N(0, I), [n, dim]."""
    return torch.randn(n, dim, generator=rng)


def draw(law: Distribution, n: int, *, seed: int) -> Tensor:
    """Points of the law, float32 [n, d], with a random state of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return law.sample((n,)).reshape(n, -1).float()


PLAIN_PACE = Pace(discriminator_lr=1e-3, generator_lr=1e-3)
SHARP_PACE = Pace(discriminator_lr=3e-3, generator_lr=3e-3, gamma=(0.1, 0.01))
"""For the ring, with RELATIVISTIC and FREQUENCIES; γ is in the unit of the data, squared."""
GRID_PACE = dataclasses.replace(SHARP_PACE, gamma=(0.3, 0.03))
"""The same for the grid."""
FREQUENCIES = (0.5, 8.0)


def train_plane(
    law: MixtureSameFamily,
    *,
    at: Sequence[int],
    game: Game = NON_SATURATING,
    pace: Pace = PLAIN_PACE,
    frequencies: tuple[float, float] | None = None,
    seed: int = 0,
) -> list[Snapshot]:
    """A GAN on a mixture in the plane.

    Args:
        frequencies: the lowest and the highest of the discriminator's Fourier features, in half periods per
            standard deviation of the data. None: it sees the coordinates alone.
    """
    sd = float(law.variance.mean().sqrt())
    features = Fourier(*frequencies) if frequencies else nn.Identity()
    n_features = 2 * (1 + 2 * N_FREQUENCIES) if frequencies else 2
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        act = nn.LeakyReLU(0.2)
        generator = nn.Sequential(mlp(2, WIDTH, WIDTH, WIDTH, 2, activation=act), Affine(sd, 0.0))
        judge = mlp(n_features, WIDTH, WIDTH, 1, activation=act)
    discriminator = nn.Sequential(Affine(1 / sd, 0.0), features, judge)
    return train(law, generator, discriminator, game=game, pace=pace, at=at, latent_dim=2, seed=seed)


def samples(snapshot: Snapshot, n: int = 2500, *, latent_dim: int = 2, seed: int = 0) -> Tensor:
    """What the generator draws, [n, d]."""
    with torch.no_grad():
        return snapshot.generator(latents(n, latent_dim, torch.Generator().manual_seed(seed)))


class Affine(nn.Module):
    """scale · x + shift, not learned: the networks see the data in its own unit."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


class Fourier(nn.Module):
    """x [n, d] -> x and the sines and cosines of its coordinates, [n, d (1 + 2 N_FREQUENCIES)]."""

    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__()
        self.frequencies = math.pi * torch.logspace(math.log10(lowest), math.log10(highest), N_FREQUENCIES)

    def forward(self, x: Tensor) -> Tensor:
        phase = (x[..., None] * self.frequencies).flatten(1)
        return torch.cat([x, phase.sin(), phase.cos()], 1)


def mlp(*sizes: int, activation: nn.Module) -> nn.Sequential:
    """Linear layers with an activation between."""

    def layers() -> Iterator[nn.Module]:
        for fan_in, fan_out in itertools.pairwise(sizes[:-1]):
            yield nn.Linear(fan_in, fan_out)
            yield activation
        yield nn.Linear(sizes[-2], sizes[-1])

    return nn.Sequential(*layers())
