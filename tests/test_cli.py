"""The verbs, end to end on tiny runs."""

import csv
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK, QUIET, TINY
from PIL import Image

import aigc_lab
from aigc_lab.cli import aigc, main
from aigc_lab.evaluation.arguments import CONTROL_NAMES
from aigc_lab.listing import list_runs
from aigc_lab.run import Run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stdout(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out.splitlines()


def test_help_and_listing_import_nothing_heavy(trained: dict[str, Path]) -> None:
    """`--help` must answer at once; a second of it is torch's import alone."""
    root = trained["gan"].parents[1]
    lines = ["--help", "--version", f"runs {root}", *(f"{verb} --help" for verb in aigc.commands)]
    code = (
        "import sys, shlex\nfrom aigc_lab.cli import main\n"
        "for line in sys.argv[1:]:\n    assert main(shlex.split(line)) == 0\n"
        "heavy = {'torch', 'pytorch_lightning', 'hydra', 'pydantic', 'sklearn'} & set(sys.modules)\n"
        "assert heavy <= {'pydantic'}, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in ("train", "resume", "sample", "evaluate", "compare", "runs", "doctor", "quickstart"):
        assert re.search(rf"^  {verb} ", done.stdout, re.MULTILINE)


def test_train_ends_with_the_run_and_resume_of_it_is_a_no_op(capsys: pytest.CaptureFixture[str]) -> None:
    out = stdout(capsys, "train", *TINY["vae"], *QUIET, "trainer.max_steps=3")
    (run,) = Path("runs/digits_vae").iterdir()
    assert out == [f"run: {run.absolute()}"]
    weights = run / "checkpoints/weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert stdout(capsys, "resume", str(run)) == out
    assert weights.stat().st_mtime_ns == before


def test_a_run_id_is_used_once_unless_the_run_is_to_be_continued(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", *TINY["vae"], *QUIET, "trainer.max_steps=2", "run_id=mine"]
    first = stdout(capsys, *command)
    assert main(command) == 2
    assert "mine exists; continue it with `aigc resume`" in capsys.readouterr().err
    assert stdout(capsys, *command, "--continue") == first


def test_sampling_images_writes_a_sheet(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for family in ("gan", "vae", "pixels"):
        (line,) = stdout(capsys, "sample", str(trained[family]), "-n", "5", "--output", f"{family}.png")
        assert line == f"samples: {family}.png"
        with Image.open(f"{family}.png") as picture:
            assert picture.size == (5 * 50 + 2, 52), "five cells of 8x8 pixels, six times enlarged"
    assert main(["sample", str(trained["gan"]), "--prompt", "x"]) == 2
    assert "--prompt: for text models only" in capsys.readouterr().err


def test_what_is_unmasked_has_no_options_of_what_is_written(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    *texts, _ = stdout(capsys, "sample", str(trained["masked"]), "-n", "2")
    assert "-" * 72 in texts
    assert main(["sample", str(trained["masked"]), "--prompt", "def "]) == 2
    assert capsys.readouterr().err.endswith("--prompt: for models that write from left to right only\n")


def test_sampling_text_continues_the_prompt(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", str(trained["text"]), "-n", "2", "--prompt", "def ", "--length", "50", "--seed", "3"]
    out = stdout(capsys, *command)
    assert stdout(capsys, *command) == out
    path = Path(out[-1].removeprefix("samples: "))
    texts = path.read_text().split("-" * 72)
    assert len(texts) == 2 and all(text.strip("\n").startswith("def ") for text in texts)
    greedy = stdout(capsys, *command, "--temperature", "0", "--top-k", "3")
    assert greedy != out
    one = stdout(capsys, *command[:2], "-n", "1", *command[4:])
    assert one[0] == out[0], "the first of two is the only one of one"
    second = texts[1].strip("\n").removeprefix("def ")
    stop = second[10:14]
    shorter = Path(stdout(capsys, *command, "--stop", stop)[-1].removeprefix("samples: ")).read_text()
    assert shorter.split("-" * 72)[1].strip("\n") == "def " + second[: second.index(stop)]


def test_a_beam_search_draws_nothing(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", str(trained["text"]), "--prompt", "def ", "--length", "9", "--beams", "3"]
    found = stdout(capsys, *command)
    assert stdout(capsys, *command, "--seed", "7")[:-1] == found[:-1]
    for options, says in (
        (["--top-k", "2"], "a search draws nothing; leave out --top-k"),
        (["--length", "99"], "exceed the context of 32"),
    ):
        assert main([*command, *options]) == 2
        assert says in capsys.readouterr().err


def test_evaluate_writes_scores_that_do_not_change(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(trained["gan"])
    document = json.loads(stdout(capsys, "evaluate", str(run.path), *QUICK, "--json")[-1])
    rows = [json.loads(line) for line in run.results_path.read_text().splitlines()]
    assert main(["evaluate", str(run.path), *QUICK]) == 0
    again = [json.loads(line) for line in run.results_path.read_text().splitlines()]
    for row in rows + again:
        del row["seconds_per_sample"]
    assert again == rows, "the same rows, not more of them"
    first = document["tables"][0]["rows"][0]
    assert first["name"].startswith("digits_gan/")
    assert 0 <= first["gap_low"] <= first["gap_closed"] <= first["gap_high"] <= 1
    likelihood = next(s for s in first["scores"] if s["metric"] == "bits_per_byte")
    assert likelihood["value"] is None
    stdout(capsys, "evaluate", str(run.path), "evaluation.n=80", *QUICK[1:])
    assert len(run.results_path.read_text().splitlines()) == 2 * len(rows), "another protocol stands beside it"
    listing = "\n".join(stdout(capsys, "runs", str(run.path.parents[1])))
    assert "finished" in listing and "gap closed" in listing
    assert main(["compare", str(run.path), "--data", "pydoc", *QUICK]) == 2
    assert "--data=pydoc: is for controls, and a run brings its own data" in capsys.readouterr().err


class Collector(HTMLParser):
    """Every reference of a page, its text, and the names of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.texts: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_compare_shows_every_family_and_flags_the_copycat(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(path) for path in trained.values()]
    out = stdout(
        capsys,
        "compare",
        *runs,
        "control:copycat",
        *QUICK,
        "--json",
        "--output",
        "out/report.html",
        "--data",
        "digits",
    )
    document = json.loads(out[-1])
    assert out[-2] == f"report: {Path('out/report.html').absolute()}"
    by_data = {table["data"]: {row["name"]: row for row in table["rows"]} for table in document["tables"]}
    assert set(by_data) == {"digits", "pydoc"}, "what cannot be compared stands in tables of its own"
    for table in document["tables"]:
        rows = {row["name"]: row for row in table["rows"]}
        assert list(rows)[-8:] == [f"control:{name}" for name in CONTROL_NAMES]
        # passages of 64 bytes are too short: a held-out one stands in the training text whole
        said = "copies training data" if table["data"] == "digits" else "crowds nearer to training data"
        assert any(said in flag for flag in rows["control:copycat"]["flags"])
        assert "copycat" in table["blind_to"]["frechet"] and "copycat" in table["blind_to"]["precision"]
        assert "copycat" not in table["blind_to"]["authenticity"]
    kinds = {
        name.split("/")[0]: next(s for s in row["scores"] if s["metric"] == "bits_per_byte")
        for name, row in by_data["digits"].items()
    }
    assert kinds["digits_gan"]["value"] is None
    assert kinds["digits_vae"]["kind"] == "upper bound"
    assert kinds["digits_transformer"]["kind"] == "exact"
    masked = next(row for name, row in by_data["pydoc"].items() if name.startswith("pydoc_masked"))
    kinds = {score["metric"]: score["kind"] for score in masked["scores"]}
    assert kinds["bits_per_byte"] == "upper bound"

    page = Collector()
    page.feed(Path("out/report.html").read_text())
    assert all(reference.startswith(("data:", "#")) for reference in page.references), "the file stands alone"
    assert page.references and not page.tags & {"link", "iframe"}
    text = " ".join(page.texts)
    for part in ("none", "≤", "copies training data", "Training", "nearest", "held out", "pytest", "commit"):
        assert part in text or part in "".join(out)


def test_hostile_text_in_a_sample_stays_text(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.open(trained["text"])
    stdout(capsys, "compare", str(run.path), *QUICK)
    (path,) = run.samples.glob("standard@*/exhibit.json")
    rows = json.loads(path.read_text())
    assert len({c["prompt"] for c in rows["continuations"]}) == 4 and len(rows["frontier"]) == 27
    rows["texts"][0]["sample"] = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
    path.write_text(json.dumps(rows))
    stdout(capsys, "compare", str(run.path), *QUICK)
    page = Collector()
    page.feed((run.path / "report.html").read_text())
    assert "img" not in page.tags and all(r.startswith(("data:", "#")) for r in page.references)
    assert any("<script>alert(1)</script>" in text for text in page.texts)


def test_markdown_tables(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = stdout(capsys, "compare", str(trained["vae"]), *QUICK, "--markdown")
    table = [line for line in out if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert any(line.startswith("| digits_vae |") for line in table)
    assert any("≤" in line for line in table)


def test_differences_from_a_baseline_in_every_style(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Likelihoods are compared item by item, so the interval is far narrower than those of the two runs."""
    vae, pixels = str(trained["vae"]), str(trained["pixels"])
    out = stdout(capsys, "compare", vae, "--baseline", pixels, *QUICK, "--json")
    (table,) = json.loads(out[-1])["tables"]
    rows = {row["name"].split("/")[0]: row for row in table["rows"]}
    assert rows["digits_transformer"]["differences"] == {}
    found = rows["digits_vae"]["differences"]
    bits = {
        family: next(s for s in rows[family]["scores"] if s["metric"] == "bits_per_byte")
        for family in ("digits_vae", "digits_transformer")
    }
    difference = bits["digits_vae"]["value"] - bits["digits_transformer"]["value"]
    assert found["bits_per_byte"]["value"] == pytest.approx(difference)
    assert {rows[family]["rank"]["low"] for family in bits} <= {1, 2}
    assert sum(rows[family]["rank"]["first"] for family in bits) == pytest.approx(1)

    latex = "\n".join(stdout(capsys, "compare", vae, "--baseline", pixels, *QUICK, "--latex"))
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 2
    assert "digits\\_vae" in latex and "\\pm" in latex
    assert "each window behind the start symbol, given that the item goes on: digits" in latex
    lines = stdout(capsys, "compare", vae, pixels, *QUICK, "--csv", "--all")[:-1]
    scores = list(csv.DictReader(lines))
    assert {row["metric"] for row in scores} >= {"kernel_distance", "mauve", "data_copying"}
    assert {row["run"].split("/")[0] for row in scores} >= {"digits_vae", "digits_transformer", "control:halves"}
    assert main(["compare", vae, "--baseline", "control:oracle", *QUICK]) == 2


def test_scored_runs_can_be_queried(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    runs_dir = trained["gan"].parents[1]
    stdout(capsys, "evaluate", str(trained["gan"]), *QUICK)
    out = stdout(capsys, "runs", str(runs_dir), "--where", "frechet > 0 and data = 'digits'", "--json")
    found = json.loads(out[-1])["runs"]
    mine = [row for row in found if row["run"].endswith(trained["gan"].name)]
    assert mine and all(row["protocol"].startswith("standard@") for row in found)
    assert json.loads(stdout(capsys, "runs", str(runs_dir), "--where", "frechet < 0", "--json")[-1])["runs"] == []
    for wrong, says in (
        ("gap_close > 0.8", "did you mean 'gap_closed'?"),
        ("1) UNION SELECT 1 --", "--where"),
        ("frechet > 0); DROP TABLE runs; --", "--where"),
        ("(SELECT writefile('x', 'y'))", "--where"),
    ):
        assert main(["runs", str(runs_dir), "--where", wrong]) == 2
        line = capsys.readouterr().err
        assert says in line and line.count("\n") == 1
    with sqlite3.connect(runs_dir / "results.sqlite") as database:
        assert database.execute("SELECT count(*) FROM scores WHERE metric = 'frechet'").fetchone()[0] >= 1


def test_calibration_draws_controls_by_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    out = stdout(capsys, "evaluate", "--calibrate", "--data", "digits", *QUICK, "--json")
    (calibration,) = json.loads(out[-1])["calibrations"]
    assert "copycat" in calibration["blind_to"]["frechet"]
    assert [n for n, _ in calibration["drift"]["frechet"]] == [30, 60]
    assert Image.open(calibration["heat_map"]).size[0] > 500


def test_controls_alone(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(stdout(capsys, "evaluate", "control:oracle", "--data", "digits", *QUICK, "--json")[-1])
    assert document["tables"][0]["rows"][0]["name"] == "control:oracle"


def test_a_run_whose_data_has_changed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("book.txt").write_text("a line of the book\n" * 300)
    data = ["data=text_file", "data.path=book.txt", *(o for o in TINY["text"] if o != "data=pydoc")]
    (line,) = stdout(capsys, "train", *data, *QUIET, "trainer.max_steps=2")
    run = line.removeprefix("run: ")
    Path("book.txt").write_text("another line of the book\n" * 300)
    assert main(["evaluate", run, *QUICK]) == 2
    assert "was trained on other data" in capsys.readouterr().err


def test_load_gives_the_generator(trained: dict[str, Path]) -> None:
    import torch

    for family, path in trained.items():
        generator = aigc_lab.load(path)
        samples = generator.sample(4, rng=torch.Generator().manual_seed(0))
        assert len(samples) == 4
        assert generator.modality == ("text" if family in ("text", "masked") else "image")
        assert generator.cost().parameters > 0
        likelihood = generator.log_likelihood(samples, rng=torch.Generator().manual_seed(0))
        assert (likelihood is None) == (family in ("gan", "classes", "flow"))


def test_metrics_csv_is_plain(trained: dict[str, Path]) -> None:
    with (trained["vae"] / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [] or set(rows[0]) == {"step", "metric", "value"}


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "aigc_lab", "--version"], capture_output=True, text=True)
    assert done.stdout == f"aigc, version {aigc_lab.__version__}\n"


@pytest.fixture
def sweep() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "aigc_lab", "train", "-m", *TINY["vae"], *QUIET, "trainer.max_steps=2"]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)

    return run


def test_a_sweep_trains_each_run_once(sweep: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """One process per run; one of them fails, the others are trained; repeated, only what is missing is."""
    arguments = ["seed=0,1,1", "model.latent_dim=2", "launcher.n_jobs=2", "name=sweep"]
    first = sweep(*arguments)
    assert first.returncode == 0, first.stderr
    assert "sweep of 2 runs, 2 to train" in first.stderr
    lines = first.stdout.splitlines()
    runs = {line.removeprefix("run: ") for line in lines}
    assert len(lines) == len(runs) == 2 and all(Run.open(run).status() == "finished" for run in runs)
    assert {Run.open(run).config().seed for run in runs} == {0, 1}
    assert shlex.join(Run.open(min(runs)).record()["command"]).startswith("aigc train")

    again = sweep(*arguments)
    assert "sweep of 2 runs, 0 to train" in again.stderr
    assert {line.removeprefix("run: ") for line in again.stdout.splitlines()} == runs


def test_one_damaged_run_does_not_hide_the_others(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("whole", "no_time", "no_scores"):
        shutil.copytree(trained["gan"], tmp_path / name)
    (tmp_path / "no_time/run.json").write_text('{"status": "finished", "wall_seconds": "x", "resumed": []}')
    (tmp_path / "no_scores/results.jsonl").write_text(
        '{"metric": "frechet", "value": "abc", "gap_closed": null}\n'
    )
    entries = {entry["run"]: entry for entry in list_runs(str(tmp_path))}
    assert entries["whole"]["status"] == "finished"
    assert entries["no_time"]["status"].startswith("damaged: ")
    assert entries["no_scores"]["scores"] == [] and "line 1: " in entries["no_scores"]["status"]
    assert main(["runs", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["runs", str(tmp_path), "--where", "1 = 1"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("aigc: left out: ") for line in said)


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", "abc"), ("weights", [1]), ("gap_closed", "x"), ("low", None), ("high", float("inf")), ("extra", 1)],
)
def test_a_damaged_row_is_one_line(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, value: Any
) -> None:
    """Found before torch is imported; the file is the user's to remove."""
    run = Run(shutil.copytree(trained["gan"], tmp_path / "run"))
    stdout(capsys, "evaluate", str(trained["gan"]), *QUICK)
    rows = [json.loads(line) for line in (trained["gan"] / "results.jsonl").read_text().splitlines()]
    rows[3][field] = value
    run.results_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for verb in ("evaluate", "compare"):
        assert main([verb, str(run.path), *QUICK]) == (0 if field == "low" else 2)
        if field != "low":
            (line,) = capsys.readouterr().err.splitlines()
            assert "results.jsonl: damaged (line 4: " in line and "remove it and evaluate again" in line


def test_rows_of_other_features_never_share_a_column(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(shutil.copytree(trained["vae"], tmp_path / "runs/vae"))
    stdout(capsys, "evaluate", str(run.path), *QUICK)
    stdout(capsys, "evaluate", str(run.path), *QUICK, "evaluation/features/image=pixels")
    listing = "\n".join(stdout(capsys, "runs", str(tmp_path / "runs")))
    assert listing.count("· features ") == 2 and "· features pixels" in listing and listing.count("≤ ") == 2
    found = "\n".join(stdout(capsys, "runs", str(tmp_path / "runs"), "--where", "frechet > 0"))
    assert found.count("· features ") == 2 and "· features pixels" in found
    (entry,) = json.loads(stdout(capsys, "runs", str(tmp_path / "runs"), "--json")[-1])["runs"]
    assert len({scores["features_hash"] for scores in entry["scores"]}) == 2
    asked = "\n".join(stdout(capsys, "runs", str(tmp_path / "runs"), "--where", "vendi_ratio > 0"))
    assert "vendi_ratio" in asked and "kernel_distance" not in asked


def test_what_a_report_needs_is_checked_before_anything_is_evaluated(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(trained["gan"])
    assert main(["compare", run, "--output", str(tmp_path)]) == 2
    assert "is a folder: give a file" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "file"))
    assert main(["evaluate", run]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is a file; name a folder" in line


def test_a_cache_that_cannot_be_read_is_made_anew(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "cache"))
    command = ["evaluate", "control:oracle", "--data", "digits", "evaluation.n=100"]

    def table() -> list[str]:
        return [line for line in stdout(capsys, *command) if "/sample" not in line]  # how long it took

    first = table()
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for i, path in enumerate(sorted(files)):
        path.write_bytes([b"", b"{}", b"\xff" * 99][i % 3])
    assert table() == first


def test_lost_weights_come_back_by_resuming(trained: dict[str, Path], tmp_path: Path) -> None:
    run = Run(shutil.copytree(trained["gan"], tmp_path / "run"))
    before = run.weights_path.read_bytes()
    run.weights_path.unlink()
    assert main(["resume", str(run.path)]) == 0
    assert run.weights_path.read_bytes() == before
