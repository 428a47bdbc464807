"""What must hold for every pair of laws, over random pairs: on the line (mixtures, heavy tails, edges), in the
plane and discrete."""

import math

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch.distributions import (
    Categorical,
    Cauchy,
    Distribution,
    Exponential,
    Gamma,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
    Uniform,
)
from torch.distributions.transforms import AffineTransform, ExpTransform, SigmoidTransform, Transform

from aigc_lab.minimax import exact

LOG_2 = math.log(2)
Pair = tuple[Distribution, Distribution]


def number(low: float, high: float) -> SearchStrategy[torch.Tensor]:
    return st.floats(low, high).map(lambda value: torch.tensor(value, dtype=torch.float64))


LOCATION, SCALE = number(-2, 2), number(0.5, 2)


@st.composite
def mixtures(draw: DrawFn) -> Distribution:
    k = draw(st.integers(2, 4))
    stacked = [torch.stack(draw(st.lists(values, min_size=k, max_size=k))) for values in (SCALE, LOCATION, SCALE)]
    return MixtureSameFamily(Categorical(stacked[0]), Normal(stacked[1], stacked[2]))


SMOOTH = st.one_of(st.builds(Normal, LOCATION, SCALE), mixtures())
HEAVY = st.one_of(st.builds(Cauchy, LOCATION, SCALE), st.builds(StudentT, number(1, 9), LOCATION, SCALE))
WHOLE_LINE = st.one_of(SMOOTH, st.builds(Laplace, LOCATION, SCALE), HEAVY)
HALF_LINE = st.one_of(st.builds(Exponential, SCALE), st.builds(Gamma, number(0.5, 4), SCALE))
ON_THE_LINE = st.one_of(
    WHOLE_LINE, HALF_LINE, st.builds(lambda low, width: Uniform(low, low + width), LOCATION, SCALE)
)


@st.composite
def in_the_plane(draw: DrawFn) -> Distribution:
    root = torch.diag(torch.stack([draw(SCALE), draw(SCALE)]))
    root[1, 0] = draw(LOCATION)
    return MultivariateNormal(torch.stack([draw(LOCATION), draw(LOCATION)]), scale_tril=root)


@st.composite
def tables(draw: DrawFn, k: int = 5) -> Distribution:
    return Categorical(
        torch.tensor(draw(st.lists(st.integers(0, 9), min_size=k, max_size=k).filter(any))).double()
    )


LINE_PAIRS = st.tuples(ON_THE_LINE, ON_THE_LINE)
PAIRS = st.one_of(LINE_PAIRS, LINE_PAIRS, st.tuples(in_the_plane(), in_the_plane()), st.tuples(tables(), tables()))

LIGHT = st.one_of(SMOOTH, HALF_LINE, st.builds(Laplace, LOCATION, SCALE))
WITHIN_FLOATS = st.one_of(
    st.tuples(LIGHT, LIGHT),
    st.tuples(HEAVY, HEAVY),
    st.tuples(in_the_plane(), in_the_plane()),
    st.tuples(tables(), tables()),
)
"""Pairs whose p/q does not overflow where either has mass."""


@st.composite
def discriminators(draw: DrawFn) -> exact.Discriminator:
    """A bounded wave of the coordinates' sum, which may lie anywhere but is never certain; it rests in the tails,
    as no quadrature follows a wave to where a Cauchy law's last millionth lies."""
    a, b, c = (float(draw(number(-3, 3))) for _ in range(3))

    def logit(x: torch.Tensor) -> torch.Tensor:
        total = x if x.dim() == 1 else x.sum(1)
        return a + b * (total / 2).tanh() + c * (4 * (total / 4).tanh()).sin()

    return exact.Discriminator(logit)


def examples(n: int) -> settings:
    return settings(max_examples=n, deadline=None, derandomize=True, phases=[Phase.generate])


@examples(15)
@given(PAIRS, discriminators())
def test_no_discriminator_exceeds_the_optimal_one_and_the_gap_is_exact(laws: Pair, d: exact.Discriminator) -> None:
    best, value = exact.minimax_value(*laws), exact.value(d, *laws)
    assert value <= best + 1e-9
    assert exact.value_gap(d, *laws) == pytest.approx(best - value, abs=1e-7)
    assert exact.value(lambda x: d(x), *laws) == pytest.approx(value, abs=1e-9)  # from probabilities alone


