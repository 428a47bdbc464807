"""A checked configuration becomes a trained run. The only caller of Lightning's Trainer."""

import contextlib
import logging
import os
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import safetensors.torch
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor

from aigc_lab.callbacks import AtomicCheckpointIO
from aigc_lab.config.schema import Config
from aigc_lab.config.schema import Trainer as TrainerConfig
from aigc_lab.config.targets import build
from aigc_lab.data import Dataset
from aigc_lab.data.images import ImageData
from aigc_lab.data.instructions import Conversations
from aigc_lab.data.packing import Batch
from aigc_lab.data.samples import LabelledImages
from aigc_lab.data.stream import HeldOutBatches, TrainingStream, fold
from aigc_lab.errors import UserError
from aigc_lab.files import remove_temporaries
from aigc_lab.loggers import MetricsFile
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.processes import global_rank
from aigc_lab.run import Run, Weights

RUN_DIR = "AIGC_RUN_DIR"
"""Environment variable by which the first process tells those it starts which run they belong to."""

PROFILERS: Mapping[str, Callable[[Path, str], Profiler]] = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
"""They write fit-profile.txt into the run directory."""

_INITIALISATION = 2


@dataclass(frozen=True)
class _Parts:
    """Everything that a configuration describes, built."""

    dataset: Dataset
    module: GenerativeModule
    loggers: list[Logger]
    callbacks: list[pl.Callback]


def train(config: Config, argv: list[str]) -> Run:
    """Train a new run. Its directory appears once everything has been built.

    Raises:
        UserError: the configuration cannot be built, or the data cannot be read.
    """
    # a process that the first one started is told the directory; those of torchrun and SLURM work it out
    path = Path(os.environ[RUN_DIR]) if RUN_DIR in os.environ else Run.planned_path(config)
    parts = _build(config, path)
    run = Run.create(path, config, argv) if global_rank() == 0 else Run(path)
    return _fit(run, config, parts)


def resume(run: Run) -> Run:
    """Continue a run from its newest checkpoint, to the weights it would have reached unbroken.

    Raises:
        UserError: another process is training it, its data has changed, or it cannot be built any more.
    """
    config = run.config()
    parts = _build(config, run.path)
    now_hash = parts.dataset.spec.content_hash
    recorded = run.record().get("data", {})
    if (before := recorded.get("content_hash", now_hash)) != now_hash:
        raise UserError(
            f"{run.path}: the data has changed since the run began "
            f"(content hash {before[:12]}, now {now_hash[:12]})"
        )
    symbols = parts.dataset.spec.summary()["tokenizer"]
    if recorded.get("tokenizer", symbols) != symbols:
        raise UserError(f"{run.path}: the tokenizer has changed since the run began")
    return _fit(run, config, parts)


def restore(run: Run) -> tuple[Dataset, GenerativeModule]:
    """The data set and the whole module of a run, its discriminator too, as its newest checkpoint has them.

    Raises:
        UserError: the run has no checkpoint, or cannot be built any more.
    """
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        raise UserError(f"{run.path}: has no checkpoint; continue it with `aigc resume {run.path}`")
    dataset, module = _build_module(run.config())
    module.load_state_dict(AtomicCheckpointIO().load_checkpoint(checkpoint)["state_dict"])
    return dataset, module.eval()


def _build(config: Config, path: Path) -> _Parts:
    dataset, module = _build_module(config)
    loggers = build(config.logger, path="logger", supplied={"save_dir": str(path)})
    callbacks = build(config.callbacks, path="callbacks", supplied={"run_dir": path, "dataset": dataset})
    return _Parts(dataset, module, list(loggers.values()), list(callbacks.values()))


