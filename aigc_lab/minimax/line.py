"""A GAN on the line, and how its game stands beside the exact values: p_g is known there, through G itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution
from torch.nn.functional import logsigmoid

from aigc_lab.minimax import exact
from aigc_lab.minimax.toy import MINIMAX, Affine, Pace, Snapshot, draw, latents, mlp, train

N_CELLS = 1024
N_KNOTS = 4096
LATENT_REACH = 8.0
REACH = 4.0
"""Standard deviations of the data that the cells span, to either side of its mean."""
N_HELD_OUT = 20_000
LINE_PACE = Pace(batch=512, discriminator_steps=5, betas=(0.0, 0.9))


def train_line(law: Distribution, *, at: Sequence[int], pace: Pace = LINE_PACE, seed: int = 0) -> list[Snapshot]:
    """The paper's minimax game against a law on the line; G starts one standard deviation off, and too narrow."""
    mean, sd = float(law.mean), float(law.stddev)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        generator = nn.Sequential(mlp(1, 32, 32, 1, activation=nn.Tanh()), Affine(sd, mean + sd))
        discriminator = nn.Sequential(Affine(1 / sd, -mean / sd), mlp(1, 32, 32, 1, activation=nn.Tanh()))
    return train(law, generator, discriminator, game=MINIMAX, pace=pace, at=at, latent_dim=1, seed=seed)


@dataclass(frozen=True)
class Cells:
    """A law and what a generator emits, as their masses in equal cells of the line; the first and the last cell
    reach to infinity. Merging points into cells can only hide differences: less than 1e-4 nats of JSD where no
    mode of either is narrower than ten cells (a standard deviation of 1/12 of the data's), thousandths where one
    is as narrow as a cell, hundredths below.
    """

    edges: Tensor
    p: Categorical
    q: Categorical

    @property
    def centres(self) -> Tensor:
        return (self.edges[1:] + self.edges[:-1]) / 2

    def densities(self) -> tuple[Tensor, Tensor]:
        width = float(self.edges[1] - self.edges[0])
        return self.p.probs / width, self.q.probs / width

    def optimum(self) -> Tensor:
        """D* = p / (p + p_g) in each cell."""
        return exact.optimal_discriminator(self.p, self.q)(torch.arange(len(self.p.probs)))


def in_cells(law: Distribution, generator: nn.Module) -> Cells:
    """p has its exact masses; p_g those of the broken line through G at N_KNOTS equally spaced latents."""
    mean, reach = float(law.mean), REACH * float(law.stddev)
    edges = torch.linspace(mean - reach, mean + reach, N_CELLS + 1, dtype=torch.float64)
    z = torch.linspace(-LATENT_REACH, LATENT_REACH, N_KNOTS, dtype=torch.float64)
    with torch.no_grad():
        knots = generator(z.float()[:, None]).double().flatten()
    low, high = torch.stack([knots[:-1], knots[1:]]).sort(0).values
    # each stretch of latents spreads its mass evenly between the points that its ends are taken to
    below = ((edges[1:-1, None] - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    fake = below @ torch.special.ndtr(z).diff()
    return Cells(edges, *(Categorical(_masses(to_edge)) for to_edge in (law.cdf(edges[1:-1]), fake)))


def _masses(below: Tensor) -> Tensor:
    """The masses between the edges below which so much lies, and beyond the outermost."""
    return torch.cat([below.new_zeros(1), below, below.new_ones(1)]).diff().clamp(min=0)


@dataclass(frozen=True)
class Standing:
    """How the game stands, in nats."""

    step: int
    value: float
    """V(D, G) on held-out points."""
    error: float
    """Its standard error."""
    optimum: float
    """C(G) = max_D V(D, G)."""


def stand(law: Distribution, snapshot: Snapshot, cells: Cells, *, n: int = N_HELD_OUT) -> Standing:
    """The standing on n points that were not trained on."""
    real, z = draw(law, n, seed=1 << 20), latents(n, 1, torch.Generator().manual_seed(1 << 20))
    with torch.no_grad():
        on_real, on_fake = (snapshot.discriminator(x).double() for x in (real, snapshot.generator(z)))
    gains = logsigmoid(on_real), logsigmoid(-on_fake)
    error = math.sqrt(sum(float(gain.var()) for gain in gains) / n)
    value = sum(float(gain.mean()) for gain in gains)
    return Standing(snapshot.step, value, error, exact.minimax_value(cells.p, cells.q))


def quantiles(n: int) -> Tensor:
    """The middles of n equal shares of N(0, 1), in order, [n]."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()
