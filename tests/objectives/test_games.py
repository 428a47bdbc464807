"""The games against closed forms: gan_theory golden values, section A1 and A2."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from aigc_lab.objectives.games import Game, Hinge, Minimax, NonSaturating

N = 200_000
GAMES = [Minimax(), NonSaturating(), Hinge()]


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
