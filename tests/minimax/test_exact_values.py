"""Known answers: the reference's golden values to their printed digits, closed forms, and hard shapes."""

import math
from decimal import Decimal

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Cauchy,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    InverseGamma,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Pareto,
    Poisson,
    StudentT,
    TransformedDistribution,
    Uniform,
)
from torch.distributions.transforms import AffineTransform, ExpTransform

from aigc_lab.minimax import exact

LOG_2 = math.log(2)


def mixture(centres: list[float], sd: float) -> MixtureSameFamily:
    locations = torch.tensor(centres)
    return MixtureSameFamily(
        Categorical(torch.ones(len(centres))), Normal(locations, torch.full_like(locations, sd))
    )


def as_printed(value: float, digits: str) -> bool:
    """Whether the value is within half a unit of the last digit, and a little for its own rounding."""
    unit = Decimal((0, (1,), Decimal(digits).as_tuple().exponent))  # type: ignore[arg-type]
    return abs(Decimal(value) - Decimal(digits)) <= unit * Decimal("0.501")


def student(degrees: float) -> StudentT:
    return StudentT(torch.tensor(degrees, dtype=torch.float64))


def plane(x: float, y: float, scale: float = 1.0) -> MultivariateNormal:
    return MultivariateNormal(torch.tensor([float(x), float(y)]), scale * torch.eye(2))


TWO_MODES = mixture([-2.0, 2.0], 0.5)
PAIRS: dict[str, tuple[Distribution, Distribution]] = {
    "S1": (Normal(0.0, 1.0), Normal(1.0, 1.0)),
    "S2": (Normal(0.0, 1.0), Normal(0.0, 2.0)),
    "S3": (Normal(0.0, 1.0), Normal(3.0, 1.0)),
    "S5": (TWO_MODES, Normal(0.0, torch.tensor(4.25, dtype=torch.float64).sqrt())),
    "S6": (TWO_MODES, Normal(2.0, 0.5)),
}
# JSD, C(G), KL(p||q), KL(q||p), TV, Hell2, TRI, Bayes accuracy, sd_V: section A1
TABLE = {
    "S1": (
        *(0.111421482, -1.163451397, 0.5, 0.5),
        *(0.382924923, 0.235006195, 0.408108531, 0.691462461, 0.597437),
    ),
    "S2": (
        *(0.092733382, -1.200827598, 0.318147181, 0.806852819),
        *(
            0.322674569,
            0.211145618,
            0.319964493,
            0.661337284,
            0.49992,
        ),
    ),
    "S3": (
        *(0.526777307, -0.332739748, 4.5, 4.5),
        *(0.866385597, 1.350695065, 1.605514996, 0.933192799, 0.683669),
    ),
    "S5": (
        *(0.200985691, -0.984322979, 0.723553027, 2.097617211),
        *(
            0.514903376,
            0.470876374,
            0.673878395,
            0.757451688,
            0.671836,
        ),
    ),
    "S6": (
        *(0.215727928, -0.954838506, 15.306946355, 0.693053645),
        *(
            0.499968329,
            0.585562645,
            0.666591682,
            0.749984164,
            0.549384,
        ),
    ),
}
PRINTED = 6e-10
"""Half a unit of the ninth decimal, and rounding."""


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_pairs(name: str) -> None:
    p, q = PAIRS[name]
    jsd, value, kl, reverse_kl, tv, hellinger, triangle, accuracy, sd = TABLE[name]
    assert exact.jensen_shannon(p, q) == pytest.approx(jsd, abs=PRINTED)
    assert exact.minimax_value(p, q) == pytest.approx(value, abs=PRINTED)
    assert exact.value(exact.optimal_discriminator(p, q), p, q) == pytest.approx(value, abs=PRINTED)
    assert exact.KL.divergence(p, q) == pytest.approx(kl, abs=PRINTED)
    assert exact.REVERSE_KL.divergence(p, q) == pytest.approx(reverse_kl, abs=PRINTED)
    assert exact.total_variation(p, q) == pytest.approx(tv, abs=PRINTED)
    assert (1 + exact.total_variation(p, q)) / 2 == pytest.approx(accuracy, abs=PRINTED)
    assert exact.SQUARED_HELLINGER.divergence(p, q) == pytest.approx(hellinger, abs=PRINTED)
    assert exact.triangular_discrimination(p, q) == pytest.approx(triangle, abs=PRINTED)
    assert exact.minimax_value_sd(p, q) == pytest.approx(sd, abs=6e-7)


