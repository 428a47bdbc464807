"""Variational autoencoders."""

from typing import Literal

import torch
from torch import Tensor

from aigc_lab.data.samples import LabelledImages
from aigc_lab.generators import LatentVariable
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.nets.architecture import Architecture
from aigc_lab.objectives.likelihoods import Likelihood
from aigc_lab.objectives.variational import ELBO, Bound, Draws
from aigc_lab.types import PositiveFloat, PositiveInt

_ELBO = ELBO()


class VAE(GenerativeModule):
    """Trained by the evidence lower bound E_q[log p(x | z)] - KL(q(z | x) || N(0, I)) (Kingma & Welling 2014,
    equation 10) or one of its relatives, in nats per image; validated by the evidence lower bound.

    Args:
        encoder, decoder: architectures; images in, the moments of q out, and latents in, maps out.
        likelihood: p(x | z) given the decoder's maps.
        latent_dim: size of z.
        emit: what samples show, see `LatentVariable`.
        lr: learning rate at the schedule's peak.
        bound: what it is trained by.
        conditional: on the classes of the images, see `LatentVariable`.
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
        bound: Bound = _ELBO,  # what runs had before they could choose
        conditional: bool = False,
    ) -> None:
        super().__init__(plan)
        self.generator = LatentVariable(
            spec=plan.spec,
            encoder=encoder,
            decoder=decoder,
            likelihood=likelihood,
            latent_dim=latent_dim,
            emit=emit,
            conditional=conditional,
        )
        self.bound, self.lr = bound, lr

    @property
    def wants_labels(self) -> bool:
        return self.generator.conditional

    @property
    def sampler(self) -> LatentVariable:
        return self.generator

    def training_step(self, batch: Tensor | LabelledImages, batch_idx: int) -> None:
        (optimizer,) = self.each_optimizer()
        draws = self._draws(batch, self.bound.samples)
        loss = self.descend(optimizer, [self.bound.loss(draws)])
        self.report({"loss": loss, "reconstruction": -draws.log_p_x.mean(), "kl": draws.kl().mean()})

    def validation_step(self, batch: Tensor | LabelledImages, batch_idx: int) -> None:
        elbo = self._draws(batch, 1).elbo()
        self.log("val/loss", -elbo.mean(), batch_size=len(elbo), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.generator.parameters(), self.lr)

    def _draws(self, batch: Tensor | LabelledImages, k: int) -> Draws:
        pixels, classes = batch if isinstance(batch, LabelledImages) else (batch, None)
        noise = torch.randn(k, len(pixels), self.generator.latent_dim, device=self.device)
        return self.generator.draws(pixels, noise, classes)
