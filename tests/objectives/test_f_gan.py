"""The f-GAN games against the exact divergences of `aigc_lab.minimax.exact`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from aigc_lab.minimax.exact import divergences as exact
from aigc_lab.objectives.f_gan import GAN, KL, FGame, JensenShannon, Pearson, ReverseKL, SquaredHellinger
from aigc_lab.objectives.games import Minimax

N = 100_000
P = Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
Q = Normal(torch.tensor(1.0, dtype=torch.float64), 1.0)
GAMES: list[tuple[FGame, exact.FDivergence, Callable[[Tensor], Tensor]]] = [
    # the game, its divergence, and log p/q -> the output v with g(v) = T*
    (KL(), exact.KL, lambda r: 1 + r),
    (ReverseKL(), exact.REVERSE_KL, lambda r: r),
    (Pearson(), exact.PEARSON, lambda r: 2 * r.expm1()),
    (SquaredHellinger(), exact.SQUARED_HELLINGER, lambda r: r / 2),
    (JensenShannon(), exact.JS, lambda r: r),
    (GAN(), exact.GAN, lambda r: r),
]
EACH = pytest.mark.parametrize(("game", "row", "output"), GAMES, ids=[row.name for _, row, _ in GAMES])


def quantiles(law: Normal) -> Tensor:
    """A sample without noise: means over it are integrals, to about 1/N."""
    return law.icdf((torch.arange(N, dtype=torch.float64) + 0.5) / N)


def log_ratio(x: Tensor) -> Tensor:
    return P.log_prob(x) - Q.log_prob(x)


@EACH
def test_gain_and_cost_are_the_activation_and_the_conjugate(
    game: FGame, row: exact.FDivergence, output: Callable[[Tensor], Tensor]
) -> None:
    v = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(game.gain(v), row.activation(v))
    torch.testing.assert_close(game.cost(v), row.conjugate(row.activation(v)))


@EACH
def test_at_the_optimal_output_the_value_is_the_divergence(
    game: FGame, row: exact.FDivergence, output: Callable[[Tensor], Tensor]
) -> None:
    x, y = quantiles(P), quantiles(Q)
    torch.testing.assert_close(game.gain(output(log_ratio(x))), row.optimal(log_ratio(x)))
    value = -game.discriminator_loss(output(log_ratio(x)), output(log_ratio(y)))
    assert float(value) == pytest.approx(row.divergence(P, Q), rel=1e-2)


@EACH
def test_the_optimal_output_is_a_stationary_maximum(
    game: FGame, row: exact.FDivergence, output: Callable[[Tensor], Tensor]
) -> None:
    """Along any direction of change the value is highest at T*; cos and tanh are as good as any."""
    x, y = quantiles(P), quantiles(Q)
    for change in (torch.cos, torch.tanh):
        size = torch.zeros((), dtype=torch.float64, requires_grad=True)
        real, fake = (output(log_ratio(z)) + size * change(z) for z in (x, y))
        loss = game.discriminator_loss(real, fake)
        (slope,) = torch.autograd.grad(loss, size, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, size)
        assert abs(float(slope.detach())) < 5e-3
        assert float(curvature) > 0


@EACH
def test_the_generator_descends_the_divergence_itself(
    game: FGame, row: exact.FDivergence, output: Callable[[Tensor], Tensor]
) -> None:
    """With D held at D*, the gradient in the mean of q is the derivative of D_f(p || q): the envelope theorem."""
    step = 1e-3
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    fake = output(log_ratio(quantiles(Q) + shift))
    game.generator_loss(fake, torch.zeros_like(fake)).backward()
    above, below = (row.divergence(P, Normal(Q.mean + s, Q.stddev)) for s in (step, -step))
    assert float(shift.grad) == pytest.approx((above - below) / (2 * step), rel=2e-2)


def test_the_gan_row_is_the_minimax_game() -> None:
    real, fake = torch.randn(9), torch.randn(9)
    torch.testing.assert_close(GAN().discriminator_loss(real, fake), Minimax().discriminator_loss(real, fake))
    torch.testing.assert_close(GAN().generator_loss(fake, real), Minimax().generator_loss(fake, real))
