"""Every row of the reference's table of dynamics (section A3): eigenvalues, rates, limit sets."""

import math

import pytest
import torch
from torch import Tensor

from aigc_lab.minimax import games
from aigc_lab.objectives.games import Relativistic, Wasserstein
from aigc_lab.objectives.penalties import R1, GradientPenalty, Penalty

ORIGIN = torch.zeros(2, dtype=torch.float64)
START = torch.ones(2, dtype=torch.float64)


def eigenvalues(f: games.Field, size: int = 2) -> list[complex]:
    return games.eigenvalues(f, torch.zeros(size, dtype=torch.float64)).tolist()


def radii(update: games.Update, n: int, start: Tensor = START) -> Tensor:
    return games.orbit(update, start, n)[:, :2].norm(dim=1)


def modulus(update: games.Update, size: int = 2) -> float:
    return max(abs(value) for value in eigenvalues(update, size))


def test_the_flow_of_a_gan_circles() -> None:
    assert eigenvalues(games.dirac_gan) == pytest.approx([-0.5j, 0.5j])
    path = games.flow(games.dirac_gan, START, [0.0, 100.0, 200.0])
    assert path.norm(dim=1).tolist() == pytest.approx([math.sqrt(2)] * 3, abs=1e-7)
    period = 4 * math.pi
    small = games.flow(games.dirac_gan, 1e-3 * START, [0.0, period])
    torch.testing.assert_close(small[1], small[0], atol=1e-8, rtol=0)


@pytest.mark.parametrize("step", [0.02, 0.2, 1.0])
def test_simultaneous_steps_of_a_gan_spiral_outwards_at_an_exact_rate(step: float) -> None:
    assert eigenvalues(games.simultaneous(games.dirac_gan, step)) == pytest.approx(
        [1 - step * 0.5j, 1 + step * 0.5j]
    )
    path = games.orbit(games.simultaneous(games.dirac_gan, step), START, 300)
    slope = torch.sigmoid(-path.prod(1))
    square = path.square().sum(1)
    torch.testing.assert_close(square[1:], square[:-1] * (1 + (step * slope[:-1]) ** 2), rtol=1e-14, atol=0)


def test_simultaneous_steps_of_a_gan_from_1_1() -> None:
    r = radii(games.simultaneous(games.dirac_gan, 0.2), 500)
    assert (float(r[300]), float(r[500])) == pytest.approx((2.657658, 3.096949), abs=6e-7)