def _build_module(config: Config) -> tuple[Dataset, GenerativeModule]:
    settings = config.trainer
    if settings.accelerator == "gpu" and torch.cuda.device_count() < settings.devices:
        raise UserError(
            f"trainer.devices={settings.devices}: this machine has {torch.cuda.device_count()} CUDA GPUs; "
            "train on the CPU with trainer=cpu"
        )
    dataset: Dataset = build(config.data, path="data", supplied={"cache_dir": config.paths.cache})
    world_size = settings.devices * settings.num_nodes
    if dataset.batch_size % world_size:
        raise UserError(
            f"data.batch_size={dataset.batch_size}: must divide by the {world_size} processes of "
            "trainer.devices x trainer.num_nodes (it is the batch over all of them)"
        )
    plan = Plan(
        spec=dataset.spec,
        batch_size=dataset.batch_size // world_size,
        optimizer=build(config.optimizer, path="optimizer"),
        max_steps=settings.max_steps,
        seed=config.seed,
        gradient_clip_val=settings.gradient_clip_val,
        micro_batches=settings.micro_batches,
        log_every_n_steps=settings.log_every_n_steps,
    )
    torch.manual_seed(fold(config.seed, _INITIALISATION))
    supplied = {"plan": plan, "shape": plan.spec.shape, "vocab_size": plan.spec.vocab_size}
    module = build(config.model, path="model", supplied=supplied)
    if not isinstance(module, GenerativeModule):
        raise UserError(f"model._target_: '{config.model['_target_']}' is not one of aigc_lab.modules")
    if module.wants_pairs != (pairs := getattr(dataset, "pairs", False)):
        raise UserError(
            f"data: {dataset.spec.name} holds {'pairs' if pairs else 'no pairs'} of responses; pairs "
            "(data=preferences) are for model=dpo, and nothing else is"
        )
    if isinstance(dataset, Conversations) and not module.can_answer:
        raise UserError(
            f"data: {dataset.spec.name} holds conversations, and {type(module).__name__} cannot learn responses "
            "alone; use model=transformer or model=finetune"
        )
    if module.wants_labels and not (isinstance(dataset, ImageData) and plan.spec.n_classes > 1):
        raise UserError(f"model: {dataset.spec.name} has no classes of its images; leave the conditions out")
    if settings.strategy == "fsdp" and not module.can_shard:
        raise UserError(
            f"trainer.strategy=fsdp: {type(module).__name__} is not sharded; it trains with trainer.strategy=ddp"
        )
    if settings.precision == "bf16-true" and not module.can_shard:
        raise UserError(
            f"trainer.precision=bf16-true: {type(module).__name__} keeps its weights in float32; "
            "train with trainer.precision=bf16-mixed"
        )
    if settings.micro_batches > 1 and not module.can_split:
        raise UserError(
            f"trainer.micro_batches={settings.micro_batches}: {type(module).__name__} takes a batch as a whole; "
            "train with trainer.micro_batches=1"
        )
    if settings.compile and settings.accelerator == "cpu" and not (os.environ.get("CXX") or shutil.which("g++")):
        raise UserError("trainer.compile=true: needs a C++ compiler for the CPU; install g++, or train without")
    return dataset, module


def _fit(run: Run, config: Config, parts: _Parts) -> Run:
    """Train under the run's lock and record what became of it; other processes only train."""
    if global_rank() != 0:
        _run_trainer(run, config, parts)
        return run
    with run.locked():
        remove_temporaries(run.path)
        before = run.record()
        resumed = [*before["resumed"], now()] if "data" in before else []
        data, device = parts.dataset.spec.summary(), device_name(config.trainer)
        run.update(status="running", data=data, device=device, resumed=resumed)
        began = time.monotonic()
        os.environ[RUN_DIR] = str(run.path)
        try:
            _run_trainer(run, config, parts)
        except Exception as error:
            run.update(status="failed", error=f"{type(error).__name__}: {error}"[:2000])
            raise
        finally:
            del os.environ[RUN_DIR]
            run.update(wall_seconds=round(before["wall_seconds"] + time.monotonic() - began, 3))
        run.update(status="finished")
    return run


