"""Flow matching."""

import copy

import torch
from torch import Tensor

from aigc_lab.data.samples import LabelledImages
from aigc_lab.flow import Flow
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.modules.ema import update_average
from aigc_lab.nets.velocity import VelocityArchitecture
from aigc_lab.objectives.any_order import stratified
from aigc_lab.objectives.flow_matching import ClassifierFree, StraightPath, squared_error
from aigc_lab.objectives.ode import Solver
from aigc_lab.types import Fraction, PositiveFloat, PositiveInt


class FlowMatching(GenerativeModule):
    """Minimises E ||v(x_t, t) - (x_1 - (1 - σ) x_0)||² / d over noise x_0, items x_1 and uniform times t (Lipman
    et al. 2023, equation 23). The moving average of v's weights is what is sampled and exported.

    Args:
        velocity: architecture of v.
        path: from x_0 to x_1.
        solver, n_steps, guidance: of sampling, see `Flow`; with a guidance, classes are learned too.
        ema_decay: see `update_average`.
        lr: learning rate at the schedule's peak.
    """

    weights_name = "ema"

    def __init__(
        self,
        *,
        velocity: VelocityArchitecture,
        path: StraightPath,
        solver: Solver,
        n_steps: PositiveInt,
        ema_decay: Fraction,
        lr: PositiveFloat,
        plan: Plan,
        guidance: ClassifierFree | None = None,
    ) -> None:
        super().__init__(plan)
        self.generator = Flow(spec=plan.spec, velocity=velocity, solver=solver, n_steps=n_steps, guidance=guidance)
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.path, self.guidance = path, guidance
        self.ema_decay, self.lr = ema_decay, lr

    @property
    def wants_labels(self) -> bool:
        return self.guidance is not None

    @property
    def sampler(self) -> Flow:
        return self.generator_ema

    def training_step(self, batch: Tensor | LabelledImages, batch_idx: int) -> None:
        (optimizer,) = self.each_optimizer()
        loss = self._errors(self.generator, batch).mean()
        self.descend(optimizer, [loss])
        update_average(self.generator_ema, self.generator, decay=self.ema_decay, step=self.step)
        self.report({"loss": loss})

    def validation_step(self, batch: Tensor | LabelledImages, batch_idx: int) -> None:
        errors = self._errors(self.generator_ema, batch)
        self.log("val/loss", errors.mean(), batch_size=len(errors), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.generator.parameters(), self.lr)

    def _errors(self, flow: Flow, batch: Tensor | LabelledImages) -> Tensor:
        """[B], each at one time and with one noise."""
        items, classes = batch if isinstance(batch, LabelledImages) else (batch, None)
        x_1 = flow.real(items)
        x_0 = torch.randn_like(x_1)
        t = stratified(torch.rand((), device=self.device), len(x_1))
        if self.guidance is not None and classes is not None:
            hidden = torch.rand(len(classes), device=self.device) < self.guidance.dropout
            classes = classes.masked_fill(hidden, self.plan.spec.n_classes)
        velocity = flow(self.path.at(x_0, x_1, t), t, classes)
        return squared_error(velocity, self.path.velocity(x_0, x_1))
