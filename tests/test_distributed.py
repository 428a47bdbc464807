"""Two processes on this machine, over gloo: as torchrun starts them (fast), and as Lightning does (whole CLI)."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import ALSO, QUIET, TINY

from aigc_lab.cli import main
from aigc_lab.metrics_file import read_metrics

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["aigc_lab.training", "sklearn.datasets", "aigc_lab.cli"])

SHORT = ["trainer.max_steps=8", "trainer.log_every_n_steps=2", "trainer.val_check_interval=4", *QUIET]


def _process(rank: int, port: int, arguments: list[str], spy_dir: str | None) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    if spy_dir:
        _spy(Path(spy_dir, f"rank{rank}.pt"))
    from aigc_lab.cli import main

    raise SystemExit(main(arguments))


def _spy(path: Path) -> None:
    """Record each batch, the random numbers that follow it, and the parameters before it."""
    from aigc_lab.data.samples import LabelledImages
    from aigc_lab.modules.base import GenerativeModule

    seen: list[tuple[torch.Tensor, ...]] = []
    on_start = GenerativeModule.on_train_batch_start

    def spy(self: GenerativeModule, batch: torch.Tensor | LabelledImages, batch_idx: int) -> None:
        on_start(self, batch, batch_idx)
        state = torch.get_rng_state()
        items = (batch if isinstance(batch, torch.Tensor) else batch.pixels).clone()
        parameters = torch.cat([parameter.detach().flatten() for parameter in self.parameters()])
        seen.append((items, torch.randn(4), parameters))
        torch.set_rng_state(state)
        torch.save(seen, path)

    GenerativeModule.on_train_batch_start = spy  # type: ignore[method-assign]


def two_processes(*arguments: str, spy_dir: Path | None = None) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spied = str(spy_dir) if spy_dir else None
    started = [processes.Process(target=_process, args=(r, port, list(arguments), spied)) for r in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert codes == [0, 0]


def train(runs_dir: Path, family: str, *overrides: str, spy_dir: Path | None = None) -> Path:
    two_processes(
        "train",
        *(TINY | ALSO)[family],
        "trainer=ddp_cpu",
        *SHORT,
        f"paths.runs_dir={runs_dir}",
        *overrides,
        spy_dir=spy_dir,
    )
    (run,) = runs_dir.glob("*/*")
    assert run.name == "job-test", "both processes agree on one directory"
    return run


@pytest.mark.parametrize("family", [*TINY, "classes"])
def test_every_family_trains_and_processes_see_different_data_and_noise(tmp_path: Path, family: str) -> None:
    run = train(tmp_path / "runs", family, spy_dir=tmp_path)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert max(step for step, _, _ in read_metrics(run / "metrics.csv")) == 7
    assert (run / "checkpoints/weights.safetensors").is_file()
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    for (data_a, noise_a, weights_a), (data_b, noise_b, weights_b) in zip(first, second, strict=True):
        assert len(data_a) == len(data_b)
        assert not torch.equal(data_a, data_b)
        assert not torch.equal(noise_a, noise_b)
        assert torch.equal(weights_a, weights_b), "and yet learn one set of weights: both players, averages too"
    assert not torch.equal(first[0][2], first[-1][2])


@pytest.mark.parametrize("trainer", ["ddp_cpu", "fsdp"])
def test_two_processes_with_half_the_batch_each_are_one_with_the_whole(tmp_path: Path, trainer: str) -> None:
    plain = ["model.network.dropout=0.0", *SHORT]
    assert main(["train", *TINY["text"], *plain, f"paths.runs_dir={tmp_path}/one"]) == 0
    on_cpu = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.precision=32-true"] if trainer == "fsdp" else []
    two = train(tmp_path / "two", "text", "model.network.dropout=0.0", *on_cpu)
    (one,) = (tmp_path / "one").glob("*/*")
    a, b = (safetensors.torch.load_file(run / "checkpoints/weights.safetensors") for run in (one, two))
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=1e-4, atol=1e-5)
    assert [r[:2] for r in read_metrics(one / "metrics.csv")] == [r[:2] for r in read_metrics(two / "metrics.csv")]
    values = [torch.tensor([v for _, _, v in read_metrics(run / "metrics.csv")]) for run in (one, two)]
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-4)


def test_uneven_responses_count_as_in_one_process(tmp_path: Path) -> None:
    """A mean of the processes' means would weigh a symbol by how many others its process has."""
    lines = [json.dumps({"prompt": "?" * (i % 5), "response": "a" * (1 + 37 * i % 50)}) for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    model = [override for override in TINY["text"] if override.startswith("model")]
    data = ["data=instructions", f"data.path={tmp_path}/pairs.jsonl", "data.context=64", "data.batch_size=4"]
    common = [*data, *model, "data.packing=false", "model.network.dropout=0.0", *SHORT]
    weights = []
    for name, run in (("one", lambda *a: main([*a])), ("two", two_processes)):
        distributed = ["trainer=ddp_cpu"] if name == "two" else []
        run("train", *common, *distributed, f"paths.runs_dir={tmp_path}/{name}")
        (path,) = (tmp_path / name).glob("*/*/checkpoints/weights.safetensors")
        weights.append(safetensors.torch.load_file(path))
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "trainer"), [("gan", "ddp_cpu"), ("text", "fsdp")])
def test_a_distributed_run_resumes_exactly(tmp_path: Path, family: str, trainer: str) -> None:
    on_cpu = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.precision=32-true"] if trainer == "fsdp" else []
    often = ["callbacks.checkpoint.every_n_steps=3", "callbacks.checkpoint.keep=9", *on_cpu]
    lecam = ["model/penalties=[r1,lecam]"] if family == "gan" else []  # whose averages are a state of their own
    run = train(tmp_path / "runs", family, *often, *lecam)
    expected = (run / "checkpoints/weights.safetensors").read_bytes(), (run / "metrics.csv").read_text()
    for late in ("step_00000008.ckpt", "step_00000006.ckpt", "weights.safetensors", "weights.json"):
        (run / "checkpoints" / late).unlink()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"status": "running"}))
    two_processes("resume", str(run))
    assert ((run / "checkpoints/weights.safetensors").read_bytes(), (run / "metrics.csv").read_text()) == expected


def test_lightning_starts_the_second_process_itself(tmp_path: Path) -> None:
    """The command as a user gives it: one directory, one `run:` line, one announcement."""
    command = [sys.executable, "-m", "aigc_lab", "train", *TINY["gan"], "trainer=ddp_cpu", *SHORT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs/digits_gan").iterdir()
    assert done.stdout == f"run: {run}\n"
    assert done.stderr.count("importing torch") == 1
