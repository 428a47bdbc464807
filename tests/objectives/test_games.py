"""The games against closed forms: gan_theory golden values, section A1 and A2."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from aigc_lab.minimax import exact
from aigc_lab.objectives.games import (
    Game,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    Wasserstein,
)

N = 200_000
LEAST_SQUARES = LeastSquares(fake_label=-1.0, real_label=1.0, goal=0.0)
GAMES = [Minimax(), NonSaturating(), Hinge(), Wasserstein(), Relativistic()]


def quantiles(law: Normal) -> Tensor:
    """A sample without noise: means over it are integrals, to about 1/N."""
    return law.icdf((torch.arange(N, dtype=torch.float64) + 0.5) / N)


P = quantiles(Normal(torch.tensor(0.0, dtype=torch.float64), 1.0))


@pytest.mark.parametrize(
    ("mean", "sd", "value"),
    [(1.0, 1.0, -1.163451397), (0.0, 2.0, -1.200827598), (3.0, 1.0, -0.332739748)],
    ids=["S1", "S2", "S3"],
)
@pytest.mark.parametrize("game", [Minimax(), NonSaturating()])
def test_at_the_optimal_discriminator_the_value_is_2_jsd_minus_log_4(
    game: Game, mean: float, sd: float, value: float
) -> None:
    real_law, fake_law = Normal(0.0, 1.0), Normal(mean, sd)
    q = P * sd + mean

    def optimal_logit(x: Tensor) -> Tensor:
        return real_law.log_prob(x) - fake_law.log_prob(x)

    loss = game.discriminator_loss(optimal_logit(P), optimal_logit(q))
    assert -float(loss) == pytest.approx(value, abs=2e-4)


def test_any_other_discriminator_reaches_less_by_the_exact_gap() -> None:
    """S1 with logit 0.3 - 0.7x: the gap is the integral of (p+q) KL(Ber(D*) || Ber(D)), 0.016839194."""
    q = P + 1
    loss = Minimax().discriminator_loss(0.3 - 0.7 * P, 0.3 - 0.7 * q)
    assert -1.163451397 + float(loss) == pytest.approx(0.016839194, abs=1e-4)


def test_hinge_at_its_optimum_is_2_minus_2_tv() -> None:
    """S1: D* = sign(p - q), value -1.234150155."""
    q = P + 1
    loss = Hinge().discriminator_loss((0.5 - P).sign(), (0.5 - q).sign())
    assert -float(loss) == pytest.approx(-1.234150155, abs=1e-4)


@pytest.mark.parametrize(
    ("theta", "saturating", "non_saturating"),
    [(0.5, 0.235263506, 0.264736494), (1, 0.397972867, 0.602027133), (4, 0.137194818, 3.86280518)],
)
def test_generator_gradients_of_a_shifted_gaussian(theta: float, saturating: float, non_saturating: float) -> None:
    """Table A2: at D = D*, with D held fixed, moving q = N(theta, 1)."""
    for game, expected in ((Minimax(), saturating), (NonSaturating(), non_saturating)):
        shift = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        logits = theta**2 / 2 - theta * (P + shift)  # log p/q at the present theta
        game.generator_loss(logits, logits.detach()).backward()
        assert shift.grad == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("game", GAMES, ids=lambda g: type(g).__name__)
def test_losses_are_finite_and_lead_the_right_way_for_extreme_logits(game: Game) -> None:
    fake = torch.tensor([-200.0, 0.0, 200.0], requires_grad=True)
    real = torch.tensor([-200.0, 0.0, 200.0], requires_grad=True)
    game.discriminator_loss(real, fake).backward()
    assert torch.isfinite(real.grad).all() and torch.isfinite(fake.grad).all()
    assert (real.grad <= 0).all() and (fake.grad >= 0).all(), "D must push real up and fake down"
    fake.grad = None
    game.generator_loss(fake, real.detach()).backward()
    assert (fake.grad <= 0).all(), "G must push its samples up"


def test_an_undecided_discriminator() -> None:
    zero = torch.zeros(5)
    assert float(Minimax().discriminator_loss(zero, zero)) == pytest.approx(math.log(4))
    assert float(Minimax().generator_loss(zero, zero)) == pytest.approx(-math.log(2))
    assert float(NonSaturating().generator_loss(zero, zero)) == pytest.approx(math.log(2))
    assert float(Hinge().discriminator_loss(zero, zero)) == 2.0
    assert float(Wasserstein().discriminator_loss(zero, zero)) == 0.0
    assert float(Relativistic().discriminator_loss(zero, zero)) == pytest.approx(math.log(2))
    assert float(Relativistic().generator_loss(zero, zero)) == pytest.approx(math.log(2))


@pytest.mark.parametrize(("mean", "sd"), [(1.0, 1.0), (0.0, 2.0), (3.0, 1.0)], ids=["S1", "S2", "S3"])
def test_least_squares_at_its_optimum(mean: float, sd: float) -> None:
    """D* = (p - q)/(p + q) = tanh(½ log p/q), and the loss is 1 - C(G); for S1 it is 1 - 0.408108531/2."""
    real_law, fake_law = Normal(0.0, 1.0), Normal(mean, sd)

    def optimal(x: Tensor) -> Tensor:
        return ((real_law.log_prob(x) - fake_law.log_prob(x)) / 2).tanh()

    loss = LEAST_SQUARES.discriminator_loss(optimal(P), optimal(P * sd + mean))
    assert 1 - float(loss) == pytest.approx(exact.least_squares_value(real_law, fake_law), abs=1e-4)
    if (mean, sd) == (1.0, 1.0):
        assert 1 - float(loss) == pytest.approx(0.408108531 / 2, abs=1e-4)


def test_least_squares_labels() -> None:
    game = LeastSquares(fake_label=0.0, real_label=1.0, goal=1.0)
    logits = torch.tensor([0.5, 2.0])
    assert float(game.discriminator_loss(logits, logits)) == pytest.approx((0.625 + 2.125) / 2)
    assert float(game.generator_loss(logits, logits)) == pytest.approx(0.625 / 2)


@pytest.mark.parametrize(("mean", "sd", "value"), [(1.0, 1.0, 1.0), (0.0, 2.0, 0.797885)], ids=["S1", "S2"])
def test_wasserstein_at_its_best_critic(mean: float, sd: float, value: float) -> None:
    """S1: D(x) = -x. S2: D(x) = -|x|. Both are 1-Lipschitz, and reach W1."""
    fake = P * sd + mean
    critic = torch.neg if mean else lambda x: -x.abs()
    loss = Wasserstein().discriminator_loss(critic(P), critic(fake))
    assert -float(loss) == pytest.approx(value, abs=1e-4)


def test_relativistic_at_its_optimum_is_its_exact_value() -> None:
    """S1. Any real point meets any fake one: quantiles in two unrelated orders."""
    real_law, fake_law = Normal(0.0, 1.0), Normal(1.0, 1.0)
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    loss = Relativistic().discriminator_loss(0.5 - P, 0.5 - (P + 1)[shuffled])
    assert -float(loss) == pytest.approx(exact.relativistic_value(real_law, fake_law), abs=2e-3)


def test_relativistic_games_leave_the_offset_of_the_discriminator_free() -> None:
    """Both losses are the same for D + c, so both logits must come from one D."""
    real, fake, game = torch.randn(7), torch.randn(7), Relativistic()
    torch.testing.assert_close(game.discriminator_loss(real + 5, fake + 5), game.discriminator_loss(real, fake))
    torch.testing.assert_close(game.generator_loss(fake + 5, real + 5), game.generator_loss(fake, real))
    assert not torch.allclose(game.generator_loss(fake + 5, real), game.generator_loss(fake, real))


@pytest.mark.parametrize("game", [*GAMES, LEAST_SQUARES], ids=lambda g: type(g).__name__)
def test_dirac_at_the_equilibrium_both_players_rest(game: Game) -> None:
    """p = q and a constant D: nothing pulls a sample, and no slope of D pays."""
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    game.discriminator_loss(slope * P, slope * P).backward()
    assert abs(float(slope.grad)) < 1e-9
    place = torch.zeros((), dtype=torch.float64, requires_grad=True)
    game.generator_loss(0.0 * (P + place), 0.0 * P).backward()
    assert float(place.grad) == 0.0
