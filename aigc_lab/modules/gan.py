"""Generative adversarial networks: a game between two networks, chosen by configuration."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from aigc_lab.generators import Implicit
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.modules.ema import update_average
from aigc_lab.nets.architecture import Architecture
from aigc_lab.objectives.games import Game
from aigc_lab.objectives.penalties import Penalty
from aigc_lab.types import Fraction, PositiveFloat, PositiveInt


class GAN(GenerativeModule):
    """k discriminator steps and one generator step per batch, on fresh noise each (2014, algorithm 1).

    A batch is what one such round takes: each discriminator step sees a k-th of its real items, each item is
    seen once, and every minibatch, the generator's too, has data.batch_size / k items. So steps, epochs and
    processes count the same whatever k is.

    The moving average of the generator's weights (and of these only) is what is sampled and exported.

    Args:
        generator, discriminator: architectures; latents in, items out, and items in, a logit out.
        latent_dim, latent: size and law of z; see `Implicit`.
        objective: the game.
        discriminator_steps: k.
        penalties: added to the discriminator's loss, by name.
        ema_decay: of the moving average per batch, once (1 + step) / (10 + step) has reached it.
        lr, discriminator_lr: learning rates of the two players.
    """

    weights_name: ClassVar[str] = "ema"
    n_optimizers: ClassVar[int] = 2
    at_once: ClassVar[bool] = False
    """Whether neither player sees the other's move of the same batch."""

    def __init__(
        self,
        *,
        generator: Architecture,
        discriminator: Architecture,
        latent_dim: PositiveInt,
        latent: Literal["normal", "uniform"],
        objective: Game,
        discriminator_steps: PositiveInt,
        penalties: dict[str, Penalty],
        ema_decay: Fraction,
        lr: PositiveFloat,
        discriminator_lr: PositiveFloat,
        plan: Plan,
    ) -> None:
        super().__init__(plan)
        self.generator = Implicit(spec=plan.spec, generator=generator, latent_dim=latent_dim, latent=latent)
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.discriminator = discriminator.encoder(plan.spec.shape, 1)
        if self.at_once and discriminator_steps > 1:
            raise ValueError(f"discriminator_steps={discriminator_steps}: players that move at once take one each")
        if plan.batch_size % discriminator_steps:
            raise ValueError(
                f"discriminator_steps={discriminator_steps}: must divide a process's share of data.batch_size, "
                f"which is {plan.batch_size}"
            )
        self.discriminator_steps = discriminator_steps
        self.objective, self.penalties = objective, penalties
        self.ema_decay = ema_decay
        self.lr, self.discriminator_lr = lr, discriminator_lr

    @property
    def sampler(self) -> Implicit:
        return self.generator_ema

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        generator_optimizer, discriminator_optimizer = self.each_optimizer()
        progress = self.step / self.plan.max_steps
        for real in self.generator.real(batch).chunk(self.discriminator_steps):
            with torch.no_grad():
                fake = self.generator(self.generator.latents(len(real)))
            real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
            game_loss = self.objective.discriminator_loss(real_logits, fake_logits)
            penalties = {name: p(self.discriminator, real, fake, progress) for name, p in self.penalties.items()}
            self.descend(discriminator_optimizer, [game_loss + sum(penalties.values())])

        with frozen(self.discriminator):
            fake_logits = self.discriminator(self.generator(self.generator.latents(len(real))))
            generator_loss = self.objective.generator_loss(fake_logits, self.discriminator(real))
            self.descend(generator_optimizer, [generator_loss])
        self._update_ema()
        self.report(
            {"discriminator_loss": game_loss, "generator_loss": generator_loss, **penalties}
            | {"real_logit": real_logits.mean(), "fake_logit": fake_logits.mean()}
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            self.make_optimizer(self.generator.parameters(), self.lr),
            self.make_optimizer(self.discriminator.parameters(), self.discriminator_lr),
        ]

    def _update_ema(self) -> None:
        update_average(self.generator_ema, self.generator, decay=self.ema_decay, step=self.step)


class SimultaneousGAN(GAN):
    """Both players move at once, on one batch of samples, as in the code of Goodfellow et al. 2014.

    G descends the gradient through D as it was before the step, and D learns from samples of G as it was: the
    simultaneous gradient descent of `aigc_lab.minimax.games`, where `GAN` alternates.
    """

    at_once: ClassVar[bool] = True

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        generator_optimizer, discriminator_optimizer = self.each_optimizer()
        progress = self.step / self.plan.max_steps
        real = self.generator.real(batch)
        fake = self.generator(self.generator.latents(len(real)))
        real_logits = self.discriminator(real)

        with frozen(self.discriminator):
            generator_loss = self.objective.generator_loss(self.discriminator(fake), real_logits.detach())
            self.descend(generator_optimizer, [generator_loss])

        fake = fake.detach()  # made before G moved
        fake_logits = self.discriminator(fake)
        game_loss = self.objective.discriminator_loss(real_logits, fake_logits)
        penalties = {name: p(self.discriminator, real, fake, progress) for name, p in self.penalties.items()}
        self.descend(discriminator_optimizer, [game_loss + sum(penalties.values())])
        self._update_ema()
        self.report(
            {"discriminator_loss": game_loss, "generator_loss": generator_loss, **penalties}
            | {"real_logit": real_logits.mean(), "fake_logit": fake_logits.mean()}
        )


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the network's parameters inside the block; gradients still flow through it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
