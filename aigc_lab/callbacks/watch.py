"""What goes wrong in a GAN without an error: named, once, with what to try. Training goes on."""

import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from aigc_lab.data import Dataset
from aigc_lab.data.images import ImageData
from aigc_lab.data.samples import LabelledImages
from aigc_lab.files import write_atomically
from aigc_lab.modules.gan import GAN, Minibatch
from aigc_lab.types import NonNegativeInt, PositiveInt

APART = 0.999
"""Share of pairs of a real and a generated item that D orders rightly from which on it is said to win."""
FLAT = 0.01
"""Standard deviation of logits below which D is said to say the same of everything; a logit of 1 is 73 %."""
TOLD = 0.75
"""Share of items whose nearest neighbour is of their own kind from which on the two kinds differ plainly."""
ALIKE = 0.25
"""Distance of two samples, by that of two real items, below which modes are said to be lost."""


class TrainingWarning(UserWarning):
    """Something to look at while a run trains."""


class DiscriminatorCollapse(TrainingWarning):
    """D says the same of everything, though samples are not like real items: their neighbours tell them apart."""


class DiscriminatorWins(TrainingWarning):
    """D has told every sample from every real item for long."""


class ModeCollapse(TrainingWarning):
    """Samples are much more alike than real items are: all of them, or each and its nearest neighbour."""


class WatchGame(pl.Callback):
    """Looks at a GAN every `every_n_steps` batches, at always the same held-out items and latents, and warns once
    of each of `DiscriminatorCollapse`, `DiscriminatorWins` and `ModeCollapse`. Other models are left alone.

    When a fault begins to show, the newest checkpoint from before that look is copied to `before_FAULT.ckpt`; it
    goes when the fault does.

    Args:
        every_n_steps: batches between two looks.
        patience: looks in a row, after the first, that have to show the same.
        n: real and generated items of a look.
        dataset, run_dir: supplied by the lab.
    """

    def __init__(
        self,
        *,
        every_n_steps: PositiveInt,
        patience: NonNegativeInt,
        n: PositiveInt,
        dataset: Dataset,
        run_dir: Path,
    ) -> None:
        self.every_n_steps, self.patience, self.n, self.dataset = every_n_steps, patience, n, dataset
        self.folder = run_dir / "checkpoints"
        self.seen: dict[type[TrainingWarning], int] = {}

    def state_dict(self) -> dict[str, Any]:
        """How often each has been seen in a row, by name."""
        return {kind.__name__: count for kind, count in self.seen.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = {kind: state_dict.get(kind.__name__, 0) for kind in FAULTS}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(pl_module, GAN) and trainer.is_global_zero and not (batch_idx + 1) % self.every_n_steps:
            self.judge(self.look(pl_module), step=batch_idx + 1)

    @torch.no_grad()
    def look(self, module: GAN) -> dict[type[TrainingWarning], bool]:
        """Which faults show now; both players are asked in eval mode, and left as they were."""
        n = min(self.n, self.dataset.n_held_out_items)
        item = torch.arange(max(n // module.pack, 1) * module.pack) % n
        batch: Any
        if module.wants_labels:
            assert isinstance(self.dataset, ImageData)
            batch = LabelledImages(
                *(part.to(module.device) for part in self.dataset.gather_held_out_labelled(item))
            )
        else:
            batch = self.dataset.gather_held_out(item).to(module.device)
        was_training = module.training
        module.eval()
        try:
            real, classes = module.minibatch(batch)
            z = module.generator.latents(len(item), torch.Generator().manual_seed(0))
            fake = module.generator(z, classes)
            logits = [module.judge(items, Minibatch(real, classes)).logits.float() for items in (real, fake)]
        finally:
            module.train(was_training)
        every = torch.cat(logits)
        least = FLAT if module.objective.scaled else 1e-6 * float(every.abs().mean())
        flat = float(every.std()) <= least
        apart = distances(torch.cat([real, fake]))
        size = len(real)
        between_real, between_fake = apart[:size, :size], apart[size:, size:]
        return {
            DiscriminatorCollapse: flat and told_by_neighbours(apart) >= TOLD,
            DiscriminatorWins: not flat and ordered(*logits) >= APART,
            ModeCollapse: any(
                float(spread(between_fake)) < ALIKE * float(spread(between_real)) for spread in (average, nearest)
            ),
        }

    def judge(self, found: dict[type[TrainingWarning], bool], *, step: int) -> None:
        """Warn of what has been seen `patience` + 1 times in a row, when that is so for the first time."""
        for kind, shows in found.items():
            count = self.seen.get(kind, 0)
            if count > self.patience:  # once it has been said, it stays said
                continue
            kept = self.folder / f"before_{kind.__name__}.ckpt"
            self.seen[kind] = count + 1 if shows else 0
            if self.seen[kind] == 1:
                self._keep(kept, step)
            elif not shows:
                kept.unlink(missing_ok=True)
            if self.seen[kind] == self.patience + 1:
                before = f"; what was before it is in checkpoints/{kept.name}" if kept.exists() else ""
                warnings.warn(kind(f"step {step}: {FAULTS[kind]}{before}"), stacklevel=2)

    def _keep(self, path: Path, step: int) -> None:
        """Copy the newest checkpoint older than the step, if there is one."""
        older = [old for old in self.folder.glob("step_*.ckpt") if old.stem < f"step_{step:08d}"]
        if older:
            write_atomically(path, max(older).read_bytes())


FAULTS: dict[type[TrainingWarning], str] = {
    DiscriminatorCollapse: "the discriminator says the same of every item; try a smaller model.discriminator_lr, "
    "a weaker penalty, or another model/objective",
    DiscriminatorWins: "the discriminator has told every sample from real data for long, and the generator "
    "learns little from it; try a smaller model.discriminator_lr, a penalty (model/penalties=r1) or "
    "model.spectral_norm=true",
    ModeCollapse: "the samples are much more alike than real items; try a penalty (model/penalties=r1), "
    "model/objective=relativistic, or a larger model.ema_decay",
}


def ordered(real_logits: Tensor, fake_logits: Tensor) -> float:
    """Share of pairs in which the real item has the larger logit, ties half: the area under the ROC curve."""
    difference = real_logits.view(-1, 1) - fake_logits.view(1, -1)
    return float((difference > 0).double().mean() + (difference == 0).double().mean() / 2)


def distances(items: Tensor) -> Tensor:
    """Of every two items, Euclidean: [n, n], infinite of an item and itself."""
    flat = items.flatten(1).float()
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)


def average(distances: Tensor) -> Tensor:
    """Mean distance of two items."""
    return distances[distances.isfinite()].mean()


def nearest(distances: Tensor) -> Tensor:
    """Median distance of an item and its nearest neighbour."""
    return distances.amin(1).median()


def told_by_neighbours(distances: Tensor) -> float:
    """Share of items, real ones first and as many generated ones, whose nearest neighbour is of their own kind."""
    generated = torch.arange(len(distances), device=distances.device) >= len(distances) // 2
    return float((generated[distances.argmin(1)] == generated).double().mean())
