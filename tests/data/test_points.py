"""Data of known density: the draws follow the law that they carry, and the GAN trains on them."""

from pathlib import Path

import pytest
import torch

from aigc_lab import training
from aigc_lab.cli import main
from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data.points import Gaussian, PointData
from aigc_lab.data.samples import Points, join
from aigc_lab.data.spec import DataSpec
from aigc_lab.generators import load
from aigc_lab.minimax import exact, modes

NAMES = ["gaussian_1d", "mixture_1d", "gaussian_2d", "ring8", "grid25"]
TINY = [
    "model=gan",
    "model/generator=mlp",
    "model/discriminator=mlp",
    "model.generator.hidden=[16]",
    "model.discriminator.hidden=[16]",
    "model.latent_dim=1",
    "data.batch_size=8",
    "logger=none",
    "trainer.num_threads=1",
]
SIZES = {"batch_size": 8, "n_train": 4000, "n_held_out": 4000, "seed": 0}


def dataset(name: str) -> PointData:
    config = Composer().train([f"data={name}", "model=gan"])
    return build(config.data, path="data")


@pytest.mark.parametrize("name", NAMES)
def test_the_draws_follow_the_law(name: str) -> None:
    data = dataset(name)
    points, others = (data.real(split).coordinates.double() for split in ("train", "held_out"))
    assert points.shape == others.shape == (100_000, data.law.event_shape.numel())
    assert not torch.equal(points, others)
    standardised = (points - data.law.mean.reshape(-1)) / data.law.variance.sqrt().reshape(-1)
    assert standardised.mean(0).abs().max() < 0.02
    torch.testing.assert_close(standardised.var(0), torch.ones(points.shape[1]).double(), atol=0.02, rtol=0)


def test_the_laws_are_the_references() -> None:
    """S5 of the reference: the mixture against the normal law of its own mean and variance."""
    q = torch.distributions.Normal(torch.tensor(0.0), torch.tensor(4.25).sqrt())
    assert exact.jensen_shannon(dataset("mixture_1d").law, q) == pytest.approx(0.200985691, abs=1e-7)
    ring = dataset("ring8")
    assert modes.coverage(ring.real("train").coordinates, modes.ring()).modes == 8


def test_the_data_do_not_move_with_the_global_seed_and_leave_it_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = Gaussian(mean=[0.0], covariance=[[1.0]], **SIZES).real("train").coordinates
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = Gaussian(mean=[0.0], covariance=[[1.0]], **SIZES)
    assert torch.equal(again.real("train").coordinates, first)
    other = Gaussian(mean=[0.5], covariance=[[1.0]], **SIZES)
    assert other.spec.content_hash != again.spec.content_hash
    assert DataSpec.from_json(again.spec.to_json()) == again.spec
    joined = join([Points(first[:2]), Points(first[2:5])])
    assert joined.bytes_per_item() == [4] * 5 and torch.equal(joined.coordinates, first[:5])


@pytest.mark.parametrize("covariance", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.4, 1.0]], [[1.0]], [[1.0, 0.0]]])
def test_a_matrix_that_is_no_covariance_is_refused(covariance: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="covariance"):
        Gaussian(mean=[0.0, 0.0], covariance=covariance, **SIZES)


def trained_on(name: str, runs_dir: Path, *overrides: str) -> Path:
    config = Composer().train([f"data={name}", *TINY, f"paths.runs_dir={runs_dir}", *overrides])
    return training.train(config, ["pytest"]).path


def test_a_gan_trains_on_points_and_is_sampled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, d in (("gaussian_1d", 1), ("gaussian_2d", 2)):
        run = trained_on(name, tmp_path, "trainer.max_steps=3")
        samples = load(run).sample(300, rng=torch.Generator().manual_seed(0))
        assert isinstance(samples, Points) and samples.coordinates.shape == (300, d)
        assert main(["sample", str(run), "-n", "50"]) == 0
        assert (run / "samples/seed0-n50.png").read_bytes().startswith(b"\x89PNG")
    assert main(["sample", str(run), "--prompt", "x"]) == 2
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 2
    assert "aigc reproduce" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([*TINY, "model.discriminator_steps=3"], "model: discriminator_steps=3: must divide"),
        (["model=transformer"], "this model is for images and texts; use model=gan"),
        (["model=gan"], "model: convolutions are for images; for items of shape [1] use an mlp"),
        (["model=vae"], "this model is for images; use model=gan"),
    ],
)
def test_what_does_not_fit_gets_one_line(
    overrides: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "data=gaussian_1d", f"paths.runs_dir={tmp_path}", *overrides]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_each_discriminator_step_sees_its_own_part_of_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Algorithm 1: k disjoint minibatches, then one generator step; Adam's counters say who moved how often."""
    from aigc_lab.objectives.games import NonSaturating

    seen: list[int] = []
    loss = NonSaturating.discriminator_loss

    def spy(self: NonSaturating, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        seen.append(len(real))
        return loss(self, real, fake)

    monkeypatch.setattr(NonSaturating, "discriminator_loss", spy)
    run = trained_on("gaussian_1d", tmp_path, "trainer.max_steps=2", "model.discriminator_steps=4")
    assert seen == [2] * 8
    state = torch.load(max(run.glob("checkpoints/*.ckpt")), weights_only=True)
    counts = [{int(s["step"]) for s in optimizer["state"].values()} for optimizer in state["optimizer_states"]]
    assert counts == [{2}, {8}]
