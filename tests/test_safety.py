"""Opening, resuming and scoring a run directory never executes what it contains."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save

import aigc_lab
from aigc_lab.cli import main
from aigc_lab.config.targets import build, resolve
from aigc_lab.errors import UserError

MARK = "executed"


class Hostile:
    """Unpickling this writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(MARK),))


@pytest.fixture
def run(trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run to damage, in a folder where a trace of execution would show."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained["gan"], tmp_path / "run"))


def refused(run: Path, capsys: pytest.CaptureFixture[str], *verbs: str) -> str:
    for verb in verbs or ("sample", "evaluate", "compare"):
        capsys.readouterr()
        assert main([verb, str(run)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len([line for line in lines if not line.endswith("...")]) == 1, lines
    assert not Path(MARK).exists()
    return lines[-1]


def test_an_untouched_copy_works(run: Path) -> None:
    assert len(aigc_lab.load(run).sample(3, rng=torch.Generator())) == 3


@pytest.mark.parametrize("payload", ["pickle", "torch"])
def test_a_hostile_weights_file(run: Path, capsys: pytest.CaptureFixture[str], payload: str) -> None:
    path = run / "checkpoints/weights.safetensors"
    if payload == "pickle":
        path.write_bytes(pickle.dumps(Hostile()))
    else:
        torch.save({"network": Hostile()}, path)
    assert "cannot be loaded" in refused(run, capsys)


@pytest.mark.parametrize("key", ["state_dict", "hyper_parameters"])
def test_a_hostile_checkpoint(run: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    """A pickle among the tensors, or Lightning's `_instantiator` hook (CVE-2026-58659)."""
    (checkpoint,) = run.glob("checkpoints/*.ckpt")
    state = torch.load(checkpoint, weights_only=True)
    state[key] = {"_instantiator": "os.system", "x": Hostile()} if key == "hyper_parameters" else {"x": Hostile()}
    torch.save(state, checkpoint.with_name("step_00000003.ckpt"))
    checkpoint.unlink()
    unfinish(run)
    assert "not a checkpoint of this lab" in refused(run, capsys, "resume")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [executed]",
        "model: !!python/name:os.system",
        "name: ${oc.env:HOME}",
        "- a list",
        "model: {lr: [",
        "",
    ],
)
def test_a_hostile_or_damaged_config(run: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (run / "config.yaml").write_text(text)
    assert "config.yaml" in refused(run, capsys, "sample", "evaluate", "compare", "resume")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "pathlib.Path",
        "torch.load",
        "subprocess.Popen",
        "aigc_lab.cli.main",
        "site.main",
    ],
)
def test_a_config_that_names_a_function_to_call(
    run: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["model"]["generator"] = {"_target_": target, "command": f"touch {MARK}"}
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    assert "not an allowed target" in refused(run, capsys, "sample", "resume")


@pytest.mark.parametrize("file", ["config.yaml", "run.json"])
def test_a_file_of_another_run(
    trained: dict[str, Path], run: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    shutil.copy(trained["vae"] / file, run / file)
    assert "not the configuration that this run began with" in refused(run, capsys)


@pytest.mark.parametrize("file", ["samples", "checkpoints/weights.safetensors", "metrics.csv", "results.jsonl"])
def test_a_folder_or_a_file_in_the_wrong_place(run: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    path = run / file
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_text("") if file == "samples" else path.mkdir()
    assert str(run) in refused(run, capsys, "compare")


def unfinish(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"status": "running"}))


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("run.json", "{", "cannot be read as JSON"),
        ("run.json", '{"created": "\\ud800"}', "cannot be read as JSON"),
        ("checkpoints/weights.json", "[]", "not a JSON object"),
        ("checkpoints/weights.json", '{"kind": "Implicit"}', "damaged"),
        ("checkpoints/weights.json", None, "has no weights yet"),
        ("checkpoints/weights.safetensors", "short", "cannot be loaded"),
        ("checkpoints/weights.safetensors", None, "has no weights yet"),
        ("results.jsonl", "no json\n", "damaged"),
        ("metrics.csv", "epoch;loss\n1;0.5\n", "its first line is not step,metric,value"),
        ("metrics.csv", f"step,metric,value\n1,{'x' * 200_000},0\n", "damaged"),
    ],
)
def test_a_damaged_run_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], file: str, content: str | None, says: str
) -> None:
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_text(content)
    assert says in refused(run, capsys, "compare")


def test_weights_cut_short(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints/weights.safetensors"
    os.truncate(path, path.stat().st_size // 2)
    assert "cannot be loaded" in refused(run, capsys)


def test_weights_of_another_model(run: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(trained["vae"] / "checkpoints/weights.safetensors", run / "checkpoints/weights.safetensors")
    assert "cannot be loaded" in refused(run, capsys)


def test_weights_that_diverged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints/weights.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name].fill_(float("nan"))
    path.write_bytes(save(tensors))
    assert f"{name} hold" in (said := refused(run, capsys)) and "has diverged" in said


def test_the_resolved_object_counts_not_the_name_it_was_reached_by() -> None:
    """`aigc_lab.data.text.Path` is pathlib's class under an allowed name."""
    with pytest.raises(UserError, match=r"pathlib.*not an allowed target"):
        resolve("aigc_lab.data.text.Path")
    with pytest.raises(UserError, match="not a class"):
        resolve("aigc_lab.data.splits.content_hash")
    with pytest.raises(UserError, match="not a class"):
        resolve("torch.optim.lr_scheduler")
    with pytest.raises(UserError, match="cannot find target"):
        resolve("aigc_lab.nets.nothing.Net")


def test_a_package_of_ones_own_must_be_trusted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"_target_": "fractions.Fraction", "numerator": 1, "denominator": 2}
    with pytest.raises(UserError, match="AIGC_TRUST"):
        build(node)
    monkeypatch.setenv("AIGC_TRUST", "decimal, fractions")
    assert float(build(node)) == 0.5