@pytest.mark.parametrize(
    ("shift", "jsd"),
    [
        (0.5, 0.030311301),
        (1, 0.111421482),
        (2, 0.336830820),
        (3, 0.526777307),
        (4, 0.632720194),
        (6, 0.689297933),
        (8, 0.693053645),
    ],
)
def test_shifted_gaussians(shift: float, jsd: float) -> None:
    assert exact.jensen_shannon(Normal(0.0, 1.0), Normal(float(shift), 1.0)) == pytest.approx(jsd, abs=PRINTED)


def test_gaussians_in_the_plane() -> None:
    assert exact.jensen_shannon(plane(0, 0), plane(1, 1)) == pytest.approx(0.201345472, abs=PRINTED)
    assert exact.minimax_value(plane(0, 0), plane(1, 1)) == pytest.approx(-0.983603418, abs=PRINTED)
    assert exact.minimax_value(plane(0, 0), plane(0, 0, 4)) == pytest.approx(-1.039663659, abs=PRINTED)
    assert exact.jensen_shannon(plane(0, 0), plane(0, 0, 4)) == pytest.approx(0.173315351, abs=PRINTED)
    assert exact.KL.divergence(plane(0, 0), plane(0, 0, 4)) == pytest.approx(0.636294361, abs=PRINTED)
    assert exact.REVERSE_KL.divergence(plane(0, 0), plane(0, 0, 4)) == pytest.approx(1.613705639, abs=PRINTED)


def test_a_fair_coin_and_a_loaded_one() -> None:
    assert exact.jensen_shannon(Bernoulli(0.5), Bernoulli(0.25)) == pytest.approx(0.033822076, abs=PRINTED)
    assert exact.minimax_value(Bernoulli(0.5), Bernoulli(0.25)) == pytest.approx(-1.318650210, abs=PRINTED)


EIGHT_MODES = (0.496929, 0.380396, 0.290305, 0.215762, 0.151796, 0.095603, 0.045407, 0)


@pytest.mark.parametrize(
    ("n", "k", "jsd"),
    [
        *((8, 1 + i, jsd) for i, jsd in enumerate(EIGHT_MODES)),
        (25, 24, 0.014067),
        (25, 20, 0.074882),
        (25, 15, 0.163897),
        (1000, 999, 0.000347),
        (1000, 693, 0.120393),
    ],
)
def test_lost_modes(n: int, k: int, jsd: float) -> None:
    """p uniform on n modes, q on k of them; what is lost has probability 0, not a small one."""
    p, q = Categorical(torch.ones(n)), Categorical((torch.arange(n) < k).float())
    assert exact.jensen_shannon(p, q) == pytest.approx(jsd, abs=6e-7)
    assert exact.REVERSE_KL.divergence(p, q) == pytest.approx(math.log(n / k), abs=1e-12)
    assert exact.KL.divergence(p, q) == (math.inf if k < n else pytest.approx(0, abs=1e-12))


def test_optimal_logits_of_gaussians_are_polynomials() -> None:
    x = torch.linspace(-30, 30, 101, dtype=torch.float64)
    torch.testing.assert_close(exact.optimal_discriminator(*PAIRS["S1"]).logit(x), 0.5 - x)
    torch.testing.assert_close(exact.optimal_discriminator(*PAIRS["S2"]).logit(x), LOG_2 - 3 * x.square() / 8)
    torch.testing.assert_close(exact.optimal_discriminator(*PAIRS["S1"])(x), (0.5 - x).sigmoid())


