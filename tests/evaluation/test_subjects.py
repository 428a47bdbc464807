"""Run directories as `evaluate` and `compare` find them: copied, of one name, read-only, damaged."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import train_here

from aigc_lab.cli import main
from aigc_lab.results_db import FILE
from aigc_lab.run import Run

SMALL = ("evaluation.n=30", "evaluation/features/image=pixels")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with its scores."""
    path = train_here(tmp_path_factory.mktemp("runs"), "gan", ["trainer.max_steps=2", "run_id=one"])
    assert main(["evaluate", str(path), *SMALL]) == 0
    return path


def compared(*arguments: str, capsys: pytest.CaptureFixture[str], output: Path) -> dict[str, dict]:
    """Rows by name."""
    capsys.readouterr()
    assert main(["compare", *arguments, *SMALL, "--json", "--output", str(output)]) == 0
    (table,) = json.loads(capsys.readouterr().out.splitlines()[-1])["tables"]
    return {row["name"]: row for row in table["rows"]}


@pytest.mark.parametrize("place", ["r", "a/r", "digits_gan/two"])
def test_a_run_is_compared_wherever_it_was_copied(
    scored: Path, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its runs folder is known, and scores are collected there, only where it still stands below one."""
    run = Run(Path(shutil.copytree(scored, tmp_path / "b" / place)))
    assert f"digits_gan/{run.path.name}" in compared(str(run.path), capsys=capsys, output=tmp_path / "r.html")
    assert run.runs_dir == (tmp_path / "b" if place == "digits_gan/two" else None)
    assert [path.parent for path in tmp_path.rglob(FILE)] == ([run.runs_dir] if run.runs_dir else [])


def test_runs_of_one_name_from_two_folders_are_two(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for root in "ab":
        shutil.copytree(scored, tmp_path / root / "digits_gan/one")
    names = ("a/digits_gan/one", "a/digits_gan/../digits_gan/one", "--baseline", "b/digits_gan/one")
    found = compared(*names, capsys=capsys, output=Path("r.html"))
    assert [name for name in found if "control" not in name] == ["b/digits_gan/one", "a/digits_gan/one"]
    assert found["a/digits_gan/one"]["differences"]["frechet"]["value"] == 0
    page = Path("r.html").read_text()
    assert all(f"{root}/<wbr>digits_<wbr>gan" in page for root in "ab"), "labels tell them apart"


def test_scores_are_compared_and_asked_for_where_nothing_can_be_written(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(scored, tmp_path / "digits_gan/one")
    (tmp_path / FILE).mkdir()  # no file can take its place, not even root's
    assert "digits_gan/one" in compared(str(run), capsys=capsys, output=tmp_path / "r.html")
    assert main(["runs", str(tmp_path), "--where", "frechet > 0", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]) == 1


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.json", {"command": None}, "run.json: damaged (command: "),
        ("run.json", {"command": [1, 2]}, "run.json: damaged (command.0: "),
        ("run.json", {"git": "abc"}, "run.json: damaged (git: "),
        ("run.json", {"git": {"commit": None}}, "run.json: damaged (git.commit: "),
        ("run.json", {"wall_seconds": 10**400}, "run.json: damaged (wall_seconds: "),
        ("run.json", DEEP, "run.json: cannot be read as JSON"),
        ("config.yaml", DEEP, "config.yaml: cannot be read as plain YAML"),
        ("checkpoints/weights.json", DEEP, "weights.json: cannot be read as JSON"),
        ("checkpoints/weights.json", {"spec": {"shape": [8]}}, "weights.json: the data description is damaged"),
        ("checkpoints/weights.json", {"kind": "LatentVariable"}, "weights.json: model.decoder: missing"),
        ("metrics.csv", "step,metric,value\n-1,train/loss,1\n", "metrics.csv: damaged (step -1)"),
    ],
)
def test_a_foreign_file_is_answered_in_one_line(
    scored: Path, name: str, content: str | dict, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(scored, tmp_path / "r"))
    if isinstance(content, dict):
        content = json.dumps(json.loads((run / name).read_text()) | content)
    (run / name).write_text(content)
    for drawn in run.glob("samples/*/drawn.safetensors"):
        drawn.unlink()
    assert main(["compare", str(run), *SMALL, "--output", str(tmp_path / "r.html")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("...")]
    assert len(lines) == 1 and says in lines[0]


@pytest.mark.parametrize("content", [DEEP, '{"safety": {"x": 1}}', '{"texts": [{"sample": 1}]}'])
def test_what_there_is_to_see_is_made_anew_where_its_file_is_damaged(
    scored: Path, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(scored, tmp_path / "r"))
    (path,) = run.glob("samples/*/exhibit.json")
    was = path.read_text()
    path.write_text(content if content is DEEP else json.dumps(json.loads(was) | json.loads(content)))
    compared(str(run), capsys=capsys, output=tmp_path / "r.html")
    assert path.read_text() == was


def test_a_curve_may_leave_every_axis(scored: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(scored, tmp_path / "r"))
    run.joinpath("metrics.csv").write_text(
        "step,metric,value\n0,train/loss,1e308\n1,train/loss,-1e308\n2,train/loss,1\n"
    )
    assert main(["compare", str(run), *SMALL, "--output", str(tmp_path / "r.html")]) == 0
    assert "nan" not in "".join(re.findall(r' d="[^"]*"', (tmp_path / "r.html").read_text()))


def test_a_seed_is_one_that_the_database_holds(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "control:oracle", "--data", "digits", *SMALL]
    assert main([*command, f"evaluation.seed={10**20}"]) == 2
    assert f"evaluation.seed={10**20}: should be less than 9223372036854" in capsys.readouterr().err
