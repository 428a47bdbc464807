"""The run directory: created whole or not at all, opened without executing anything found in it.

runs/<experiment>/<id>/
    config.yaml      the resolved configuration
    run.json         provenance and status
    metrics.csv      step, metric, value
    checkpoints/     training state; weights.safetensors and weights.json once finished
    samples/         what was sampled from it
    results.jsonl    scores
    report.html
"""

import json
import os
import platform
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from aigc_lab.config.schema import Config, check
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.processes import shared_name
from aigc_lab.types import NonNegativeFloat

if TYPE_CHECKING:
    from aigc_lab.data.spec import DataSpec

PACKAGES = ("aigc_lab", "torch", "torchvision", "pytorch-lightning", "transformers", "hydra-core", "numpy")

Status = Literal["running", "interrupted", "finished", "failed"]


class _Record(BaseModel):
    """What run.json must hold, and of which kind its other fields are where it has them."""

    status: str
    wall_seconds: NonNegativeFloat
    resumed: list[Any]
    command: list[str] = []
    git: dict[str, str] | None = None
    data: dict[str, Any] = {}


@dataclass(frozen=True)
class Weights:
    """What weights.safetensors holds: a kind of generator, for which data, which weights, after which step."""

    kind: str
    weights: str
    step: int
    spec: "DataSpec"