def test_any_other_discriminator_falls_short_by_the_mean_bernoulli_divergence() -> None:
    def discriminator(x: Tensor) -> Tensor:
        return (0.3 - 0.7 * x).sigmoid()

    gap = exact.value_gap(discriminator, *PAIRS["S1"])
    assert gap == pytest.approx(0.016839194, abs=PRINTED)
    shortfall = exact.minimax_value(*PAIRS["S1"]) - exact.value(discriminator, *PAIRS["S1"])
    assert gap == pytest.approx(shortfall, abs=1e-12)


def test_an_undecided_and_a_certain_discriminator() -> None:
    assert exact.value(lambda x: 0.5, *PAIRS["S3"]) == pytest.approx(-math.log(4), abs=1e-12)
    assert exact.value(lambda x: (x < 1.5).double(), *PAIRS["S3"]) == -math.inf
    assert exact.value_gap(lambda x: (x < 1.5).double(), *PAIRS["S3"]) == math.inf
    disjoint = Uniform(0.0, 1.0), Uniform(2.0, 3.0)
    assert exact.value(lambda x: (x < 1.5).double(), *disjoint) == pytest.approx(0, abs=1e-12)
    assert exact.value_gap(lambda x: (x < 1.5).double(), *disjoint) == pytest.approx(0, abs=1e-12)


def test_a_steep_discriminator_keeps_its_logits() -> None:
    """D = σ(-100x) rounds to 1 on 40 % of q; E_p softplus(100x) + E_q softplus(-100x) does not."""
    p, q = Normal(1.0, 1.0), Normal(0.0, 1.0)
    steep = exact.Discriminator(lambda x: 100 * x)
    expected = -(100 * (0.0833154706 + 0.3989422804))  # E_p max(0, -x) + E_q max(0, x), up to π²/6 / 100
    assert exact.value(steep, p, q) == pytest.approx(expected, abs=0.02)
    assert exact.value_gap(steep, p, q) == pytest.approx(exact.minimax_value(p, q) - exact.value(steep, p, q))


SIX = ("KL", "reverse KL", "Pearson χ²", "squared Hellinger", "Jensen-Shannon (2 JSD)", "GAN (2 JSD - log 4)")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("S1", (0.5, 0.5, math.e - 1, 0.235006195, 0.222842964, -1.163451397)),
        ("S3", (4.5, 4.5, 8102.083928, 1.350695065, 1.053554613, -0.332739748)),
    ],
)
def test_the_f_divergence_table(name: str, values: tuple[float, ...]) -> None:
    assert tuple(row.name for row in exact.F_DIVERGENCES) == SIX
    for row, value in zip(exact.F_DIVERGENCES, values, strict=True):
        assert row.divergence(*PAIRS[name]) == pytest.approx(value, abs=6e-10, rel=1e-10), row.name
        critic = row.optimal_critic(*PAIRS[name])
        assert row.dual_value(critic, *PAIRS[name]) == pytest.approx(value, abs=6e-10, rel=1e-10), row.name


@pytest.mark.parametrize("row", exact.F_DIVERGENCES, ids=lambda row: row.name)
def test_conjugate_optimum_and_activation_belong_to_f(row: exact.FDivergence) -> None:
    u = torch.logspace(-2, 2, 4001, dtype=torch.float64)
    t = row.optimal(u.log())
    young = row.f(u) + row.conjugate(t) - u * t
    torch.testing.assert_close(young, torch.zeros_like(u), atol=1e-10, rtol=0)  # equality at t = f'(u)
    some = t[::400, None]
    supremum = (u * some - row.f(u)).amax(1)
    torch.testing.assert_close(supremum, row.conjugate(some[:, 0]), atol=2e-5, rtol=1e-5)
    v = torch.linspace(-8, 8, 101, dtype=torch.float64)
    assert row.conjugate(row.activation(v)).isfinite().all()
    assert (row.activation(v).diff() > 0).all()
    assert float(row.f(torch.tensor(1.0))) == pytest.approx(-math.log(4) if "GAN" in row.name else 0, abs=1e-15)


