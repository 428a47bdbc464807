"""What a finished GAN's generator still lacks, learnt: the ratio of the data's density to that of its samples."""

from typing import Literal

import torch
from torch import Tensor

from aigc_lab.config.targets import build
from aigc_lab.generators import Implicit, evaluating, fill
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.nets.architecture import Architecture
from aigc_lab.objectives.games import Minimax
from aigc_lab.resampled import Resampled
from aigc_lab.run import Run
from aigc_lab.types import PositiveFloat, PositiveInt


class Resampling(GenerativeModule):
    """max_D E[log D(x)] + E[log(1 - D(G(z)))] for the generator of a finished run, which stays as it is.

    A new D, without penalties, which bend the ratio, and without a G that runs away from it.

    Args:
        run: directory of a run of `GAN`, needed until this run is trained.
        generator, latent_dim, latent: of that run.
        discriminator: architecture of D.
        proposals: see `Resampled`.
        lr: learning rate at the schedule's peak.

    Raises:
        ValueError: the run is not of this generator, or of items of another shape.
        UserError: it is not finished.
    """

    def __init__(
        self,
        *,
        run: str,
        generator: Architecture,
        latent_dim: PositiveInt,
        latent: Literal["normal", "uniform"],
        discriminator: Architecture,
        proposals: PositiveInt,
        lr: PositiveFloat,
        plan: Plan,
    ) -> None:
        super().__init__(plan)
        opened = Run.open(run)
        weights, spec = opened.weights(), plan.spec
        if weights.kind != Implicit.__name__:
            raise ValueError(f"run={run}: is of no GAN; name a run of model=gan")
        if weights.spec.shape != spec.shape:
            raise ValueError(f"run={run}: its samples are not of the shape of {spec.name}")
        theirs = opened.config().model
        ours = {"generator": generator, "latent_dim": latent_dim, "latent": latent}
        built = {name: build(theirs[name], path=f"model.{name}") for name in ours}
        if other := [name for name in ours if ours[name] != built[name]]:
            raise ValueError(f"{other[0]}: is {ours[other[0]]}, and that of run={run} is {built[other[0]]}")
        self.generator = Resampled(
            spec=spec,
            generator=generator,
            latent_dim=latent_dim,
            latent=latent,
            discriminator=discriminator,
            proposals=proposals,
        )
        fill(self.generator.proposal, opened)
        self.generator.proposal.requires_grad_(False)
        self.lr = lr

    @property
    def sampler(self) -> Resampled:
        return self.generator

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        (optimizer,) = self.each_optimizer()
        self.report({"discriminator_loss": self.descend(optimizer, [self._loss(batch)])})

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """At D = D* the loss is log 4 - 2 JSD(p, p_g)."""
        self.log("val/discriminator_loss", self._loss(batch), batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.generator.discriminator.parameters(), self.lr)

    def _loss(self, batch: Tensor) -> Tensor:
        """On as many new samples of G as there are items."""
        proposal = self.generator.proposal
        with torch.no_grad(), evaluating(proposal):
            fake = proposal(proposal.latents(len(batch)))
        discriminator = self.generator.discriminator
        return Minimax().discriminator_loss(discriminator(batch), discriminator(fake))
