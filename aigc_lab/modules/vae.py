"""Variational autoencoders."""

from typing import Literal

import torch
from torch import Tensor

from aigc_lab.generators import LatentVariable
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.nets.architecture import Architecture
from aigc_lab.objectives.likelihoods import Likelihood
from aigc_lab.types import PositiveFloat, PositiveInt


class VAE(GenerativeModule):
    """Maximises the evidence lower bound E_q[log p(x | z)] - KL(q(z | x) || N(0, I)), in nats per image
    (Kingma & Welling 2014, equation 10).

    Args:
        encoder, decoder: architectures; images in, the moments of q out, and latents in, maps out.
        likelihood: p(x | z) given the decoder's maps.
        latent_dim: size of z.
        emit: what samples show, see `LatentVariable`.
        lr: learning rate at the schedule's peak.
    """

    def __init__(
        self,
        *,
        encoder: Architecture,
        decoder: Architecture,
        likelihood: Likelihood,
        latent_dim: PositiveInt,
        emit: Literal["sample", "median"],
        lr: PositiveFloat,
        plan: Plan,
    ) -> None:
        super().__init__(plan)
        self.generator = LatentVariable(
            spec=plan.spec,
            encoder=encoder,
            decoder=decoder,
            likelihood=likelihood,
            latent_dim=latent_dim,
            emit=emit,
        )
        self.lr = lr

    @property
    def sampler(self) -> LatentVariable:
        return self.generator

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        (optimizer,) = self.each_optimizer()
        log_p_x, kl = self._elbo(batch)
        loss = (kl - log_p_x).mean()
        self.descend(optimizer, [loss])
        self.report({"loss": loss, "reconstruction": -log_p_x.mean(), "kl": kl.mean()})

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        log_p_x, kl = self._elbo(batch)
        self.log("val/loss", (kl - log_p_x).mean(), batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.generator.parameters(), self.lr)

    def _elbo(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(len(batch), self.generator.latent_dim, device=self.device)
        return self.generator.elbo(batch, noise)