@examples(15)
@given(PAIRS)
def test_the_optimal_discriminator_reaches_the_value_of_the_game(laws: Pair) -> None:
    best = exact.optimal_discriminator(*laws)
    assert exact.value(best, *laws) == pytest.approx(exact.minimax_value(*laws), abs=1e-7)
    assert exact.value_gap(best, *laws) == pytest.approx(0, abs=1e-9)


@examples(15)
@given(PAIRS)
def test_jensen_shannon_is_symmetric_bounded_and_zero_between_equals(laws: Pair) -> None:
    p, q = laws
    jsd = exact.jensen_shannon(p, q)
    assert 0 <= jsd <= LOG_2
    assert -math.log(4) <= exact.minimax_value(p, q) <= 0
    assert exact.jensen_shannon(q, p) == pytest.approx(jsd, abs=1e-9)
    assert exact.jensen_shannon(p, p) == pytest.approx(0, abs=1e-12)


@examples(10)
@given(PAIRS)
def test_divergences_bound_each_other(laws: Pair) -> None:
    """Lin 1991: JSD <= log 2 · TV; Topsøe 2000: Δ/4 <= JSD <= log 2 · Δ/2; Le Cam: TV² <= H² - H⁴/4; Pinsker."""
    jsd, tv, delta = (
        exact.jensen_shannon(*laws),
        exact.total_variation(*laws),
        exact.triangular_discrimination(*laws),
    )
    hellinger, kl, slack = exact.SQUARED_HELLINGER.divergence(*laws), exact.KL.divergence(*laws), 1e-6
    assert jsd <= LOG_2 * tv + slack
    assert delta / 4 - slack <= jsd <= LOG_2 * delta / 2 + slack
    assert hellinger / 2 - slack <= tv and tv**2 <= hellinger - hellinger**2 / 4 + slack
    assert 2 * tv**2 <= kl + slack
    assert -2 <= exact.hinge_value(*laws) <= slack
    assert -slack <= exact.least_squares_value(*laws) <= 1 + slack


AFFINE = st.builds(AffineTransform, LOCATION, SCALE)
MAPS = st.one_of(
    st.tuples(AFFINE),
    st.tuples(st.sampled_from([ExpTransform(), SigmoidTransform()])),
    st.tuples(st.sampled_from([ExpTransform(), SigmoidTransform()]), AFFINE),
)


@examples(15)
@given(st.tuples(SMOOTH, SMOOTH), MAPS)
def test_a_shared_invertible_map_changes_nothing(laws: Pair, maps: tuple[Transform, ...]) -> None:
    pushed = [TransformedDistribution(law, list(maps)) for law in laws]
    assert exact.jensen_shannon(*pushed) == pytest.approx(exact.jensen_shannon(*laws), abs=1e-7)
    assert exact.total_variation(*pushed) == pytest.approx(exact.total_variation(*laws), abs=1e-7)
    assert exact.KL.divergence(*pushed) == pytest.approx(exact.KL.divergence(*laws), abs=1e-6, rel=1e-6)


@examples(10)
@given(in_the_plane(), in_the_plane(), in_the_plane())
def test_a_shared_linear_map_of_the_plane_changes_nothing(
    p: Distribution, q: Distribution, r: Distribution
) -> None:
    def moved(law: Distribution) -> Distribution:
        return MultivariateNormal(r.scale_tril @ law.mean + r.mean, scale_tril=r.scale_tril @ law.scale_tril)

    assert exact.jensen_shannon(moved(p), moved(q)) == pytest.approx(exact.jensen_shannon(p, q), abs=1e-6)


