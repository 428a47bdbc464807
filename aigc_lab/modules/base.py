"""What the families share: one step is one batch, whatever the number of optimizers."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from aigc_lab.data.spec import DataSpec
from aigc_lab.data.stream import fold
from aigc_lab.errors import UserError
from aigc_lab.generators import NeuralGenerator
from aigc_lab.optimizers import OptimizerConfig

_TRAINING, _VALIDATION = 0, 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a module learns from the rest of the configuration.

    Attributes:
        spec: of the data.
        batch_size: items in one step of one process.
        optimizer: makes the optimizers (the configuration group `optimizer`).
        max_steps: batches in the whole run.
        seed: of the run.
        gradient_clip_val: largest norm of one optimizer's gradient; None: no clipping.
        micro_batches: pieces in which a batch goes through the network, where it is too large at once.
        log_every_n_steps: batches from one logged value to the next.
    """

    spec: DataSpec
    batch_size: int
    optimizer: OptimizerConfig
    max_steps: int
    seed: int
    gradient_clip_val: float | None
    micro_batches: int
    log_every_n_steps: int


class GenerativeModule(pl.LightningModule):
    """Trains a generator. Subclasses write `training_step` with `descend` and `report`.

    Optimisation is manual in every family, so that steps, schedules, logs and checkpoints count batches.
    Randomness in a step (noise, dropout) is a pure function of (seed, process, step): there is no state of
    a random generator to save, and a resumed run draws what an unbroken one would have drawn.
    """

    weights_name: str = "raw"
    """Which weights `sampler` has: `raw` or `ema`."""

    n_optimizers: ClassVar[int] = 1
    can_shard: ClassVar[bool] = False
    """Whether `trainer.strategy=fsdp` works."""
    can_split: ClassVar[bool] = False
    """Whether `trainer.micro_batches` works."""
    wants_pairs: ClassVar[bool] = False
    """Whether the items it learns from are pairs (`aigc_lab.data.instructions.Preferences`)."""
    can_answer: ClassVar[bool] = True
    """Whether it learns responses alone, and where they end (`aigc_lab.data.instructions.Conversations`)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.plan = plan
        self.step = 0

    @property
    def wants_labels(self) -> bool:
        """Whether its batches are `aigc_lab.data.images.LabelledImages`: pixels and their classes."""
        return False

    @property
    def sampler(self) -> NeuralGenerator:
        """The generator with the weights to sample with."""
        raise NotImplementedError

    def sampling_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sampler's part of the module's whole state."""
        prefix = next(name for name, child in self.named_children() if child is self.sampler) + "."
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        self.step = batch_idx
        self._seed(_TRAINING, batch_idx)
        factor = self.plan.optimizer.lr_factor(batch_idx, self.plan.max_steps)
        settings = self.plan.optimizer.settings(batch_idx, self.plan.max_steps)
        for optimizer in self.each_optimizer():
            for group in optimizer.param_groups:
                group.update(settings, lr=group["initial_lr"] * factor)

    def on_validation_batch_start(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._seed(_VALIDATION, batch_idx)

    def _seed(self, stage: int, batch_idx: int) -> None:
        """Of the generators in use. torch.manual_seed keeps a stack trace for every kind of device that is not
        there, which takes longer than the step of a small network, and keeps them all."""
        seed = fold(self.plan.seed, stage, self.global_rank, batch_idx)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def make_optimizer(
        self, parameters: Iterable[nn.Parameter], lr: float, *, matrices: Collection[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """An optimizer whose groups remember the learning rate that the schedule multiplies."""
        optimizer = self.plan.optimizer(parameters, lr, matrices=matrices)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def each_optimizer(self) -> list[LightningOptimizer]:
        """The optimizers, a list also where there is one."""
        found = self.optimizers()
        return found if isinstance(found, list) else [found]

    def compile_networks(self) -> None:
        """`trainer.compile`: in place, so that checkpoints have the same names as without."""
        for network in self.children():
            network.compile()

    def descend(self, optimizer: LightningOptimizer, losses: Iterable[Tensor]) -> Tensor:
        """One step of `optimizer` down the gradient of the sum of `losses`.

        Where they come from an iterator, each is freed before the next is computed.

        Returns:
            The sum.
        """
        optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for loss in losses:
            self.manual_backward(loss)
            total += loss.detach()
        if self.plan.gradient_clip_val is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.plan.gradient_clip_val)
        optimizer.step()
        return total

    def report(self, values: Mapping[str, Tensor]) -> None:
        """Log training values, averaged over the processes, on the steps that are logged only.

        They go to the loggers at once: Lightning would write them after the step's checkpoint, and a kill
        between the two would lose them.

        Raises:
            UserError: a value is not finite. Every process raises it, for the means are everybody's.
        """
        if (self.step + 1) % self.plan.log_every_n_steps:
            return
        means = {
            f"train/{k}": self.trainer.strategy.reduce(v.detach(), reduce_op="mean") for k, v in values.items()
        }
        if bad := [name for name, mean in means.items() if not torch.isfinite(mean)]:
            raise diverged(f"{bad[0]} is {float(means[bad[0]])}", self.step + 1)
        self.trainer.callback_metrics.update(means)  # `log_dict` takes milliseconds for it
        for logger in self.loggers:
            logger.log_metrics({name: float(mean) for name, mean in means.items()}, self.step)


def diverged(found: str, step: int) -> UserError:
    """What to say, and what to try, when numbers are not finite any more."""
    return UserError(
        f"training has diverged: {found} at step {step}; the checkpoints before it are kept. Try a smaller "
        "model.lr, trainer.gradient_clip_val=1 or a longer optimizer.schedule.warmup"
    )
