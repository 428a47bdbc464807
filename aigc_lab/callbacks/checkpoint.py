"""Checkpoints that survive a kill, and that hold nothing to be executed."""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.distributed.tensor import DTensor

from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.modules.base import diverged
from aigc_lab.types import PositiveInt


class Checkpoint(pl.Callback):
    """Saves the whole training state every `every_n_steps` batches and after the last; keeps the newest.

    Weights that are not finite are never saved: the run ends, and its last good checkpoint stays.

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
        if self._is_due(trainer, batch_idx + 1) and not self._is_validated(trainer, batch_idx + 1):
            self._save(trainer, batch_idx + 1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_due(trainer, step := trainer.fit_loop.batch_idx + 1):
            self._save(trainer, step)

    def _is_due(self, trainer: pl.Trainer, step: int) -> bool:
        return step % self.every_n_steps == 0 or step == trainer.num_training_batches

    def _is_validated(self, trainer: pl.Trainer, step: int) -> bool:
        interval = trainer.val_check_batch
        return bool(trainer.enable_validation and interval is not None and step % interval == 0)

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        weights = trainer.lightning_module.parameters()
        finite = all(bool(local(weight).isfinite().all()) for weight in weights)
        if not trainer.strategy.reduce_boolean_decision(finite, all=True):
            raise diverged("a weight is NaN or infinite", step)
        trainer.save_checkpoint(self.folder / f"step_{step:08d}.ckpt")
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob("step_*.ckpt"))[: -self.keep]:
                old.unlink()


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


def local(weight: Tensor) -> Tensor:
    """This process's part of a sharded weight."""
    return weight.to_local() if isinstance(weight, DTensor) else weight
