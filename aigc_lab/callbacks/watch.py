"""What goes wrong in a GAN without an error: named, once, with what to try. Training goes on."""

import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from aigc_lab.data import Dataset
from aigc_lab.data.images import ImageData
from aigc_lab.data.samples import LabelledImages
from aigc_lab.modules.gan import GAN, Minibatch
from aigc_lab.types import NonNegativeInt, PositiveInt

APART = 0.999
"""Share of pairs of a real and a generated item that D orders rightly from which on it is said to win."""
ALIKE = 0.2
"""Mean distance of two samples, by that of two real items, below which modes are said to be lost."""


class TrainingWarning(UserWarning):
    """Something to look at while a run trains."""


class DiscriminatorCollapse(TrainingWarning):
    """D says the same of everything."""


class DiscriminatorWins(TrainingWarning):
    """D has told every sample from every real item for long."""


class ModeCollapse(TrainingWarning):
    """Samples are much more alike than real items are."""


class WatchGame(pl.Callback):
    """Looks at a GAN every `every_n_steps` batches, at always the same held-out items and latents, and warns once
    of each of `DiscriminatorCollapse`, `DiscriminatorWins` and `ModeCollapse`. Other models are left alone.

    Args:
        every_n_steps: batches between two looks.
        patience: looks in a row that have to show the same.
        n: real and generated items of a look.
        dataset: supplied by the lab.
    """

    def __init__(
        self, *, every_n_steps: PositiveInt, patience: NonNegativeInt, n: PositiveInt, dataset: Dataset
    ) -> None:
        self.every_n_steps, self.patience, self.n, self.dataset = every_n_steps, patience, n, dataset
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
        """Which faults show now. D is asked as it trains (dropout and batch statistics of its own), G as well; the
        state of both is left as it was."""
        item = torch.arange(min(self.n, self.dataset.n_held_out_items))
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
        spread = torch.cat(logits).std()
        return {
            DiscriminatorCollapse: bool(spread <= 1e-6 * torch.cat(logits).abs().mean()),
            DiscriminatorWins: ordered(*logits) >= APART,
            ModeCollapse: mean_distance(fake) < ALIKE * mean_distance(real),
        }

    def judge(self, found: dict[type[TrainingWarning], bool], *, step: int) -> None:
        """Warn of what has been seen `patience` times in a row, when that is so for the first time."""
        for kind, shows in found.items():
            count = self.seen.get(kind, 0)
            if count <= self.patience:  # once it has been said, it stays said
                self.seen[kind] = count + 1 if shows else 0
                if self.seen[kind] == self.patience + 1:
                    warnings.warn(kind(f"step {step}: {FAULTS[kind]}"), stacklevel=2)


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


def mean_distance(items: Tensor) -> float:
    """Mean Euclidean distance of two of the items."""
    return float(torch.pdist(items.flatten(1).float()).mean())