def _run_trainer(run: Run, config: Config, parts: _Parts) -> None:
    settings, module, checkpoint = config.trainer, parts.module, run.latest_checkpoint()
    if settings.max_steps == 0:  # a pretrained model as it is
        if global_rank() == 0:
            _export(run, module, module.state_dict(), step=0)
        return
    next_step = int(checkpoint.stem.removeprefix("step_")) if checkpoint else 0
    if checkpoint and next_step >= settings.max_steps:  # killed between the last checkpoint and the export
        _export(run, module, AtomicCheckpointIO().load_checkpoint(checkpoint)["state_dict"], step=next_step)
        return
    _quieten()
    if not torch.cuda.is_available():
        # Lightning has torch look for NVIDIA's library, which each step of an optimizer would do anew: 0.25 ms
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    trainer = pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=_strategy(settings, module),
        precision=settings.precision,
        max_epochs=1,  # the stream of a whole run is one epoch
        val_check_interval=settings.val_check_interval,
        check_val_every_n_epoch=None,
        limit_val_batches=settings.limit_val_batches if _validates(module) else 0,
        log_every_n_steps=settings.log_every_n_steps,
        detect_anomaly=settings.detect_anomaly,
        profiler=PROFILERS[settings.profiler](run.path, "profile") if settings.profiler else None,
        num_sanity_val_steps=0,
        logger=[MetricsFile(run.metrics_path, next_step=next_step), *parts.loggers],
        callbacks=parts.callbacks,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(run.path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    loaders = _Loaders(config, parts.dataset, labelled=module.wants_labels)
    if settings.compile:
        module.compile_networks()
    with numerics(settings):
        try:
            trainer.fit(module, datamodule=loaders, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # how Lightning ends after Ctrl-C
            raise KeyboardInterrupt(f"interrupted; continue with: aigc resume {run.path}") from None
    state = trainer.strategy.lightning_module_state_dict()  # every process takes part in gathering shards
    if trainer.is_global_zero:
        _export(run, module, state, step=trainer.fit_loop.batch_idx + 1)


class _Loaders(pl.LightningDataModule):
    """The streams of this process, made once Lightning knows its rank."""

    def __init__(self, config: Config, dataset: Dataset, *, labelled: bool) -> None:
        super().__init__()
        self.config, self.dataset = config, dataset
        self.gather: Callable[[Tensor, Tensor], Batch | LabelledImages] = dataset.gather
        self.gather_held_out: Callable[[Tensor], Batch | LabelledImages] = dataset.gather_held_out
        if labelled:
            assert isinstance(dataset, ImageData)
            self.gather, self.gather_held_out = dataset.gather_labelled, dataset.gather_held_out_labelled

    def train_dataloader(self) -> TrainingStream:
        assert self.trainer is not None
        limit = self.config.trainer.limit_train_items
        n_items, gather = self.dataset.n_items, self.gather
        if limit is not None:  # the same items every epoch: a text's windows do not move
            n_items = min(n_items, limit)
            gather = lambda epoch, item: self.gather(torch.zeros_like(epoch), item)  # noqa: E731
        return TrainingStream(
            gather,
            n_items=n_items,
            batch_size=self.dataset.batch_size,
            n_batches=self.config.trainer.max_steps,
            seed=self.config.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )

    def val_dataloader(self) -> HeldOutBatches:
        assert self.trainer is not None
        return HeldOutBatches(
            self.gather_held_out,
            n_items=self.dataset.n_held_out_items,
            batch_size=self.dataset.batch_size,
            n_batches=self.config.trainer.limit_val_batches,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )


@contextlib.contextmanager
def numerics(settings: TrainerConfig) -> Iterator[None]:
    """The process-wide switches of a run, put back afterwards: quickstart trains several in one process."""
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.set_num_threads(settings.num_threads or threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def _strategy(settings: TrainerConfig, module: GenerativeModule) -> Strategy | str:
    world_size = settings.devices * settings.num_nodes
    backend = "gloo" if settings.accelerator == "cpu" else "nccl"
    if settings.strategy == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=world_size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=backend,
        )
    if world_size > 1 or settings.strategy == "ddp":
        # with several optimizers a backward pass reaches the parameters of one of them only
        return DDPStrategy(find_unused_parameters=module.n_optimizers > 1, process_group_backend=backend)
    return "auto"


def _export(run: Run, module: GenerativeModule, state: dict[str, Any], *, step: int) -> None:
    """Write the sampling weights, and nothing else of the training state, as safetensors."""
    sampler = module.sampler
    # clones, because a file of safetensors holds no tensor under two names
    tensors = {name: tensor.contiguous().clone() for name, tensor in module.sampling_state(state).items()}
    weights = Weights(type(sampler).__name__, module.weights_name, step, module.plan.spec)
    run.write_weights(safetensors.torch.save(tensors), weights)


def _validates(module: GenerativeModule) -> bool:
    return is_overridden("validation_step", module, pl.LightningModule)


def _quieten() -> None:
    """Keep Lightning's advice on things the lab does on purpose out of the user's terminal."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")


def device_name(settings: TrainerConfig) -> str:
    """Model name of the processor that trains, and how many of them."""
    if settings.accelerator == "gpu":
        return f"{settings.devices * settings.num_nodes} x {torch.cuda.get_device_name(0)}"
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    threads = settings.num_threads or torch.get_num_threads()
    return f"{settings.devices * settings.num_nodes} x CPU {model}, {threads} threads"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
