"""Lightning callbacks: checkpoints that survive a kill, and progress that a person can read."""

import math
import pickle
import sys
import time
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import ModelParallelStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from torch import Tensor

from aigc_lab.data import Dataset
from aigc_lab.data.images import ImageData
from aigc_lab.data.samples import Images, Points
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.loggers import log_picture
from aigc_lab.minimax import parzen, sampled
from aigc_lab.modules.base import GenerativeModule
from aigc_lab.modules.gan import GAN
from aigc_lab.nets.rectifier import SigmoidImages
from aigc_lab.pictures import sheet, to_png
from aigc_lab.run import Run
from aigc_lab.types import NonNegativeInt, PositiveInt


class Checkpoint(pl.Callback):
    """Saves the whole training state every `every_n_steps` batches and after the last; keeps the newest.

    Args:
        every_n_steps: batches between two checkpoints.
        keep: how many to keep.
        run_dir: of the run; supplied by the lab.
    """

    def __init__(self, *, every_n_steps: PositiveInt, keep: PositiveInt, run_dir: Path) -> None:
        self.every_n_steps, self.keep = every_n_steps, keep
        self.folder = run_dir / "checkpoints"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, unless this batch is validated: then afterwards, or a resumed run would skip validating it."""
        if not self._is_validated(trainer, batch_idx + 1):
            self._save_if_due(trainer, batch_idx + 1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_if_due(trainer, trainer.fit_loop.batch_idx + 1)

    def _is_validated(self, trainer: pl.Trainer, step: int) -> bool:
        interval = trainer.val_check_batch
        return bool(trainer.enable_validation and interval is not None and step % interval == 0)

    def _save_if_due(self, trainer: pl.Trainer, step: int) -> None:
        if step % self.every_n_steps and step != trainer.num_training_batches:
            return
        trainer.save_checkpoint(self.folder / f"step_{step:08d}.ckpt")
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob("step_*.ckpt"))[: -self.keep]:
                old.unlink()


class MinimaxValue(pl.Callback):
    """Holds a GAN's game against theory, on data of known density, every `every_n_steps` batches and at the end.

    Logs `minimax/value` = V(D, G) on held-out points and as many generated ones, `minimax/optimum` = C(G), the
    value that the best discriminator would reach, with its error `minimax/optimum_error`, and `minimax/floor` =
    -log 4, where the generator has won. G is the generator as it is sampled.

    Args:
        every_n_steps: batches between two looks.
        n: generated points; they set the error (`aigc_lab.minimax.sampled`).
        dataset: of the run; supplied by the lab.
    """

    def __init__(self, *, every_n_steps: PositiveInt, n: PositiveInt, dataset: Dataset) -> None:
        law = getattr(dataset, "law", None)
        if law is None:
            raise ValueError(f"MinimaxValue: the density of {dataset.spec.name} is not known")
        self.every_n_steps, self.n, self.law, self.dataset = every_n_steps, n, law, dataset

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, GAN):
            raise UserError(f"callbacks: MinimaxValue is for a GAN, not for {type(pl_module).__name__}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = batch_idx + 1
        if trainer.is_global_zero and not (step % self.every_n_steps and step != trainer.num_training_batches):
            assert isinstance(pl_module, GAN)
            values = self.look(pl_module)
            for logger in trainer.loggers:
                logger.log_metrics(values, batch_idx)

    def look(self, module: GAN) -> dict[str, float]:
        """The logged values now, always on the same latents: what moves in a curve is the game."""
        generated = module.sampler.push_forward(self.n, rng=torch.Generator().manual_seed(0))
        held_out = self.dataset.real("held_out")
        assert isinstance(held_out, Points)

        def logits(x: Tensor) -> Tensor:
            return module.discriminator(x.to(module.device)).cpu()

        played = sampled.play(logits, self.law, real=held_out.coordinates, generated=generated)
        return {
            "minimax/value": played.value,
            "minimax/optimum": played.optimum,
            "minimax/optimum_error": 2 * played.jsd.error,
            "minimax/floor": -math.log(4),
        }


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name first; loads tensors and plain containers only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Serialise and rename into place."""
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load with weights_only=True, whatever is asked for: nothing in a checkpoint is executed.

        Raises:
            UserError: it is damaged, or holds more than tensors and plain containers.
        """
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            reason = str(error).split(". ")[0].split("\n")[0]
            raise UserError(
                f"{path}: not a checkpoint of this lab ({reason}); remove it to resume before it"
            ) from None


class ShowProgress(pl.Callback):
    """A bar with speed, losses and time left on a terminal; a plain line now and then where it is not one.

    Args:
        every_n_seconds: between two plain lines.
    """

    def __init__(self, *, every_n_seconds: PositiveInt) -> None:
        self.every_n_seconds = every_n_seconds
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.first_step, self.began, self.last_line = 0, 0.0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.first_step = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        self.began = self.last_line = time.monotonic()
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]:.1f} batches/s"),
                TimeRemainingColumn(),
                # the losses take what is left of the line and are cut there: the rest stays readable
                TextColumn("{task.fields[losses]}", table_column=Column(ratio=1, no_wrap=True)),
                console=self.console,
                expand=True,
            )
            total, done = int(trainer.num_training_batches), self.first_step
            self.task = self.bar.add_task("training", total=total, completed=done, speed=0.0, losses="")
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, done, total = time.monotonic(), batch_idx + 1, int(trainer.num_training_batches)
        speed = (done - self.first_step) / max(now - self.began, 1e-9)
        if self.bar:
            self.bar.update(self.task, completed=done, speed=speed, losses=_losses(trainer))
        elif trainer.is_global_zero and (now - self.last_line >= self.every_n_seconds or done == total):
            self.last_line = now
            left = timedelta(seconds=round((total - done) / speed))
            line = f"step {done}/{total}  {speed:.1f} batches/s  {left} left  {_losses(trainer)}"
            print(line, file=sys.stderr, flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


class StartAtMeans(pl.Callback):
    """Before the first step, a sigmoid generator's last bias gives every pixel its mean in the training data.

    Args:
        dataset: supplied by the lab.
    """

    def __init__(self, *, dataset: Dataset) -> None:
        self.images = _images(dataset, "start_at_means")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """
        Raises:
            UserError: the model is no GAN, or its generator's last layer has no sigmoid.
        """
        if trainer.fit_loop.epoch_loop.batch_progress.current.completed:
            return  # resumed
        mean = self.images.real("train").pixels.double().mean(0) / (self.images.spec.vocab_size - 1)
        module = _gan(pl_module, "start_at_means")
        for generator in (module.generator, module.generator_ema):
            if not isinstance(generator.network, SigmoidImages):
                raise UserError(
                    "callbacks.start_at_means: the generator's last layer has no sigmoid; "
                    "use model/generator=rectifier"
                )
            generator.network.start_at(mean)


class LogParzen(pl.Callback):
    """The Parzen estimate of 2014 (`aigc_lab.minimax.parzen`) while a GAN trains, in nats per image.

    Args:
        every_n_steps: batches between two estimates.
        n: samples under the kernels; 10,000 in 2014.
        seed: of the samples.
        dataset: supplied by the lab.
    """

    def __init__(
        self, *, every_n_steps: PositiveInt, n: PositiveInt, seed: NonNegativeInt, dataset: Dataset
    ) -> None:
        self.every_n_steps, self.n, self.seed = every_n_steps, n, seed
        self.images = _images(dataset, "log_parzen")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.every_n_steps or not trainer.is_global_zero:
            return
        rng = torch.Generator().manual_seed(self.seed)
        samples = (_gan(pl_module, "log_parzen").sampler.push_forward(self.n, rng=rng) + 1) / 2
        found = parzen.protocol_2014(samples, *self.images.intensities())
        values = {"mean": found.mean, "standard_error": found.standard_error, "sigma": found.sigma}
        for logger in trainer.loggers:
            logger.log_metrics({f"parzen/{name}": value for name, value in values.items()}, batch_idx)


class LogSamples(pl.Callback):
    """Sheets of samples after every `every_n_steps` batches and the last, in RUN/samples and in the loggers that
    take pictures. The noise is always the same: what moves from sheet to sheet is the generator, as it is sampled.

    Args:
        every_n_steps: batches between two sheets.
        n: samples on each.
        seed: of the noise; `aigc sample RUN --seed` has the same.
        dataset, run_dir: supplied by the lab.

    Raises:
        ValueError: the data holds no images.
    """

    def __init__(
        self, *, every_n_steps: PositiveInt, n: PositiveInt, seed: NonNegativeInt, dataset: Dataset, run_dir: Path
    ) -> None:
        if dataset.spec.modality != "image":
            raise ValueError(f"LogSamples: {dataset.spec.name} holds no images")
        self.every_n_steps, self.n, self.seed = every_n_steps, n, seed
        self.folder = Run(run_dir).samples

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """
        Raises:
            UserError: no process has the whole model.
        """
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise UserError("callbacks: LogSamples needs the whole model in one process; use trainer.strategy=ddp")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = batch_idx + 1
        if not trainer.is_global_zero or (step % self.every_n_steps and step != trainer.num_training_batches):
            return
        assert isinstance(pl_module, GenerativeModule)
        samples = pl_module.sampler.sample(self.n, rng=torch.Generator().manual_seed(self.seed))
        assert isinstance(samples, Images)
        picture = sheet(samples, columns=min(self.n, 16))
        self.folder.mkdir(exist_ok=True)
        write_atomically(self.folder / f"step_{step:08d}.png", to_png(picture))
        for logger in trainer.loggers:
            log_picture(logger, picture, batch_idx)


def _gan(module: pl.LightningModule, callback: str) -> GAN:
    if not isinstance(module, GAN):
        raise UserError(f"callbacks.{callback}: it is about a GAN's generator; use model=gan")
    return module


def _images(dataset: Dataset, callback: str) -> ImageData:
    if not isinstance(dataset, ImageData):
        raise UserError(f"callbacks.{callback}: {dataset.spec.name} holds no images")
    return dataset


def _losses(trainer: pl.Trainer) -> str:
    metrics = {name.removeprefix("train/"): float(value) for name, value in trainer.callback_metrics.items()}
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
