"""Samples of fixed noise, logged through training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from aigc_lab.cli import main
from aigc_lab.errors import UserError
from aigc_lab.run import Run

Train = Callable[..., Path]
PICTURES = ["callbacks=pictures", "callbacks.pictures.every_n_steps=2", "callbacks.pictures.n=4"]
SHORT = ["trainer.max_steps=5", "callbacks.checkpoint.every_n_steps=2", "callbacks.checkpoint.keep=9"]


def sheets(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("samples/step_*.png")}


@pytest.mark.parametrize("family", ["gan", "vae", "pixels"])
def test_looking_does_not_disturb_and_the_last_sheet_is_the_run(train: Train, family: str) -> None:
    seen, unseen = train(family, *SHORT, *PICTURES), train(family, *SHORT)
    weights = [safetensors.torch.load_file(run / "checkpoints/weights.safetensors") for run in (seen, unseen)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    found = sheets(seen)
    assert sorted(found) == ["step_00000002.png", "step_00000004.png", "step_00000005.png"]
    assert len(set(found.values())) == 3, "the generator has moved"
    assert main(["sample", str(seen), "--what", "grid", "-n", "4", "--output", str(seen / "grid.png")]) == 0
    assert (seen / "grid.png").read_bytes() == found["step_00000005.png"]


def test_a_resumed_run_writes_the_same_sheets(train: Train) -> None:
    path = train("gan", *SHORT, *PICTURES)
    before, run = sheets(path), Run.open(path)
    for lost in (
        run.weights_path,
        path / "checkpoints/step_00000005.ckpt",
        path / "checkpoints/step_00000004.ckpt",
    ):
        lost.unlink()
    for name in ("step_00000004.png", "step_00000005.png"):
        (run.samples / name).unlink()
    run.update(status="failed")
    assert main(["resume", str(path)]) == 0
    assert sheets(path) == before


def test_tensorboard_has_them_too(train: Train) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train("vae", *SHORT, *PICTURES, "logger=default")
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [image.step for image in events.Images("samples")] == [1, 3, 4]
    assert events.Images("samples")[-1].encoded_image_string.startswith(b"\x89PNG")


def test_texts_have_no_pictures(train: Train) -> None:
    with pytest.raises(UserError, match=r"callbacks.pictures: LogSamples: .* holds no images"):
        train("text", *PICTURES)