def test_other_games_at_their_optimum() -> None:
    s1, s2, s3, s5 = (PAIRS[name] for name in ("S1", "S2", "S3", "S5"))
    assert 2 * exact.least_squares_value(*s1) == pytest.approx(0.408108531, abs=PRINTED)
    assert exact.hinge_value(*s1) == pytest.approx(-1.234150155, abs=PRINTED)
    assert exact.wasserstein_value(*s1) == pytest.approx(1, abs=1e-9)
    assert exact.wasserstein_value(*s2) == pytest.approx(math.sqrt(2 / math.pi), abs=1e-9)
    assert exact.wasserstein_value(*s3) == pytest.approx(3, abs=1e-9)
    assert exact.wasserstein_value(*s5) == pytest.approx(0.735206, abs=6e-7)
    assert exact.relativistic_value(*s1) == pytest.approx(-0.491801709, abs=PRINTED)
    assert exact.relativistic_value(*s1) + LOG_2 == pytest.approx(0.201345472, abs=PRINTED)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_the_relativistic_divergence_of_gaussians_is_that_of_a_longer_shift(shift: float) -> None:
    p, q, further = Normal(0.0, 1.0), Normal(shift, 1.0), Normal(torch.tensor(shift).double() * math.sqrt(2), 1.0)
    assert exact.relativistic_value(p, q) + LOG_2 == pytest.approx(exact.jensen_shannon(p, further), abs=1e-8)


@pytest.mark.parametrize(
    ("theta", "weight", "saturating", "non_saturating"),
    [
        (0.5, "0.470527012", "0.235263506", "0.264736494"),
        (1, "0.397972867", "0.397972867", "0.602027133"),
        (2, "0.224799755", "0.449599509", "1.55040049"),
        (3, "0.0986212511", "0.295863753", "2.70413625"),
        (4, "0.0342987044", "0.137194818", "3.86280518"),
        (6, "0.00207553987", "0.0124532392", "5.98754676"),
        (8, "4.9109e-05", "3.92875e-04", "7.99960713"),
        (10, "4.4641e-07", "4.46410e-06", "9.99999554"),
    ],
)
def test_the_table_of_gradients(theta: float, weight: str, saturating: str, non_saturating: str) -> None:
    p, q = Normal(0.0, 1.0), Normal(float(theta), 1.0)
    assert as_printed(exact.saturating_gradient(p, q), saturating)
    assert as_printed(exact.saturating_gradient(p, q) / theta, weight)
    assert as_printed(exact.non_saturating_gradient(p, q), non_saturating)


def test_the_saturating_gradient_peaks_near_1_6() -> None:
    def at(theta: float) -> float:
        return exact.saturating_gradient(Normal(0.0, 1.0), Normal(torch.tensor(theta).double(), 1.0))

    assert at(1.636) == pytest.approx(0.46732, abs=6e-6)
    assert at(1.636) > max(at(1.626), at(1.646))


def test_the_softened_reverse_kl() -> None:
    """KL(q || p) - 2 JSD = 2 KL(m || p), m the equal mixture: 0.277157036 for S1, 3.446445387 for S3."""
    for name, centre, golden in (("S1", 1.0, 0.277157036), ("S3", 3.0, 3.446445387)):
        p, q = PAIRS[name]
        assert exact.REVERSE_KL.divergence(p, q) - 2 * exact.jensen_shannon(p, q) == pytest.approx(
            golden, abs=1e-9
        )
        assert 2 * exact.KL.divergence(mixture([0.0, centre], 1.0), p) == pytest.approx(golden, abs=1e-9)


