"""Measures of theory, and the callback that holds a training GAN against it."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aigc_lab import training
from aigc_lab.cli import main
from aigc_lab.config.compose import Composer
from aigc_lab.data.samples import Points
from aigc_lab.errors import UserError
from aigc_lab.evaluation.report import page
from aigc_lab.generators import Implicit
from aigc_lab.metrics_file import read_metrics
from aigc_lab.minimax import exact, modes
from aigc_lab.reproduce import theory
from aigc_lab.reproduce.measures import GameAtItsEnd, ModeCoverage
from aigc_lab.reproduce.plan import make_plan
from aigc_lab.reproduce.trial import Seen, Trial

TINY = [
    "model=minimax_gan",
    "model.generator.hidden=[8]",
    "model.discriminator.hidden=[8]",
    "data.batch_size=8",
    "data.n_held_out=500",
    "logger=none",
    "trainer.num_threads=1",
    "trainer.max_steps=5",
]
CALLBACK = "+callbacks.minimax={_target_:aigc_lab.callbacks.MinimaxValue,every_n_steps:2,n:%d}"  # Hydra's grammar


def test_the_callback_logs_the_game_beside_its_optimum_and_its_floor(tmp_path: Path) -> None:
    overrides = ["data=gaussian_1d", *TINY, CALLBACK % 5000, f"paths.runs_dir={tmp_path}"]
    run = training.train(Composer().train(overrides), ["pytest"])
    rows = {(step, name): value for step, name, value in read_metrics(run.metrics_path)}
    assert sorted({step for step, name in rows if name.startswith("minimax/")}) == [1, 3, 4]
    assert rows[4, "minimax/floor"] == pytest.approx(-math.log(4))
    assert rows[4, "minimax/floor"] < rows[4, "minimax/optimum"] <= 0
    assert rows[4, "minimax/value"] <= rows[4, "minimax/optimum"] + rows[4, "minimax/optimum_error"] + 0.1
    assert 0 < rows[4, "minimax/optimum_error"] < 0.2

    figure = GameAtItsEnd(n=1000).figure([Seen("", Trial(0, run), {})])
    drawn = {str(line.get_label()): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert drawn["V(D_t, G_t), held out"] == [rows[step, "minimax/value"] for step in (1, 3, 4)]
    assert drawn["C(G_t), of cells"] == [rows[step, "minimax/optimum"] for step in (1, 3, 4)]
    charts = {chart.title: [(s.label, s.mark) for s in chart.series] for chart in page._curves(run)}
    assert charts["minimax"] == [("value", 0), ("optimum", 1), ("floor", None)]
    assert charts["optimum_error"] == [("minimax", 0)] and "value" not in charts
    run.metrics_path.write_text("step,metric,value\n")
    assert GameAtItsEnd(n=1000).figure([Seen("", Trial(0, run), {})]) is None


def test_the_callback_does_not_move_what_it_looks_at(tmp_path: Path) -> None:
    """Spectral norm estimates a singular value by one more step each time that D is called in training."""
    overrides = ["data=gaussian_1d", *TINY, "model.spectral_norm=true", "model.discriminator.hidden=[8,8]"]
    states = []
    for name, callback in (("watched", [CALLBACK % 500]), ("alone", [])):
        run = training.train(
            Composer().train([*overrides, *callback, f"paths.runs_dir={tmp_path}/{name}"]), ["pytest"]
        )
        checkpoint = run.latest_checkpoint()
        assert checkpoint is not None
        states.append(torch.load(checkpoint, weights_only=True)["state_dict"])
    assert any("parametrizations" in name for name in states[0])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_the_callback_refuses_what_has_no_density_or_no_game(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", CALLBACK % 100, "logger=none", f"paths.runs_dir={tmp_path}"]
    assert main([*command, "data=digits", "model=gan", "model/generator=mlp", "model/discriminator=mlp"]) == 2
    assert "MinimaxValue: the density of digits is not known" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*command, "data=ring8", "model=minimax_gan", "model.pack=2", "trainer.max_steps=2"]) == 2
    assert "model.pack=2: MinimaxValue asks D about single points" in capsys.readouterr().err


def test_a_generator_whose_points_are_not_finite_ends_its_run_and_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["data=gaussian_1d", *TINY, CALLBACK % 5000, f"paths.runs_dir={tmp_path}"]
    run = training.train(Composer().train([*overrides, "run_id=fine"]), ["pytest"])
    monkeypatch.setattr(Implicit, "push_forward", lambda self, n, rng: torch.full((n, 1), math.nan))
    found = GameAtItsEnd(n=1000)(Trial(0, run))
    assert list(found) == ["jsd", "jsd_error", "jsd_at_most", "value", "optimum", "distance_from_half"]
    assert all(map(math.isnan, found.values()))
    with pytest.raises(UserError, match="training has diverged: a generated point is NaN or infinite at step 2"):
        training.train(Composer().train([*overrides, "run_id=lost"]), ["pytest"])


def test_a_perfect_sampler_of_a_ring_is_judged_on_samples_enough() -> None:
    """Of 2,500 the share of high quality is within the claims' ceiling of 0.993 by luck, of 100,000 by 14 sd."""
    law = modes.ring()

    def sample(n: int, *, rng: torch.Generator) -> Points:
        centres = law.component_distribution.mean[torch.randint(8, (n,), generator=rng)]
        return Points(centres + 0.01 * torch.randn(n, 2, generator=rng))

    trial = SimpleNamespace(law=law, generator=SimpleNamespace(sample=sample), rng=Trial(0, None).rng, seed=0)
    found = ModeCoverage(n=2500)(trial)
    assert found["high_quality@100k"] == pytest.approx(1 - math.exp(-4.5), abs=4 * 0.00033)
    assert found["reverse_kl@100k"] < 2e-4 and found["modes"] == found["modes@100k"] == 8
    assert found["high_quality"] == modes.coverage(sample(2500, rng=trial.rng()).coordinates, law).high_quality
    figure = ModeCoverage(n=2500).figure([Seen("", trial, found), Seen("", trial, found)])
    assert figure.axes[0].get_title() == f"seed 0\n8 modes, {found['high_quality']:.1%}" and len(figure.axes) == 2
    composer = Composer()
    for name in ("modes/ring8", "modes/grid25"):
        claims = composer.reproduction([f"experiment={name}"]).claims
        assert claims is not None and not set(claims.seeds) & set(range(10)), "the recipe was chosen on these"
        assert [c.at_most for c in claims.judged if c.quantity == "high_quality"] == [None]
        many = [c.at_most for c in claims.judged if c.quantity == "high_quality@100k" and c.variant != "gan"]
        assert many == [0.993]