def test_simultaneous_steps_of_a_wgan_diverge() -> None:
    update = games.simultaneous(games.bilinear, 0.2)
    assert eigenvalues(update) == pytest.approx([1 - 0.2j, 1 + 0.2j])
    r = radii(update, 100, torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert float(r[100]) == pytest.approx(7.106683346, abs=6e-10)


def test_alternating_steps_of_a_wgan_conserve_an_ellipse() -> None:
    path = games.orbit(games.alternating(games.bilinear, 0.2), START, 2000)
    theta, psi = path.unbind(1)
    conserved = theta**2 + psi**2 - 0.2 * theta * psi
    assert float((conserved - 1.8).abs().max()) < 2e-14
    assert float(path.cumsum(0).norm(dim=1).max()) < 16  # so the averaged iterate is O(1/T)
    for step in (0.1, 1.0, 1.9):
        assert modulus(games.alternating(games.bilinear, step)) == pytest.approx(1, abs=1e-12)
    assert modulus(games.alternating(games.bilinear, 2.1)) > 1.3


def test_alternating_steps_of_a_gan_stay_and_never_arrive() -> None:
    update = games.alternating(games.dirac_gan, 0.2)
    assert modulus(update) == pytest.approx(1, abs=1e-12)
    r = radii(update, 5000)[4000:]
    assert (float(r.min()), float(r.max())) == pytest.approx((1.348, 1.428), abs=6e-4)


def test_the_non_saturating_flow_converges_like_an_inverse_root() -> None:
    """d(r²)/dt = -2 θψ tanh(θψ/2), so r² t -> 8; it wobbles within an orbit (the reference prints 0.9991)."""
    assert eigenvalues(games.dirac_nsgan) == pytest.approx([-0.5j, 0.5j])
    x = torch.tensor([0.7, 1.1], dtype=torch.float64)
    product = float(x.prod())
    change = 2 * float(x @ games.dirac_nsgan(x))
    assert change == pytest.approx(-2 * product * math.tanh(product / 2), abs=1e-14)
    end = games.flow(games.dirac_nsgan, START, [0.0, 5000.0])[-1]
    assert float(end.square().sum()) * 5000 / 8 == pytest.approx(0.99927, abs=6e-6)


@pytest.mark.parametrize(
    ("step", "start", "n", "low", "high"), [(0.2, 1.0, 3000, 0.624, 0.640), (0.02, 0.1415, 12000, 0.1997, 0.2002)]
)
def test_simultaneous_non_saturating_steps_stall_on_a_circle(
    step: float, start: float, n: int, low: float, high: float
) -> None:
    """The limit circle has radius √(2h): 0.632 and 0.2. How wide the ring still is depends on the start."""
    r = radii(games.simultaneous(games.dirac_nsgan, step), n, start * START)[-1500:]
    assert (float(r.min()), float(r.max())) == pytest.approx((low, high), rel=1e-3)
    assert float(r.mean()) == pytest.approx(math.sqrt(2 * step), rel=0.01)


@pytest.mark.parametrize(
    ("gamma", "rate", "after_100"),
    [(0.3, 0.974679, (9.899e-2, 5e-6)), (1.0, 0.9, (3.791e-4, 5e-8)), (2.0, 0.973205, None)],
)
def test_r1_converges_at_its_linear_rate(gamma: float, rate: float, after_100: tuple[float, float] | None) -> None:
    field = games.r1(games.dirac_gan, gamma=gamma)
    root = complex(gamma**2 / 4 - 0.25) ** 0.5
    assert eigenvalues(field) == pytest.approx(
        sorted([-gamma / 2 - root, -gamma / 2 + root], key=_order), abs=1e-7
    )
    update = games.simultaneous(field, 0.2)
    assert modulus(update) == pytest.approx(rate, abs=6e-7)
    if after_100:
        printed, half_a_digit = after_100
        assert float(radii(update, 100)[100]) == pytest.approx(printed, abs=half_a_digit)


def test_the_critical_damping_of_r1_is_1_and_of_both_penalties_one_half() -> None:
    def oscillates(field: games.Field) -> bool:
        return abs(eigenvalues(field)[0].imag) > 1e-6

    r1 = games.r1(games.dirac_gan, gamma=0.5)
    both = games.r1(r1, gamma=0.5)
    assert eigenvalues(both) == pytest.approx(eigenvalues(games.r1(games.dirac_gan, gamma=1.0)), abs=1e-7)
    assert oscillates(r1) and oscillates(games.r1(games.dirac_gan, gamma=0.99))
    assert not oscillates(games.r1(games.dirac_gan, gamma=1.01))
    assert not oscillates(games.r1(games.r1(games.dirac_gan, gamma=0.505), gamma=0.505))


@pytest.mark.parametrize("sd", [0.7, 1.4, 1.5, 2.0])
def test_instance_noise_damps_like_its_variance(sd: float) -> None:
    """-s²/4 ± √(s⁴/16 - 1/4): critical at s² = 2."""
    field = games.instance_noise(games.dirac_gan, sd=sd)
    root = complex(sd**4 / 16 - 0.25) ** 0.5
    expected = sorted([-(sd**2) / 4 - root, -(sd**2) / 4 + root], key=_order)
    assert eigenvalues(field) == pytest.approx(expected, abs=1e-10)
    assert (abs(expected[0].imag) > 0) == (sd**2 < 2)
    assert float(radii(games.simultaneous(field, 0.2), 300)[-1]) < 0.01


def test_consensus_converges() -> None:
    field = games.consensus(games.dirac_gan, gamma=1.0)
    assert eigenvalues(field) == pytest.approx([-0.25 - 0.5j, -0.25 + 0.5j])
    assert float(radii(games.simultaneous(field, 0.2), 500)[500]) == pytest.approx(2.6e-10, rel=0.02)


def test_consensus_descends_the_squared_norm_of_the_field() -> None:
    x = torch.tensor([0.7, -1.1], dtype=torch.float64)
    regulariser = games.consensus(games.dirac_gan, gamma=1.0)(x) - games.dirac_gan(x)
    gradient = torch.func.grad(lambda y: games.dirac_gan(y).square().sum() / 2)(x)
    torch.testing.assert_close(regulariser, -gradient)


def test_clipping_does_not_converge() -> None:
    r = radii(games.alternating(games.bilinear, 0.2, clip=1.0), 3000)[2000:]
    assert (float(r.min()), float(r.max())) == pytest.approx((0.949, 1.049), abs=6e-4)


@pytest.mark.parametrize(
    ("step", "discriminator_steps", "low", "high"),
    [(0.2, 1, 0.334, 0.455), (0.02, 1, 0.354, 0.438), (0.2, 5, 0.3, 0.3)],
)
def test_the_gradient_penalty_ends_on_a_limit_cycle(
    step: float, discriminator_steps: int, low: float, high: float
) -> None:
    field = games.gradient_penalty(games.bilinear, gamma=1.0, target=0.3)
    r = radii(games.alternating(field, step, discriminator_steps=discriminator_steps), 4000)[2500:]
    assert (float(r.min()), float(r.max())) == pytest.approx((low, high), abs=6e-4)


def test_the_gradient_penalty_with_simultaneous_steps() -> None:
    field = games.gradient_penalty(games.bilinear, gamma=1.0, target=0.3)
    r = radii(games.simultaneous(field, 0.2), 4000)[2500:]
    assert (float(r.min()), float(r.max())) == pytest.approx((0.424, 0.548), abs=6e-4)


def test_two_time_scales_still_diverge() -> None:
    steps = torch.tensor([0.05, 0.5], dtype=torch.float64)
    update = games.simultaneous(games.dirac_gan, steps)
    imaginary = math.sqrt(0.05 * 0.5) / 2
    assert eigenvalues(update) == pytest.approx([1 - 1j * imaginary, 1 + 1j * imaginary])
    energy = (games.orbit(update, START, 500).square() / steps).sum(1)
    assert (float(energy[0]), float(energy[500])) == pytest.approx((22, 60.18), abs=6e-3)
    assert (energy.diff() > 0).all()


def test_the_relativistic_game_is_the_minimax_game() -> None:
    """The lab's own loss with D(x) = -ψx, which G raises and D lowers: no penalty, no cure."""

    def loss(theta: Tensor, psi: Tensor) -> Tensor:
        return Relativistic().discriminator_loss(-psi * 0, -psi * theta)

    for state in torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)):
        slopes = torch.stack(torch.func.grad(loss, (0, 1))(*state))
        torch.testing.assert_close(games.dirac_relativistic(state), slopes * torch.tensor([1.0, -1.0]))
    assert eigenvalues(games.dirac_relativistic) == pytest.approx([-0.5j, 0.5j])
    spiral = radii(games.simultaneous(games.dirac_relativistic, 0.2), 500)
    assert float(spiral[500]) == pytest.approx(3.096949, abs=6e-7)
    r3 = games.r1(games.r1(games.dirac_relativistic, gamma=0.5), gamma=0.5)
    assert modulus(games.simultaneous(r3, 0.2)) == pytest.approx(0.9, abs=6e-7)