def test_the_tabular_generator_halves_its_distance_at_every_step() -> None:
    """Proposition 2 as an algorithm: one multiplicative step down log(1 - D*) is q <- (p + q)/2, so q - p halves
    and the JSD falls by a factor that tends to 4."""
    p, q = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.1, 0.1]], dtype=torch.float64)
    apart, path = q - p, []
    for step in range(12):
        torch.testing.assert_close(q - p, apart / 2**step, rtol=1e-9, atol=1e-15)
        path.append(exact.jensen_shannon(Categorical(p), Categorical(q)))
        best = exact.optimal_discriminator(Categorical(p), Categorical(q))(torch.arange(4))
        q = q * (-torch.log1p(-best)).exp()
        q = q / q.sum()
    assert path[-2] / path[-1] == pytest.approx(4, rel=1e-3)


# --- hard shapes, against closed forms ---


def test_heavy_tails() -> None:
    """KL of Cauchy laws is log(((a + b)² + shift²) / 4ab); W1 of a shift is the shift although no mean exists."""
    p, q = Cauchy(0.0, 1.0), Cauchy(1.0, 3.0)
    assert exact.KL.divergence(p, q) == pytest.approx(math.log(17 / 12), abs=1e-9)
    assert exact.KL.divergence(q, p) == pytest.approx(math.log(17 / 12), abs=1e-9)
    assert exact.wasserstein_value(Cauchy(0.0, 1.0), Cauchy(2.5, 1.0)) == pytest.approx(2.5, abs=1e-7)
    assert exact.wasserstein_value(Cauchy(0.0, 1.0), Normal(0.0, 1.0)) == math.inf
    assert exact.KL.divergence(Cauchy(0.0, 1.0), Normal(0.0, 1.0)) == math.inf
    assert exact.PEARSON.divergence(StudentT(2.0), Normal(0.0, 1.0)) == math.inf
    assert exact.KL.divergence(StudentT(2.0), Normal(0.0, 1.0)) == math.inf
    # out to 1e150, where densities of 1e-310 are not zero for what they are multiplied with
    assert exact.KL.divergence(student(2.05), Normal(0.0, 1.0)) == pytest.approx(19.472437818886256, rel=1e-7)
    assert exact.wasserstein_value(Pareto(1.0, 1.5), Pareto(2.0, 1.5)) == pytest.approx(3.0, rel=1e-9)
    wide = torch.tensor([0.0, 1.0, 17.0], dtype=torch.float64)
    for compute, p, q in (
        (exact.KL.divergence, student(2.02), Normal(0.0, 1.0)),
        (exact.wasserstein_value, Pareto(1.0, 1.02), Pareto(2.0, 1.02)),
        (exact.wasserstein_value, LogNormal(wide[0], wide[2]), LogNormal(wide[1], wide[2])),
    ):
        with pytest.raises(ValueError, match="the tails are too heavy"):
            compute(p, q)  # finite, but not within reach
    assert exact.jensen_shannon(StudentT(0.2), StudentT(0.2)) == 0


def test_narrow_modes_far_apart() -> None:
    """Three modes 10^6 widths apart, one of them moved: a third of the mass is disjoint."""
    p, q = mixture([-1000.0, 0.0, 1000.0], 1e-3), mixture([-1000.0, 5.0, 1000.0], 1e-3)
    assert exact.jensen_shannon(p, q) == pytest.approx(LOG_2 / 3, abs=1e-7)
    assert exact.wasserstein_value(p, q) == pytest.approx(5 / 3, abs=1e-7)


def test_an_unlikely_component_is_found() -> None:
    parts = Normal(torch.tensor([0.0, 300.0]), torch.tensor([1.0, 1e-3]))
    p = MixtureSameFamily(Categorical(torch.tensor([1 - 1e-4, 1e-4], dtype=torch.float64)), parts)
    assert exact.total_variation(p, Normal(0.0, 1.0)) == pytest.approx(1e-4, abs=1e-8)


