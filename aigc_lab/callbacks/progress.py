"""Progress that a person can read."""

import sys
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from aigc_lab.types import PositiveInt


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


def _losses(trainer: pl.Trainer) -> str:
    metrics = {name.removeprefix("train/"): float(value) for name, value in trainer.callback_metrics.items()}
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
