"""Samples of the same noise through training."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Images
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.loggers import log_picture
from aigc_lab.modules.base import GenerativeModule
from aigc_lab.pictures import sheet, to_png
from aigc_lab.run import Run
from aigc_lab.types import NonNegativeInt, PositiveInt


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
