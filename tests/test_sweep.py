import json
import sys
from pathlib import Path

import pytest

from aigc_lab.config.compose import Composer
from aigc_lab.launchers import Job, Local, Submitit
from aigc_lab.sweep import sweep, sweep_id


def expanded(*overrides: str) -> list[list[str]]:
    return Composer().sweep(overrides)


def test_comma_lists_ranges_and_globs_expand_in_order() -> None:
    assert expanded("seed=1,2", "model.lr=0.1", "+x=a,b") == [
        ["seed=1", "model.lr=0.1", "+x=a"],
        ["seed=1", "model.lr=0.1", "+x=b"],
        ["seed=2", "model.lr=0.1", "+x=a"],
        ["seed=2", "model.lr=0.1", "+x=b"],
    ]
    assert expanded("seed=range(0,6,2)") == [["seed=0"], ["seed=2"], ["seed=4"]]
    normals = [run[0] for run in expanded("experiment=glob(minimax/gaussian_*)")]
    assert normals == ["experiment=minimax/gaussian_1d", "experiment=minimax/gaussian_2d"]
    assert ["model=gan"] in expanded("model=glob(*)")
    assert expanded("optimizer.betas=[0.0,0.9]") == [["optimizer.betas=[0.0,0.9]"]], "a list is one value"


def test_a_runs_id_is_a_hash_of_what_shapes_its_result() -> None:
    def id_of(*overrides: str) -> str:
        return sweep_id(Composer().train(["data=digits", "model=vae", *overrides]))

    assert id_of() == id_of("paths.runs_dir=elsewhere", "launcher=slurm", "name=other", "tags=[a]")
    assert len({id_of(), id_of("seed=1"), id_of("model.lr=0.5"), id_of("trainer=ddp_cpu")}) == 4


def test_a_wrong_combination_stops_the_sweep_before_anything_starts(tmp_path: Path) -> None:
    from aigc_lab.errors import UserError

    with pytest.raises(UserError, match=r"model\.lr=oops"):
        sweep(Composer(), ["model.lr=0.1,oops", f"paths.runs_dir={tmp_path}/runs"], None)
    assert not (tmp_path / "runs").exists()


def jobs(*codes: str) -> list[Job]:
    trainer = Composer().train(["data=digits", "model=vae", "trainer=ddp"]).trainer
    return [Job(command=[sys.executable, "-c", code], trainer=trainer) for code in codes]


def test_local_jobs_report_their_exit_codes(tmp_path: Path) -> None:
    found = Local(n_jobs=2)(jobs("pass", "raise SystemExit(3)", "pass"), log_dir=tmp_path)
    assert dict(found) == {0: 0, 1: 3, 2: 0}


SUBMITIT = Submitit(cluster="local", timeout_min=2, mem_gb=1, cpus_per_task=1, partition=None, account=None)


def test_submitit_runs_them_too(tmp_path: Path) -> None:
    target = tmp_path / "done.json"
    code = f"import json, os; json.dump(sorted(os.environ), open({str(target)!r}, 'w'))"
    assert dict(SUBMITIT(jobs(code, "raise SystemExit(3)"), log_dir=tmp_path / "jobs")) == {0: 0, 1: 1}
    assert any(name.startswith("SUBMITIT") for name in json.loads(target.read_text()))


def test_slurm_gets_a_task_and_a_gpu_per_process() -> None:
    slurm = Submitit(cluster="slurm", timeout_min=60, mem_gb=8, cpus_per_task=4, partition="gpu", account=None)
    (job,) = jobs("pass")
    asked = slurm._parameters(job.trainer)
    assert (asked["tasks_per_node"], asked["gpus_per_node"], asked["nodes"]) == (2, 2, 1)
    assert asked["slurm_partition"] == "gpu" and "slurm_account" not in asked


def test_slurm_where_there_is_none_is_one_line(tmp_path: Path) -> None:
    from aigc_lab.errors import UserError

    slurm = Submitit(cluster="slurm", timeout_min=60, mem_gb=8, cpus_per_task=4, partition=None, account=None)
    with pytest.raises(UserError, match="launcher=local"):
        list(slurm(jobs("pass"), log_dir=tmp_path))


@pytest.mark.slow
def test_a_whole_sweep_through_submitit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from conftest import QUIET, TINY

    overrides = [*TINY["vae"], *QUIET, "trainer.max_steps=2", "seed=0,1", "launcher=submitit_local"]
    assert sweep(Composer(), [*overrides, f"paths.runs_dir={tmp_path}"], None) == 0
    runs = [line.removeprefix("run: ") for line in capsys.readouterr().out.splitlines()]
    assert len(runs) == 2
    assert all(Path(run, "checkpoints/weights.safetensors").is_file() for run in runs)
