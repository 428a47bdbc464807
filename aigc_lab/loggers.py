"""The Lightning logger that writes metrics.csv, readable while the run goes on; and pictures in other loggers."""

from argparse import Namespace
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from aigc_lab.files import write_atomically
from aigc_lab.metrics_file import HEADER, format_rows, read_metrics
from aigc_lab.processes import global_rank


class MetricsFile(Logger):
    """Appends rows to metrics.csv. A resumed run continues the file: rows of the steps that will be run again
    are removed first.

    Args:
        path: of metrics.csv.
        next_step: the first step that will be run.
    """

    def __init__(self, path: Path, *, next_step: int) -> None:
        super().__init__()
        self.path, self.writes = path, global_rank() == 0
        if self.writes:
            kept = [row for row in read_metrics(path) if row[0] < next_step]
            write_atomically(path, HEADER + format_rows(kept))

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        if not self.writes:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(
                format_rows((step, name, float(value)) for name, value in metrics.items() if name != "epoch")
            )

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration stands in config.yaml."""


@singledispatch
def log_picture(logger: Logger, picture: Image.Image, step: int) -> None:
    """Show samples in a logger that takes pictures; nothing in others."""


@log_picture.register
def _(logger: TensorBoardLogger, picture: Image.Image, step: int) -> None:
    logger.experiment.add_image("samples", np.asarray(picture), step, dataformats="HWC")


@log_picture.register
def _(logger: WandbLogger, picture: Image.Image, step: int) -> None:
    logger.log_image("samples", [picture], step)
