"""The figures show what they say: their curves are compared with exact values."""

import io
import math

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from torch.distributions import Normal

from aigc_lab.minimax import exact, figures, games, line, modes, toy
from aigc_lab.minimax.figures import dynamics


def normal(mean: float, sd: float) -> Normal:
    return Normal(torch.tensor(mean, dtype=torch.float64), torch.tensor(sd, dtype=torch.float64))


P, Q = normal(0.0, 1.0), normal(1.0, 1.0)


def curve(figure: Figure, label: str) -> tuple[np.ndarray, np.ndarray]:
    (line,) = [
        line for axes in figure.axes for line in axes.get_lines() if str(line.get_label()).startswith(label)
    ]
    return np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)


def untrained(generator: nn.Module) -> toy.Snapshot:
    return toy.Snapshot(0, generator, nn.Linear(1, 1))


def test_figure_one_dashes_the_exact_discriminator() -> None:
    """A generator of known law, 1 + z/2 ~ N(1, 1/4)."""
    generator = toy.Affine(0.5, 1.0)
    cells = line.in_cells(P, generator)
    figure = figures.figure_one(untrained(generator), cells)
    x, dashed = curve(figure, "D*")
    q = normal(1.0, 0.5)
    best = exact.optimal_discriminator(P, q)(torch.from_numpy(x))
    assert dashed == pytest.approx(best.numpy(), abs=2e-3)
    assert curve(figure, "p, data")[1] == pytest.approx(P.log_prob(torch.from_numpy(x)).exp().numpy(), abs=1e-3)
    assert exact.jensen_shannon(cells.p, cells.q) == pytest.approx(exact.jensen_shannon(P, q), abs=1e-4)


@pytest.mark.parametrize(("width", "low", "high"), [(1 / 12, 0.0, 1e-4), (1 / 128, 5e-4, 1e-2)])
def test_cells_hide_little_of_wide_modes_and_more_of_one_as_narrow_as_a_cell(
    width: float, low: float, high: float
) -> None:
    cells = line.in_cells(P, toy.Affine(width, 0.3))
    hidden = exact.jensen_shannon(P, normal(0.3, width)) - exact.jensen_shannon(cells.p, cells.q)
    assert low < hidden < high


def test_optimum_and_the_gap_are_the_exact_ones() -> None:
    x, dashed = curve(figures.optimum(P, Q), "D*")
    assert dashed == pytest.approx(1 / (1 + np.exp(x - 0.5)), abs=1e-12)  # the logit is 0.5 - x
    figure = figures.value_of_slopes(P, Q, [0.0, 0.5, 1.0, 2.0])
    slopes, values = curve(figure, "V(D, G)")
    assert values[0] == pytest.approx(-math.log(4)) and values[2] == pytest.approx(-1.163451397, abs=1e-8)
    assert curve(figure, "V + ")[1] == pytest.approx(np.full(4, -1.163451397), abs=1e-8)
    assert values.argmax() == slopes.tolist().index(1.0)


def test_saturation_shows_the_table() -> None:
    figure = figures.saturation([1.0, 4.0])
    assert curve(figure, "minimax")[1] == pytest.approx([0.397972867, 0.137194818], abs=1e-8)
    assert curve(figure, "non-saturating")[1] == pytest.approx([0.602027133, 3.86280518], abs=1e-7)
    assert curve(figure, "JSD")[1] == pytest.approx([0.111421482, 0.632720194], abs=1e-8)
    assert curve(figure, "W")[1] == pytest.approx([1, 4], abs=1e-8)


def test_phase_portraits_end_where_the_eigenvalues_say() -> None:
    origin = torch.zeros(2, dtype=torch.float64)
    start = torch.tensor(dynamics.START, dtype=torch.float64)
    figure = figures.phase_portraits()
    assert len(figure.axes) == 9
    for axes, panel in zip(figure.axes, dynamics.PANELS, strict=True):
        ends = dict(zip(("simultaneous", "alternating"), ends_of(axes), strict=True))
        if not panel.title.startswith("WGAN"):  # their updates jump at the equilibrium, or near it
            step = float(games.eigenvalues(panel.simultaneous(), origin).abs().max())
            attracts = step < 1 - 1e-9
            assert (ends["simultaneous"] < dynamics.ARRIVED) == attracts, panel.title
            assert ("converges" in [t.get_text() for t in axes.texts]) == attracts
        assert ends["simultaneous"] == pytest.approx(
            float(games.orbit(panel.simultaneous(), start, dynamics.N_STEPS)[-1].norm()), rel=1e-9, abs=1e-9
        )
    assert ends_of(figure.axes[0])[0] == pytest.approx(3.096949, abs=1e-6)  # the reference's r500


def ends_of(axes: Axes) -> list[float]:
    named = {str(drawn.get_label()): drawn for drawn in axes.get_lines()}
    return [math.hypot(*named[name].get_xydata()[-1]) for name in ("simultaneous", "alternating")]


def test_eigenvalue_locus_is_the_formula() -> None:
    gammas = (0.0, 0.3, 1.0, 2.0)
    figure = figures.eigenvalue_locus(gammas)
    _, rates = curve(figure, "h = 0.2")
    assert rates == pytest.approx([math.hypot(1, 0.1), 0.974679, 0.9, 0.973205], abs=1e-6)
    points = figure.axes[0].collections[0].get_offsets()
    found = {(round(re, 5), round(abs(im), 5)) for re, im in np.asarray(points) if abs(re + 0.5) > 1e-3}
    assert {(0, 0.5), (-0.15, round(math.sqrt(0.25 - 0.0225), 5)), (-1.86603, 0), (-0.13397, 0)} <= found


