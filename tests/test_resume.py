"""A run killed at any moment resumes to the weights, and the log, of an unbroken run."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from conftest import ALSO, QUIET, TINY

from aigc_lab.run import Run

N_STEPS = 40
RUN = ["name=run", "run_id=x", f"trainer.max_steps={N_STEPS}", "trainer.log_every_n_steps=1"]
OFTEN = ["callbacks.checkpoint.every_n_steps=3", "trainer.val_check_interval=4", "trainer.limit_val_batches=2"]

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["aigc_lab.training", "sklearn.datasets", "aigc_lab.cli"])


def _aigc(arguments: list[str]) -> None:
    from aigc_lab.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    raise SystemExit(main(arguments))


def start(*arguments: str) -> multiprocessing.process.BaseProcess:
    """`aigc ARGUMENTS` in a process of its own, without the seconds that importing torch takes."""
    process = processes.Process(target=_aigc, args=(list(arguments),))
    process.start()
    return process


def finish(*arguments: str) -> None:
    process = start(*arguments)
    process.join()
    assert process.exitcode == 0


def training(runs_dir: Path, family: str) -> list[str]:
    return ["train", *(TINY | ALSO)[family], *RUN, *OFTEN, *QUIET, f"paths.runs_dir={runs_dir}"]


def outcome(run: Path) -> tuple[bytes, str]:
    return (run / "checkpoints/weights.safetensors").read_bytes(), (run / "metrics.csv").read_text()


def kill_and_resume(tmp_path: Path, family: str, n_kills: int, seed: int) -> None:
    finish(*training(tmp_path / "unbroken", family))
    whole = tmp_path / "unbroken/run/x"
    expected = outcome(whole)
    first_write = (whole / "config.yaml").stat().st_mtime
    duration = (whole / "run.json").stat().st_mtime - first_write
    rng = random.Random(seed)
    killed_at = []
    for i in range(n_kills):
        run = tmp_path / f"broken{i}/run/x"
        process = start(*training(tmp_path / f"broken{i}", family))
        while not run.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, duration))
        process.kill()  # SIGKILL
        process.join()
        checkpoints = sorted(p.name for p in run.glob("checkpoints/*.ckpt"))
        killed_at.append(checkpoints[-1] if checkpoints else "before the first checkpoint")
        finish("resume", str(run))
        assert outcome(run) == expected, f"kill {i} of {family}, newest checkpoint then: {killed_at[-1]}"
        assert len(list(run.rglob("*.safetensors"))) == 1
        assert not list(run.rglob("*.tmp"))
    assert len(set(killed_at)) > n_kills // 4, f"the kills hit few different moments: {killed_at}"


@pytest.mark.parametrize("family", [*TINY, "classes"])
def test_a_killed_run_resumes_to_the_same_weights_and_log(tmp_path: Path, family: str) -> None:
    kill_and_resume(tmp_path, family, n_kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("family", [*TINY, "classes"])
def test_twenty_kills(tmp_path: Path, family: str) -> None:
    kill_and_resume(tmp_path, family, n_kills=20, seed=2)


def test_ctrl_c_ends_with_130_and_an_interrupted_run(tmp_path: Path) -> None:
    process = start(*training(tmp_path, "vae"), "trainer.max_steps=100000")
    run = tmp_path / "run/x"
    while not list(run.glob("checkpoints/*.ckpt")):
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    assert Run(run).status() == "interrupted"
    assert json.loads((run / "run.json").read_text())["wall_seconds"] > 0