@dataclass(frozen=True)
class Run:
    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def record_path(self) -> Path:
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights_path(self) -> Path:
        return self.checkpoints / "weights.safetensors"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def results_path(self) -> Path:
        return self.path / "results.jsonl"

    @property
    def name(self) -> str:
        """<experiment>/<id>, as the run stands below its runs folder."""
        return f"{self.config().name}/{self.path.name}"

    @property
    def runs_dir(self) -> Path | None:
        """The folder of all runs: `name` stands below it. None where a run was copied somewhere else."""
        name = Path(self.name).parts
        return Path(*self.path.parts[: -len(name)]) if self.path.parts[-len(name) :] == name else None

    @classmethod
    def create(cls, path: Path, config: Config, argv: list[str]) -> "Run":
        """A new run directory with its configuration and provenance, renamed into place when complete.

        Raises:
            UserError: a run of that id exists, or the folder cannot be written.
        """
        if path.exists():
            raise UserError(f"run_id={path.name}: {path} exists; continue it with `aigc resume`")
        staging = path.with_name(f".{path.name}.new")
        try:
            (staging / "checkpoints").mkdir(parents=True, exist_ok=True)
            run = cls(staging)
            text = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
            write_atomically(run.config_path, text)
            write_atomically(run.record_path, _json(provenance(config, argv) | {"config": _digest(text)}))
            staging.rename(path)
        except OSError as error:
            raise UserError(f"cannot create a run in {path.parent}: {error.strerror}") from None
        return cls(path)

    @staticmethod
    def planned_path(config: Config) -> Path:
        """Where a run of this configuration goes; another one each time unless `run_id` or a launcher names it."""
        return Path(config.paths.runs_dir, config.name, config.run_id or new_id()).absolute()

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """
        Raises:
            UserError: `path` is not a run directory.
        """
        run = cls(Path(path).absolute())
        if not run.path.is_dir():
            raise UserError(f"{path}: no such run directory")
        for file in (run.config_path, run.record_path):
            if not file.is_file():
                raise UserError(f"{path}: not a run directory ({file.name} is missing)")
        return run

    def config(self) -> Config:
        """The configuration, read as plain data and checked like any other.

        Raises:
            UserError: it is not YAML, not what the run began with, or does not pass the check.
        """
        try:
            text = self.config_path.read_text(encoding="utf-8")
            tree = yaml.safe_load(text)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"{self.config_path}: cannot be read as plain YAML ({reason})") from None
        if not isinstance(tree, Mapping):
            raise UserError(f"{self.config_path}: not a configuration")
        try:
            config = check(tree, Config)
        except UserError as error:
            raise UserError(f"{self.config_path}: {error}") from None
        if self.record().get("config", _digest(text)) != _digest(text):
            raise UserError(
                f"{self.config_path}: is not the configuration that this run began with; put it back, or train "
                "anew with the values that you want"
            )
        return config

    def record(self) -> dict[str, Any]:
        """run.json.

        Raises:
            UserError: it is damaged.
        """
        values = _read_json(self.record_path)
        try:
            _Record.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(f"{self.record_path}: damaged ({where}: {first['msg']})") from None
        return values

    def update(self, **fields: Any) -> None:
        """Set fields of run.json."""
        write_atomically(self.record_path, _json(self.record() | fields))

    def weights(self) -> Weights:
        """What the exported weights are.

        Raises:
            UserError: there are none, or their description is damaged.
        """
        from aigc_lab.data.spec import DataSpec  # needs torch, which `aigc runs` does without

        description = self.weights_path.with_suffix(".json")
        if not self.weights_path.is_file() or not description.is_file():
            record = self.record()
            if record["status"] == "failed":
                raise UserError(f"{self.path}: has no weights, for it failed: {record.get('error')}")
            raise UserError(f"{self.path}: has no weights yet; finish it with `aigc resume {self.path}`")
        values = _read_json(description)
        try:
            spec = DataSpec.from_json(values["spec"])
            return Weights(str(values["kind"]), str(values["weights"]), int(values["step"]), spec)
        except UserError as error:
            raise UserError(f"{description}: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{description}: damaged ({error!r})") from None

    def write_weights(self, serialised: bytes, weights: Weights) -> None:
        """Export the sampling weights; the description comes last, so it never describes what is not there."""
        write_atomically(self.weights_path, serialised)
        description = vars(weights) | {"spec": weights.spec.to_json()}
        write_atomically(self.weights_path.with_suffix(".json"), _json(description))

    def latest_checkpoint(self) -> Path | None:
        """The newest training state, or None."""
        return max(self.checkpoints.glob("step_*.ckpt"), default=None)

    def status(self) -> Status:
        """As recorded, but a run that says it is running while nobody holds its lock was interrupted."""
        recorded = self.record().get("status")
        if recorded in ("finished", "failed"):
            return recorded
        try:
            with self._lock():
                return "interrupted"
        except OSError:  # another process holds it (Timeout), or the folder can only be read
            return "running"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run while training it. The operating system lets go when the process ends, however it does.

        Raises:
            UserError: another process holds it.
        """
        try:
            with self._lock():
                yield
        except Timeout:
            raise UserError(f"{self.path}: is being trained by another process") from None

    def _lock(self) -> FileLock:
        return FileLock(self.path / ".lock", timeout=0)


def new_id() -> str:
    """Sorts by time; the same on every process of one launch, whoever launched it.

    Raises:
        UserError: an outside launcher gave its processes no common name.
    """
    try:
        shared = shared_name()
    except LookupError as error:
        raise UserError(f"run_id: give one (run_id=NAME), for {error}") from None
    return shared or f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def provenance(config: Config, argv: list[str]) -> dict[str, Any]:
    """What it takes to know how a number came about."""
    return {
        "status": "running",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": argv,
        "seed": config.seed,
        "git": git_state(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "environment": {k: v for k, v in os.environ.items() if k in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")},
        "wall_seconds": 0.0,
        "resumed": [],
    }


def git_state() -> dict[str, str] | None:
    """Commit of the lab's checkout and a hash of its uncommitted changes; None for an installed package."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        diff = _git(root, "diff", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "diff": sha256(diff).hexdigest()[:12] if diff else "clean"}


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, timeout=20).stdout


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is in no encoding
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a JSON object")
    return values


def all_runs(runs_dir: str | Path) -> list[Run]:
    """Every run below a folder, oldest first by name."""
    records = sorted(Path(runs_dir).absolute().glob("**/run.json"))
    runs = [Run(record.parent) for record in records if (record.parent / "config.yaml").is_file()]
    return [run for run in runs if not run.path.name.startswith(".")]  # half-created
