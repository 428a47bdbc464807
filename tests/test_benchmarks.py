"""Every script of benchmarks/ at a size that takes seconds: it still runs, and ends with its JSON document."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = {
    "startup.py": "--rounds 1",
    "evaluation/extractors.py": "--data digits --n 40",
    "evaluation/frechet.py": "--n 60 --d 16 --rounds 1",
    "evaluation/manifold.py": "--n 60 --d 16 --rounds 1",
    "image/overhead.py": "--rounds 1 --steps 13 --size 16",
    "text/corpus_memory.py": "--mb 1 --tokenizers byte",
    "text/overhead.py": "--rounds 1 --steps 23",
    "text/sampling.py": "--rounds 1",
}
WITH_A_CHECKOUT = ["image/pytorch_gan.py", "text/nanogpt.py"]
"""Of their peer; without it they only say what they want."""


def test_every_script_is_run_here() -> None:
    scripts = {str(path.relative_to(BENCHMARKS)) for path in BENCHMARKS.rglob("*.py")}
    parts = {"evaluation/sides.py", "image/peer_networks.py"}
    assert scripts == {*TINY, *WITH_A_CHECKOUT, "evaluation/battery.py"} | parts


def test_the_battery(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(BENCHMARKS / "evaluation/battery.py")
    monkeypatch.setattr(sys, "argv", [path, "--n", "60", "--train", "200", "--d", "8"])
    runpy.run_path(path, run_name="__main__")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"].keys() > {
        "frechet",
        "feature_likelihood",
    }


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_a_benchmark(script: str, data_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *TINY[script].split()]
    environment = os.environ | {"AIGC_DATA": str(data_dir.absolute())}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("script", WITH_A_CHECKOUT)
def test_a_benchmark_that_wants_a_checkout(script: str) -> None:
    done = subprocess.run([sys.executable, str(BENCHMARKS / script)], capture_output=True, text=True)
    assert done.returncode == 2 and "--peer" in done.stderr
