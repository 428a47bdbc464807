"""What goes wrong in training is said by its name, and the last good checkpoint stays."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import QUIET, TINY
from torch import Tensor

from aigc_lab.callbacks.watch import DiscriminatorCollapse, DiscriminatorWins, ModeCollapse, WatchGame, ordered
from aigc_lab.cli import main
from aigc_lab.data.images import ImageData
from aigc_lab.modules.base import GenerativeModule
from aigc_lab.modules.gan import GAN
from aigc_lab.run import Run
from aigc_lab.training import restore

Train = Callable[..., Path]


@pytest.mark.parametrize("log_every_n_steps", [1, 100])
@pytest.mark.parametrize("family", ["text", "gan", "vae"])
def test_numbers_that_are_not_finite_end_a_run_before_they_are_saved(
    family: str,
    log_every_n_steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the loss, or by the weights where the loss is not looked at before they would be saved."""
    on_start = GenerativeModule.on_train_batch_start

    def spoil(self: GenerativeModule, batch: Tensor, batch_idx: int) -> None:
        on_start(self, batch, batch_idx)
        if batch_idx == 4:
            next(p for p in self.parameters() if p.requires_grad).data.fill_(torch.nan)

    monkeypatch.setattr(GenerativeModule, "on_train_batch_start", spoil)
    arguments = [*TINY[family], *QUIET, f"paths.runs_dir={tmp_path}", "name=d", "run_id=x", "trainer.max_steps=20"]
    arguments += ["callbacks.checkpoint.every_n_steps=2", f"trainer.log_every_n_steps={log_every_n_steps}"]
    assert main(["train", *arguments]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("aigc: training has diverged: ") and "smaller model.lr" in said
    assert f"at step {5 if log_every_n_steps == 1 else 6};" in said
    run = tmp_path / "d/x"
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == ["step_00000002.ckpt", "step_00000004.ckpt"], (
        "the last good ones, and no weights to sample with"
    )
    assert main(["sample", str(run)]) == 2
    assert "has no weights, for it failed: UserError: training has diverged" in capsys.readouterr().err


def watcher(run: Path, **options: int) -> tuple[WatchGame, GAN]:
    dataset, gan = restore(Run(run))
    assert isinstance(gan, GAN)
    settings = {"every_n_steps": 1, "patience": 1, "n": 64} | options
    return WatchGame(**settings, dataset=dataset, run_dir=run), gan


def emits(gan: GAN, pixels: Tensor) -> None:
    """From now on the generator's samples are these images."""
    items = gan.generator.real(pixels)
    gan.generator.forward = lambda z, classes=None: items[torch.arange(len(z)) % len(items)]  # type: ignore


def test_lost_modes_are_seen_however_different_what_is_left(train: Train) -> None:
    """One image whatever z, some few, or one of each class."""
    watch, gan = watcher(train("gan", "trainer.max_steps=2"))
    assert isinstance(watch.dataset, ImageData)
    pixels, labels = watch.dataset.real("train").pixels, watch.dataset.labels("train")
    emits(gan, pixels)
    assert not any(watch.look(gan).values())
    one_of_each = torch.stack([pixels[labels == label][0] for label in labels.unique()])
    for few in (pixels[:1], pixels[:5], one_of_each):
        emits(gan, few)
        found = watch.look(gan)
        assert found[ModeCollapse] and not found[DiscriminatorCollapse]


def test_a_discriminator_that_says_almost_the_same_of_everything_has_collapsed(train: Train) -> None:
    """As under a huge penalty, though the samples are noise. Almost is not winning, whatever the order."""
    watch, gan = watcher(train("gan", "trainer.max_steps=200"))
    assert not watch.look(gan)[DiscriminatorCollapse]
    [m for m in gan.discriminator.modules() if isinstance(m, torch.nn.Linear)][-1].weight.data.mul_(1e-3)
    found = watch.look(gan)
    assert found[DiscriminatorCollapse] and not found[DiscriminatorWins]
    emits(gan, watch.dataset.real("train").pixels)  # type: ignore[union-attr]
    assert not watch.look(gan)[DiscriminatorCollapse], "where the generator has won, nothing can be told"


def test_faults_are_told_once_after_they_have_lasted(train: Train) -> None:
    run = train(
        "gan", "trainer.max_steps=4", "callbacks.checkpoint.every_n_steps=2", "callbacks.checkpoint.keep=9"
    )
    watch, _ = watcher(run)
    kept = run / "checkpoints/before_ModeCollapse.ckpt"
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step, shows in enumerate([True, False, False, True, True, False, True, True], start=1):
            watch.judge({ModeCollapse: shows, DiscriminatorWins: False}, step=step)
            said += [str(w.message) for w in caught[len(said) :]]
            assert kept.exists() == (step > 3), (
                "no checkpoint is older than step 1, and what is healthy needs none"
            )
    (warning,) = caught
    assert warning.category is ModeCollapse and said[0].startswith("step 5: the samples are much more alike")
    assert "model/penalties=r1" in said[0], "what to try"
    assert said[0].endswith("what was before it is in checkpoints/before_ModeCollapse.ckpt")
    assert kept.read_bytes() == (run / "checkpoints/step_00000002.ckpt").read_bytes()
    assert Run(run).latest_checkpoint() == run / "checkpoints/step_00000004.ckpt", "a run resumes where it was"


def test_order_is_the_area_under_the_roc_curve() -> None:
    real, fake = torch.tensor([[3.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    assert ordered(real, fake) == (1 + 1 + 1 + 0.5) / 4
    assert ordered(real, real - 10) == 1.0


def test_a_winning_discriminator_is_named_in_one_line(tmp_path: Path) -> None:
    """A generator that stands still against a discriminator that learns."""
    arguments = [*TINY["gan"], *QUIET, f"paths.runs_dir={tmp_path}", "trainer.max_steps=240", "model.lr=1e-12"]
    arguments += ["callbacks.watch.every_n_steps=20", "callbacks.watch.patience=1"]
    arguments += ["callbacks.checkpoint.every_n_steps=10", "callbacks.checkpoint.keep=1", "run_id=wins"]
    with pytest.warns(DiscriminatorWins, match="try a smaller model.discriminator_lr") as told:
        assert main(["train", *arguments, "model/penalties=none", "model.discriminator_lr=3e-3"]) == 0
    (said,) = (w for w in told if w.category is DiscriminatorWins)
    line = warnings.formatwarning(said.message, said.category, said.filename, said.lineno)
    assert line.startswith("aigc: DiscriminatorWins: step ") and line.count("\n") == 1
    run = Run.open(next(tmp_path.rglob("wins")))
    kept, last = run.path / "checkpoints/before_DiscriminatorWins.ckpt", run.latest_checkpoint()
    assert f"what was before it is in checkpoints/{kept.name}" in line and last is not None
    seen = torch.load(last, weights_only=True)["callbacks"]["WatchGame"]
    assert kept.exists() and seen["DiscriminatorWins"] == 2, "the step's checkpoint knows what the step has shown"