def test_edges_of_supports() -> None:
    assert exact.jensen_shannon(Uniform(0.0, 1.0), Uniform(0.5, 1.5)) == pytest.approx(LOG_2 / 2, abs=1e-9)
    assert exact.KL.divergence(Uniform(0.0, 1.0), Uniform(0.0, 3.0)) == pytest.approx(math.log(3), abs=1e-9)
    assert exact.REVERSE_KL.divergence(Uniform(0.0, 1.0), Uniform(0.0, 3.0)) == math.inf
    assert exact.KL.divergence(Exponential(1.0), Exponential(3.0)) == pytest.approx(2 - math.log(3), abs=1e-9)
    assert exact.total_variation(Exponential(1.0), Normal(-50.0, 1.0)) == pytest.approx(1, abs=1e-9)
    disjoint = Uniform(0.0, 1.0), Uniform(2.0, 3.0)
    assert exact.minimax_value(*disjoint) == pytest.approx(0, abs=1e-9)
    assert exact.wasserstein_value(*disjoint) == pytest.approx(2, abs=1e-9)
    assert exact.relativistic_value(*disjoint) == pytest.approx(0, abs=1e-9)
    thirds = MixtureSameFamily(
        Categorical(torch.ones(3)), Uniform(torch.tensor([0.0, 2, 4]), torch.tensor([1.0, 3, 5]))
    )
    assert exact.KL.divergence(Uniform(0.0, 1.0), thirds) == pytest.approx(math.log(3), abs=1e-9)


def test_densities_that_are_infinite_at_an_edge() -> None:
    """KL(Gamma(a, 1) || Exp(1)) = (a - 1) ψ(a) - log Γ(a); KL(U || Beta(½, ½)) = log π - 1."""
    a = torch.tensor(0.1, dtype=torch.float64)
    known = float((a - 1) * torch.digamma(a) - torch.lgamma(a))
    assert exact.KL.divergence(Gamma(a, 1.0), Exponential(1.0)) == pytest.approx(known, abs=1e-7)
    arcsine = exact.KL.divergence(Uniform(0.0, 1.0), Beta(0.5, 0.5))
    assert arcsine == pytest.approx(math.log(math.pi) - 1, abs=1e-7)
    assert exact.jensen_shannon(InverseGamma(1.0, 1.0), InverseGamma(1.0, 2.0)) == pytest.approx(
        exact.jensen_shannon(Exponential(1.0), Exponential(2.0)), abs=1e-9
    )


def test_densities_in_the_plane() -> None:
    def box(low: float, high: float) -> Independent:
        return Independent(Uniform(torch.full((2,), low), torch.full((2,), high)), 1)

    assert exact.total_variation(box(0.0, 1.0), box(0.5, 1.5)) == pytest.approx(0.75, abs=1e-6)
    tails = (
        Independent(Cauchy(torch.zeros(2), torch.ones(2)), 1),
        Independent(Cauchy(torch.zeros(2), torch.tensor([1.0, 3.0])), 1),
    )
    assert exact.KL.divergence(*tails) == pytest.approx(math.log(16 / 12), abs=1e-6)
    ridge = MultivariateNormal(torch.zeros(2), torch.tensor([[1, 0.999], [0.999, 1]], dtype=torch.float64))
    assert exact.KL.divergence(ridge, plane(0, 0)) == pytest.approx(-0.5 * math.log(1 - 0.999**2), abs=1e-6)
    modes = Independent(Normal(torch.tensor([[-4.0, 0.0], [4.0, 0.0]]), torch.full((2, 2), 0.01)), 1)
    both = MixtureSameFamily(Categorical(torch.ones(2)), modes)
    one = Independent(Normal(torch.tensor([4.0, 0.0]), torch.full((2,), 0.01)), 1)
    assert exact.jensen_shannon(both, one) == pytest.approx(0.75 * math.log(4 / 3), abs=1e-6)
    assert exact.REVERSE_KL.divergence(both, one) == pytest.approx(LOG_2, abs=1e-6)


