"""Where runs are executed: on this machine, or by submitit on a SLURM cluster. One process per run."""

import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from aigc_lab.config.schema import Trainer
from aigc_lab.errors import UserError
from aigc_lab.types import PositiveInt


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command to run, and the processes and devices that its run wants."""

    command: list[str]
    trainer: Trainer


class Launcher(Protocol):
    in_place: ClassVar[bool]
    """Whether a single run, asked for without -m, is trained by the asking process itself."""

    def __call__(self, jobs: Sequence[Job], *, log_dir: Path) -> Iterator[tuple[int, int]]:
        """Run the jobs; yield (index, exit code) as they end."""
        ...


@dataclass(frozen=True, kw_only=True)
class Local:
    """Child processes on this machine.

    Args:
        n_jobs: how many at a time.
    """

    in_place: ClassVar[bool] = True
    n_jobs: PositiveInt

    def __call__(self, jobs: Sequence[Job], *, log_dir: Path) -> Iterator[tuple[int, int]]:
        with ThreadPoolExecutor(self.n_jobs) as pool:
            # stdout is the sweep's own: children that share it cut into each other's lines.
            running = {pool.submit(subprocess.call, job.command, stdout=2): i for i, job in enumerate(jobs)}
            for done in as_completed(running):
                yield running[done], done.result()


@dataclass(frozen=True, kw_only=True)
class Submitit:
    """Jobs of a SLURM cluster, or of submitit's own local executor.

    A SLURM job gets one task and one GPU per process of the run, as Lightning expects of SLURM.

    Args:
        cluster: `slurm`, or `local` for child processes through the same machinery.
        timeout_min, mem_gb, cpus_per_task, partition, account: what is asked of SLURM.
    """

    in_place: ClassVar[bool] = False
    cluster: Literal["slurm", "local"]
    timeout_min: PositiveInt
    mem_gb: PositiveInt
    cpus_per_task: PositiveInt
    partition: str | None
    account: str | None

    def __call__(self, jobs: Sequence[Job], *, log_dir: Path) -> Iterator[tuple[int, int]]:
        """
        Raises:
            UserError: submitit is not installed, or there is no SLURM here.
        """
        try:
            import submitit
        except ImportError:
            raise UserError("launcher: submitit is not installed; pip install 'aigc_lab[slurm]'") from None
        try:
            executor = submitit.AutoExecutor(folder=log_dir / "%j", cluster=self.cluster)
        except RuntimeError as error:
            raise UserError(f"launcher=slurm: {error}; on one machine use launcher=local") from None
        submitted = []
        for job in jobs:
            executor.update_parameters(**self._parameters(job.trainer))
            submitted.append(executor.submit(submitit.helpers.CommandFunction(job.command)))
        for i, handle in enumerate(submitted):
            failure = handle.exception()
            yield i, 0 if failure is None else 1

    def _parameters(self, trainer: Trainer) -> dict[str, int | str]:
        on_slurm = self.cluster == "slurm"
        asked: dict[str, int | str | None] = {
            "timeout_min": self.timeout_min,
            "mem_gb": self.mem_gb,
            "cpus_per_task": self.cpus_per_task,
            "nodes": trainer.num_nodes,
            "tasks_per_node": trainer.devices if on_slurm else 1,
            "gpus_per_node": trainer.devices if on_slurm and trainer.accelerator == "gpu" else 0,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
        }
        return {key: value for key, value in asked.items() if value is not None}