@pytest.mark.parametrize(
    ("penalty", "shift", "slope", "value"),
    [
        (GradientPenalty(weight=10.0), 1.0, 1.05, 1.025),
        (GradientPenalty(weight=0.1), 1.0, 6.0, 3.5),
        (GradientPenalty(weight=0.1), 2.0, 11.0, 12.0),
        (R1(gamma=0.5, final=1.0), 2.0, 4.0, 4.0),
        (R1(gamma=4.0, final=1.0), 1.0, 0.25, 0.125),
    ],
)
def test_penalised_critics_between_two_points(penalty: Penalty, shift: float, slope: float, value: float) -> None:
    """D(x) = wx on points δ apart, W1 = δ: w* = 1 + δ/2λ and value δ + δ²/4λ (WGAN-GP), δ/γ and δ²/2γ (R1)."""

    def loss(w: Tensor) -> Tensor:
        real, fake = torch.full((1, 1), shift, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
        ours = Wasserstein().discriminator_loss(w * real, w * fake)
        return ours + penalty(lambda x: w * x, real, fake, 0.0)

    w = torch.tensor(slope, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(w), w)
    assert float(gradient) == pytest.approx(0, abs=1e-6)
    assert -float(loss(w).detach()) == pytest.approx(value) and value > -float(loss(w + 0.01).detach())


def test_hinge_is_bilinear_near_its_equilibrium() -> None:
    assert eigenvalues(games.dirac_hinge) == pytest.approx([-1j, 1j])
    near = 0.1 * START
    torch.testing.assert_close(
        games.orbit(games.simultaneous(games.dirac_hinge, 0.2), near, 100),
        games.orbit(games.simultaneous(games.bilinear, 0.2), near, 100),
    )
    content = torch.tensor([2.0, 3.0], dtype=torch.float64)
    assert games.dirac_hinge(content).tolist() == [-3.0, 0.0]


def test_a_spectrally_normalised_critic_has_no_gradient_of_its_own() -> None:
    path = games.orbit(games.alternating(games.dirac_spectral_norm, 0.2), START, 50)
    assert (path[:, 1] == 1).all()
    assert float(path[50, 0]) == pytest.approx(1 - 50 * 0.2)  # past the data at full speed


# --- the bilinear game under better methods ---


@pytest.mark.parametrize(("step", "rate"), [(0.3, 0.958175), (0.5, 0.901388)])
def test_extragradient(step: float, rate: float) -> None:
    update = games.extragradient(games.bilinear, step)
    assert modulus(update) == pytest.approx(rate, abs=6e-7)
    assert modulus(update) == pytest.approx(math.sqrt(1 - step**2 + step**4))
    r = radii(update, 50)
    torch.testing.assert_close(r[1:] / r[:-1], torch.full((50,), modulus(update), dtype=torch.float64))


def test_extragradient_needs_a_step_below_1() -> None:
    assert (
        modulus(games.extragradient(games.bilinear, 0.999))
        < 1
        < modulus(games.extragradient(games.bilinear, 1.001))
    )


@pytest.mark.parametrize(("step", "rate"), [(0.1, 0.994936), (0.3, 0.948683), (0.5, 0.707107), (0.58, 1.006861)])
def test_optimistic_steps(step: float, rate: float) -> None:
    """Converge for h < 1/√3; the rate for h <= 1/2 is √((1 + √(1 - 4h²)) / 2)."""
    update = games.optimistic(games.bilinear, step)
    assert modulus(update, size=4) == pytest.approx(rate, abs=6e-7)
    r = radii(update, 400, games.at_rest(START))
    assert (float(r[400]) < float(r[200])) == (rate < 1)


def test_optimistic_steps_are_stable_up_to_one_over_root_3() -> None:
    edge = 1 / math.sqrt(3)
    stable, unstable = (games.optimistic(games.bilinear, edge + shift) for shift in (-1e-3, 1e-3))
    assert modulus(stable, size=4) < 1 < modulus(unstable, size=4)


def test_the_proximal_point_method_converges_for_every_step() -> None:
    for step in (0.2, 2.0, 20.0):
        assert modulus(games.proximal_point(games.bilinear, step)) == pytest.approx(1 / math.sqrt(1 + step**2))
    update = games.proximal_point(games.dirac_gan, 0.2)
    x = update(START)
    torch.testing.assert_close(x, START + 0.2 * games.dirac_gan(x))
    assert float(radii(update, 50)[50]) < 1.2


def test_negative_momentum_converges_and_positive_diverges() -> None:
    """Rates per step at h = 0.2. The exact one at β = -1/2 is 0.99406 (the reference prints 0.9944)."""
    negative, positive = (games.alternating_momentum(games.bilinear, 0.2, momentum=beta) for beta in (-0.5, 0.5))
    assert modulus(negative, size=4) == pytest.approx(0.99406, abs=6e-6)
    assert modulus(positive, size=4) == pytest.approx(1.0918, abs=6e-5)
    r = radii(negative, 500, games.at_rest(START))
    assert float(r[500] / r[250]) ** (1 / 250) == pytest.approx(modulus(negative, size=4), abs=1e-3)


def test_fields_and_updates_take_batches() -> None:
    states = torch.randn(7, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fields = [
        games.r1(games.dirac_gan, gamma=1.0),
        games.instance_noise(games.dirac_gan, sd=1.0),
        games.consensus(games.dirac_nsgan, gamma=1.0),
        games.gradient_penalty(games.bilinear, gamma=1.0, target=1.0),
    ]
    for field in fields:
        update = games.alternating(field, 0.1, clip=2.0)
        torch.testing.assert_close(update(states)[4, 1], update(states[4, 1]))


def _order(value: complex) -> tuple[float, float]:
    return round(value.real, 9), value.imag