def test_counts() -> None:
    """KL of Poisson laws is a log(a/b) + b - a, over all integers."""
    assert exact.KL.divergence(Poisson(3.0), Poisson(5.0)) == pytest.approx(3 * math.log(3 / 5) + 2, abs=1e-9)
    assert exact.wasserstein_value(Poisson(3.0), Poisson(5.0)) == pytest.approx(2, abs=1e-9)
    assert exact.jensen_shannon(Categorical(torch.ones(2)), Categorical(torch.ones(4))) == pytest.approx(
        exact.jensen_shannon(Uniform(0.0, 2.0), Uniform(0.0, 4.0)), abs=1e-7
    )


def test_mixtures_of_discrete_laws_are_the_table_of_their_mixed_probabilities() -> None:
    def mixed(components: Distribution) -> MixtureSameFamily:
        return MixtureSameFamily(Categorical(torch.tensor([0.25, 0.75])), components)

    coins = mixed(Bernoulli(torch.tensor([0.2, 0.6])))  # 0.25 * 0.2 + 0.75 * 0.6 = 0.5
    assert exact.jensen_shannon(coins, Bernoulli(0.25)) == pytest.approx(0.033822076, abs=1e-8)
    tables = mixed(Categorical(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])))
    assert exact.jensen_shannon(tables, Categorical(torch.tensor([2.0, 3.0, 3.0]))) == pytest.approx(0, abs=1e-14)
    counts = mixed(Poisson(torch.tensor([3.0, 50.0], dtype=torch.float64)))
    n = torch.arange(200, dtype=torch.float64)
    rates = torch.tensor([3.0, 50.0], dtype=torch.float64)
    table = Categorical(Poisson(rates).log_prob(n[:, None]).exp() @ torch.tensor([0.25, 0.75]).double())
    assert exact.jensen_shannon(counts, Poisson(5.0)) == pytest.approx(exact.jensen_shannon(table, Poisson(5.0)))
    assert exact.wasserstein_value(counts, Poisson(5.0)) > 0.75 * 44


def test_float_in_float_out() -> None:
    best = exact.optimal_discriminator(*PAIRS["S1"])
    row, critic = exact.REVERSE_KL, exact.KL.optimal_critic(*PAIRS["S1"])
    for found, known in (
        (best(0.0), 1 / (1 + math.exp(-0.5))),
        (best(0), 1 / (1 + math.exp(-0.5))),
        (exact.Discriminator(lambda x: 0.3 - x)(0.3), 0.5),
        (row.f(2.0), -LOG_2),
        (row.conjugate(-1.0), -1.0),
        (row.activation(-1.0), -math.e),
        (row.optimal(-1.0), -math.e),
        (critic(0.5), 1.0),
    ):
        assert isinstance(found, float) and found == pytest.approx(known, abs=1e-7)
    assert best(torch.zeros(3)).shape == row.conjugate(-torch.ones(3)).shape == (3,)


def test_a_pushed_forward_law_is_zero_where_its_map_does_not_reach() -> None:
    """3 + 2 Exp(1) has no density below 3, though torch's own log_prob is finite there."""
    shifted = TransformedDistribution(Exponential(1.0), AffineTransform(3.0, 2.0))
    assert exact.total_variation(shifted, Uniform(0.0, 3.0)) == pytest.approx(1, abs=1e-9)
    lognormal = TransformedDistribution(Normal(0.0, 1.0), [ExpTransform(), AffineTransform(3.0, 2.0)])
    assert exact.total_variation(lognormal, Uniform(0.0, 3.0)) == pytest.approx(1, abs=1e-9)


def test_laws_and_random_state_are_left_as_they_were() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    law = Normal(0.0, scale * 1.5)
    state = torch.get_rng_state()
    exact.jensen_shannon(law, Normal(0.0, 1.0))
    assert torch.equal(state, torch.get_rng_state())
    assert law.scale.dtype == torch.float32 and law.scale.requires_grad