def test_fates() -> None:
    time = torch.arange(2000, dtype=torch.float64)
    wobble = 1 + 0.1 * torch.sin(time / 5)
    assert theory.fate(wobble * torch.exp(-time / 1000)) == theory.CONVERGES
    assert theory.fate(wobble) == theory.CYCLES
    assert theory.fate(wobble * (1 + time / 1000)) == theory.DIVERGES
    assert theory.fate(torch.exp(time)) == theory.DIVERGES  # beyond what a float holds
    assert theory.fate(torch.exp(-time)) == theory.CONVERGES


def test_dynamics_of_a_short_orbit() -> None:
    found = theory.Dynamics(n=500)(Trial(0, None))
    assert found["radius: GAN, simultaneous, 500 steps"] == pytest.approx(3.096949, abs=1e-6)
    assert found["fate: GAN + R1"] == -1 and found["fate: WGAN, simultaneous"] == 1
    assert len([name for name in found if name.startswith("fate: ")]) == 27
    named = {claim.quantity for claim in make_plan(Composer(), "minimax/dirac", quick=False).claims.judged}
    assert named == set(found), "every method and every known number is claimed"


def test_a_trained_discriminator_comes_near_the_optimal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "N(0,1), N(1,1)"
    monkeypatch.setattr(theory, "PAIRS", {name: theory.PAIRS[name]})
    measure = theory.TrainedDiscriminators(hidden=[16], steps=150, batch_size=512, lr=1e-2, n=20_000)
    state = torch.get_rng_state()
    found = measure(Trial(0, None))
    assert torch.equal(torch.get_rng_state(), state) and found == measure(Trial(0, None))
    assert found != measure(Trial(1, None))
    assert found[f"V: {name}"] == pytest.approx(-1.163451397, abs=0.03)
    assert found[f"|D - D*|: {name}"] < 0.05
    figure = measure.figure([Seen("", Trial(0, None), found)])
    shortfall = found[f"V: {name}"] - exact.minimax_value(*theory.PAIRS[name])
    assert [axes.get_lines()[0].get_xdata()[0] for axes in figure.axes] == [shortfall, found[f"|D - D*|: {name}"]]


def test_the_pairs_are_the_references() -> None:
    golden = [-1.163451, -1.200828, -0.332740, -0.984323, -0.954839, -0.983603, -1.039664]
    assert [exact.minimax_value(p, q) for p, q in theory.PAIRS.values()] == pytest.approx(golden, abs=1e-6)


def test_gradients_at_a_trained_discriminator() -> None:
    measure = theory.VanishingGradient(
        separations=[1.0], hidden=[16], steps=150, batch_size=512, lr=1e-2, n=50_000
    )
    found = measure(Trial(0, None))
    assert found["saturating: 1"] == pytest.approx(0.397972867, rel=0.1)
    assert found["non-saturating: 1"] == pytest.approx(0.602027133, rel=0.1)
    figure = measure.figure([Seen("", Trial(0, None), found)])
    assert [line.get_ydata()[0] for line in figure.axes[0].get_lines()[1::2]] == list(found.values())
