"""The game through samples: affine generators have known laws, so the stated error can be held to."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from aigc_lab.minimax import exact, modes, sampled
from aigc_lab.objectives.games import Minimax


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(law: torch.distributions.Distribution, n: int = 100_000) -> torch.Tensor:
    torch.manual_seed(7)
    return law.sample((n,)).reshape(n, -1).float()


def normal(mean: float, sd: float) -> Normal:
    return Normal(torch.tensor(mean).double(), torch.tensor(sd).double())


@pytest.mark.parametrize(("mean", "sd"), [(2.0, 0.5), (2.1, 0.5), (2.0, 0.8), (3.0, 0.3), (9.0, 1.0)])
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_an_affine_generator_on_the_line_is_measured_within_the_stated_error(
    mean: float, sd: float, latent_dim: int
) -> None:
    law = normal(2.0, 0.5)
    z = sampled.latents(1 << 19, latent_dim, rng())
    found = sampled.jensen_shannon(law, mean + sd * z.sum(1, keepdim=True) / latent_dim**0.5, window=draws(law))
    truth = exact.jensen_shannon(law, normal(mean, sd))
    assert abs(found.value - truth) <= found.error < 0.003


def test_an_affine_generator_in_the_plane_is_measured_within_the_stated_error() -> None:
    law = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    z = sampled.latents(1 << 20, 2, rng())
    for shift, truth in ((math.sqrt(2), 0.201345472), (0.0, 0.0)):
        found = sampled.jensen_shannon(law, z + torch.tensor([shift, 0.0]), window=draws(law))
        assert abs(found.value - truth) <= found.error < 0.004
    few = sampled.jensen_shannon(law, z[:20_000], window=draws(law))
    assert few.value <= few.error < 0.01, "fewer samples, fewer cells"
    found = sampled.jensen_shannon(law, 2 * z, window=draws(law))
    assert abs(found.value - 0.173315351) <= found.error < 0.004


def test_lost_modes_and_an_infinitely_narrow_generator() -> None:
    """p on 8 modes, the generator on k of them: the closed form of the reference."""
    ring = modes.ring()
    points = draws(ring, 200_000)
    nearest = torch.cdist(points.double(), ring.component_distribution.mean).argmin(1)
    kept = points[nearest < 5]
    found = sampled.jensen_shannon(ring, kept, window=points, cells=256)
    assert found.value == pytest.approx(0.151796, abs=0.02) and abs(found.value - 0.151796) <= found.error
    law = normal(0.0, 1.0)
    point = torch.full((1000, 1), 0.3)
    found = sampled.jensen_shannon(law, point, window=draws(law), cells=512)
    assert found.value == pytest.approx(math.log(2), abs=0.03) and math.log(2) - found.value <= found.error


def test_a_lattice_finer_than_the_cells_is_not_seen() -> None:
    """It is at a distance of log 2 in truth: the stated error is for generators that are smooth across a cell."""
    law, z = normal(0.0, 1.0), sampled.latents(1 << 17, 1, rng())
    found = sampled.jensen_shannon(law, (z / 0.004).round() * 0.004, window=draws(law))
    assert found.value + found.error < 0.01


def test_samples_that_are_not_finite_and_laws_in_space_are_refused() -> None:
    law, real = normal(0.0, 1.0), draws(normal(0.0, 1.0), 100)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="1 of 100 samples are not finite"):
            sampled.jensen_shannon(law, torch.cat([real[1:], torch.tensor([[bad]])]), window=real)
    with pytest.raises(ValueError, match="not in 3 dimensions"):
        sampled.jensen_shannon(law, torch.zeros(5, 3), window=torch.zeros(5, 3))
    with pytest.raises(ValueError, match="cells=7"):
        sampled.jensen_shannon(law, real, window=real, cells=7)


def test_on_its_own_sample_an_overfitted_discriminator_exceeds_the_optimum_and_held_out_it_does_not() -> None:
    """V(D, G) <= C(G) is about the laws, not about the points that D has learnt by heart."""
    p, q = (MultivariateNormal(torch.full((2,), mean).double(), torch.eye(2).double()) for mean in (0.0, 1.0))
    real, fake = draws(p, 50), draws(q, 50)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 1))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(400):
            optimizer.zero_grad()
            Minimax().discriminator_loss(network(real), network(fake)).backward()
            optimizer.step()
    optimum = exact.minimax_value(p, q)
    assert sampled.play(network, p, real=real, generated=fake).value > optimum + 0.3
    n = 100_000
    held_out = [law.sample((n,)).float() for law in (p, q)]
    played = sampled.play(network, p, real=held_out[0], generated=held_out[1])
    assert played.value < optimum - 0.3


def test_the_game_at_its_optimum_and_at_its_end() -> None:
    p, q = normal(0.0, 1.0), normal(1.0, 1.0)
    z = sampled.latents(1 << 18, 1, rng())
    logit = exact.optimal_discriminator(p, q).logit
    played = sampled.play(lambda x: logit(x.double()[:, 0]), p, real=draws(p), generated=1 + z)
    assert played.optimum == pytest.approx(-1.163451397, abs=2 * played.jsd.error)
    assert played.value == pytest.approx(played.optimum, abs=4 * 0.597437 / 100_000**0.5)
    end = sampled.play(lambda x: torch.zeros(len(x), 1), p, real=draws(p), generated=z)
    assert end.value == pytest.approx(-math.log(4), abs=1e-9) and end.distance_from_half == 0
    assert end.jsd.value < 1e-4


def test_latents_are_normal_on_the_line_and_beyond() -> None:
    line = sampled.latents(1001, 1, rng())
    assert float(line.mean()) == pytest.approx(0, abs=1e-6) and float(line.median()) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(sampled.latents(100_000, 2, rng()).T.cov(), torch.eye(2), atol=0.02, rtol=0)