@pytest.mark.parametrize("row", exact.F_DIVERGENCES, ids=lambda row: row.name)
def test_a_divergence_is_the_best_value_of_its_dual(row: exact.FDivergence) -> None:
    @examples(10)
    @given(WITHIN_FLOATS, discriminators())
    def check(laws: Pair, d: exact.Discriminator) -> None:
        divergence = row.divergence(*laws)
        assume(math.isfinite(divergence))
        assert row.dual_value(row.optimal_critic(*laws), *laws) == pytest.approx(divergence, abs=1e-6, rel=1e-6)
        other = row.dual_value(lambda x: row.activation(d.logit(x)), *laws)
        assert other <= divergence + 1e-7 * (1 + abs(other))

    check()


@examples(12)
@given(st.tuples(in_the_plane(), in_the_plane()))
def test_kl_of_gaussians_in_the_plane_is_its_closed_form(laws: Pair) -> None:
    known = float(torch.distributions.kl_divergence(*laws))
    assert exact.KL.divergence(*laws) == pytest.approx(known, abs=1e-6, rel=1e-6)


@examples(6)
@given(st.tuples(tables(), tables()))
def test_a_table_and_the_steps_of_its_histogram_are_one_law(laws: Pair) -> None:
    edges = torch.arange(6, dtype=torch.float64)
    steps = [MixtureSameFamily(law, Uniform(edges[:-1], edges[1:])) for law in laws]
    assert exact.jensen_shannon(*steps) == pytest.approx(exact.jensen_shannon(*laws), abs=1e-7)
    assert exact.KL.divergence(*steps) == pytest.approx(exact.KL.divergence(*laws), abs=1e-7)
    gap = (laws[0].probs - laws[1].probs).cumsum(0)  # F_p - F_q at the ends of the steps, linear between
    start, end = torch.cat([torch.zeros(1), gap[:-1]]), gap
    total = start.abs() + end.abs()
    crossing = (start.square() + end.square()) / total.clamp(min=1e-300)
    w1 = torch.where(start * end < 0, crossing, total).sum() / 2
    assert exact.wasserstein_value(*steps) == pytest.approx(float(w1), abs=1e-7)
    assert exact.wasserstein_value(*laws) == pytest.approx(float(gap[:-1].abs().sum()), abs=1e-12)


@examples(12)
@given(st.one_of(st.tuples(tables(), tables()), st.tuples(SMOOTH, SMOOTH)))
def test_the_relativistic_divergence_lies_between_jensen_shannon_and_log_2(laws: Pair) -> None:
    divergence = exact.relativistic_value(*laws) + LOG_2
    assert exact.jensen_shannon(*laws) - 1e-6 <= divergence <= LOG_2 + 1e-6


@examples(12)
@given(ON_THE_LINE, SMOOTH, SMOOTH, number(-3, 3))
def test_wasserstein_is_a_metric_that_sees_shifts(
    any_law: Distribution, p: Distribution, q: Distribution, shift: torch.Tensor
) -> None:
    moved = TransformedDistribution(any_law, AffineTransform(shift, 1.0))
    assert exact.wasserstein_value(any_law, moved) == pytest.approx(abs(float(shift)), abs=1e-6)
    middle = Normal(0.0, 1.0)
    there_and_back = exact.wasserstein_value(p, middle) + exact.wasserstein_value(middle, q)
    assert abs(float(p.mean - q.mean)) - 1e-7 <= exact.wasserstein_value(p, q) <= there_and_back + 1e-7


@examples(10)
@given(st.tuples(WHOLE_LINE, SMOOTH))
def test_gradients_are_the_slopes_of_what_they_descend(laws: Pair) -> None:
    """Saturating: 2 JSD. Both add up to the slope of the reverse KL."""
    p, q = laws
    step = 1e-3
    behind, ahead = (TransformedDistribution(q, AffineTransform(s, 1.0)) for s in (-step, step))
    saturating, non_saturating = exact.saturating_gradient(p, q), exact.non_saturating_gradient(p, q)
    slope = (exact.jensen_shannon(p, ahead) - exact.jensen_shannon(p, behind)) / step
    assert saturating == pytest.approx(slope, abs=1e-5)
    kl_slope = (exact.REVERSE_KL.divergence(p, ahead) - exact.REVERSE_KL.divergence(p, behind)) / (2 * step)
    assert saturating + non_saturating == pytest.approx(kl_slope, abs=1e-4)
