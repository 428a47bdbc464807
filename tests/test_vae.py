"""Variational autoencoders, from a configuration to what is reported."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import QUIET, TINY
from PIL import Image

from aigc_lab import training
from aigc_lab.cli import main
from aigc_lab.config.compose import Composer
from aigc_lab.generators import LatentVariable, load
from aigc_lab.modules.vae import VAE
from aigc_lab.reproduce.bounds import HeldOutBound
from aigc_lab.reproduce.measures import Trial
from aigc_lab.run import Run

SHORT = ["trainer.max_steps=3", "trainer.val_check_interval=3", "trainer.log_every_n_steps=1"]


@pytest.mark.parametrize("bound", Composer().options("model/bound"))
def test_every_bound_trains_and_is_validated(train: Callable[..., Path], bound: str) -> None:
    run = train("vae", f"model/bound={bound}", *SHORT)
    rows = [line.split(",")[1:] for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    validated = [float(value) for name, value in rows if name == "val/loss"]
    losses = [float(value) for name, value in rows if name == "train/loss"]
    assert len(losses) == 3 and validated and all(0 < v < 2000 for v in validated)


@pytest.mark.parametrize("bound", Composer().options("model/bound"))
def test_validation_is_by_the_elbo_whatever_is_trained(bound: str) -> None:
    _, module = training._build_module(Composer().train(["data=digits", "model=vae", f"model/bound={bound}"]))
    assert isinstance(module, VAE)
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: value})  # type: ignore
    batch = torch.randint(0, 17, (4, 1, 8, 8), dtype=torch.uint8)
    torch.manual_seed(0)
    module.validation_step(batch, 0)
    torch.manual_seed(0)
    torch.testing.assert_close(logged["val/loss"], -module._draws(batch, 1).elbo().mean())


@pytest.mark.parametrize("likelihood", ["discretised_gaussian", "categorical"])
def test_every_likelihood_is_one_of_the_levels(train: Callable[..., Path], likelihood: str) -> None:
    run = Run.open(train("vae", f"model/likelihood={likelihood}", *SHORT))
    found = HeldOutBound(importance_samples=3)(Trial(0, run))
    assert 2 < found["bits_per_dim"] < 20 and found["nats_error"] > 0 and found["nats_draw_error"] > 0


def test_a_conditional_vae_is_asked_for_a_class(train: Callable[..., Path], tmp_path: Path) -> None:
    run = train("vae", "model=cvae", *SHORT)
    generator = load(run)
    assert isinstance(generator, LatentVariable) and generator.takes_classes
    classes = torch.arange(10)
    drawn = generator.sample_classes(classes, rng=torch.Generator().manual_seed(0))
    assert len(drawn) == 10 and not torch.equal(drawn.pixels[0], drawn.pixels[1])
    sheet = tmp_path / "sheet.png"
    assert main(["sample", str(run), "-n", "4", "--output", str(sheet)]) == 0
    with Image.open(sheet) as picture:
        assert picture.size == (4 * 50 + 2, 52)


def test_a_conditional_vae_of_data_without_classes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    data = ["data=image_folder", f"data.path={tmp_path}", "data.channels=1", "data.size=8", "data.held_out=0.5"]
    command = ["train", *TINY["vae"], "model=cvae", *data, *QUIET, f"paths.runs_dir={tmp_path}/runs"]
    assert main([*command, "data.batch_size=2"]) == 2
    assert capsys.readouterr().err.endswith("has no classes of its images; leave the conditions out\n")
    assert not (tmp_path / "runs").exists()