def test_a_strip_draws_the_ceilings() -> None:
    ring = modes.ring()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [(0, torch.randn(2500, 2)), (100, ring.sample((2500,)))]
    figure = figures.mode_strip(drawn, ring, title="Ring")
    perfect = modes.perfect_coverage(ring, 2500)
    bars = [axes for axes in figure.axes if axes.containers]
    ceilings = [axes.get_lines()[0].get_ydata()[0] for axes in bars]
    assert ceilings == pytest.approx([perfect.modes, 100 * perfect.high_quality, perfect.reverse_kl])
    heights = [[patch.get_height() for patch in axes.patches] for axes in bars]
    report = modes.coverage(drawn[1][1], ring)
    assert [h[1] for h in heights] == pytest.approx([8, 100 * report.high_quality, report.reverse_kl])
    assert heights[1][0] < 5  # a normal law hits hardly any disc


def test_panels_count_the_modes_of_each_sampler_and_leave_the_last_ones_empty() -> None:
    ring = modes.ring()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = {"seed 0": ring.sample((2500,)), "seed 1": torch.zeros(2500, 2), "seed 2": torch.randn(2500, 2)}
    figure = figures.mode_panels(drawn, ring, columns=2)
    titles = [axes.get_title() for axes in figure.axes]
    quality = modes.coverage(drawn["seed 0"], ring).high_quality
    assert titles[:2] == [f"seed 0\n8 modes, {quality:.1%}", "seed 1\n0 modes, 0.0%"] and titles[3] == ""
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]


def test_measured_values_are_drawn_on_the_exact_curves() -> None:
    measured = {1.0: [0.39, 0.40], 4.0: [0.14, 0.13]}
    figure = figures.measured_gradients(measured, {1.0: [0.6, 0.6], 4.0: [3.0, 4.0]})
    theta, exactly = curve(figure, "minimax, exact")
    assert (theta[-1], exactly[-1]) == pytest.approx((4, 0.137194818), abs=1e-8)
    assert curve(figure, "minimax, networks")[0].tolist() == [1, 1, 4, 4]
    assert curve(figure, "minimax, networks")[1].tolist() == [0.39, 0.40, 0.14, 0.13]
    ratios = figure.axes[1].get_lines()[1].get_ydata()
    assert list(ratios) == pytest.approx([0.6 / 0.602027133] * 2 + [3 / 3.86280518, 4 / 3.86280518])
    names = {"pair": [-1.0, -1.5]}
    figure = figures.trained_discriminators(names, {"pair": -0.5}, {"pair": 0.1}, {"pair": [0.01, 0.02]})
    assert [list(axes.get_lines()[0].get_xdata()) for axes in figure.axes] == [[-0.5, -1.0], [0.01, 0.02]]
    assert figure.axes[0].patches[0].get_bbox().intervalx.tolist() == pytest.approx([-0.2, 0.2])
    figure = figures.played_games({"a": [[(1, -1.2, -1.0), (2, -1.4, -1.3)]], "b": [[(1, -1.1, -1.0)]] * 2})
    gap = figure.axes[0].collections[0].get_paths()[0].vertices
    assert {(1, -1.2), (2, -1.4), (1, -1.0), (2, -1.3)} <= {tuple(v) for v in gap}
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a, seeds: 1", "b, seeds: 2"]


def test_a_small_png_is_the_same_picture() -> None:
    files = [io.BytesIO(to_file(figures.optimum(P, Q))) for to_file in (figures.to_small_png, figures.to_png)]
    small, large = (np.asarray(Image.open(file).convert("RGB"), int) for file in files)
    assert np.quantile(np.abs(large - small), 0.999) <= 16 and (small[0, 0] == 255).all()
    assert len(files[0].getvalue()) < len(files[1].getvalue()) / 2
    assert len(figures.to_small_png(figures.phase_portraits())) < 100_000


def test_the_paper_s_game_is_won_and_its_value_is_below_the_optimum() -> None:
    snapshots = line.train_line(P, at=[0, 40, 160])
    cells = [line.in_cells(P, s.generator) for s in snapshots]
    standings = [line.stand(P, s, c) for s, c in zip(snapshots, cells, strict=True)]
    assert exact.jensen_shannon(cells[-1].p, cells[-1].q) < 0.02 < exact.jensen_shannon(cells[0].p, cells[0].q)
    for standing in standings:
        assert standing.value < standing.optimum + 4 * standing.error
    figure = figures.value_curves(standings)
    assert curve(figure, "C(G_t)")[1].tolist() == [s.optimum for s in standings]
    frames = [figures.figure_one(s, c) for s, c in zip(snapshots, cells, strict=True)]
    with Image.open(io.BytesIO(figures.to_gif(frames))) as animation:
        assert (animation.n_frames, animation.info["loop"]) == (3, 0)
        for i, frame in enumerate(frames):  # the fill of p is blue and that of p_g orange, not grey and green
            animation.seek(i)
            with Image.open(io.BytesIO(figures.to_png(frame))) as drawn:
                off = np.abs(np.asarray(animation.convert("RGB"), int) - np.asarray(drawn.convert("RGB"), int))
            assert off.max() <= 16


def test_training_depends_on_the_seed_alone_and_leaves_the_global_state() -> None:
    state = torch.random.get_rng_state()
    first, second = (line.train_line(P, at=[3])[0].generator.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(state, torch.random.get_rng_state())


def test_pace_anneals_the_penalty_in_equal_ratios_and_the_rates_along_a_cosine() -> None:
    pace = toy.Pace(gamma=(0.4, 0.1))
    assert [pace.at(done)[1] for done in (0, 0.5, 1)] == pytest.approx([0.4, 0.2, 0.1])
    assert [pace.at(done)[0] for done in (0, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.5, 0])
    assert toy.Pace().at(0.5)[1] == 0
