"""Generative adversarial networks: a game between two networks, chosen by configuration."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from aigc_lab.data.samples import LabelledImages
from aigc_lab.generators import Implicit
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.modules.ema import update_average
from aigc_lab.nets.architecture import Architecture, at_least_float32
from aigc_lab.nets.conditional import DiscriminatorCondition, GeneratorCondition, Verdict, one_hot
from aigc_lab.nets.norms import with_spectral_norm
from aigc_lab.objectives.augment import Augmentation, Steered
from aigc_lab.objectives.games import Game
from aigc_lab.objectives.penalties import Consistency, Penalty
from aigc_lab.types import Fraction, PositiveFloat, PositiveInt


class Minibatch(NamedTuple):
    """Real items as D sees them [b, ...], and their classes [b, K], or None."""

    real: Tensor
    classes: Tensor | None


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
        ema_decay: of the moving average per batch, once (1 + step) / (10 + step) has reached it; 0: no average,
            the generator itself is sampled.
        lr, discriminator_lr: learning rates of the two players.
        generator_condition, discriminator_condition: how the players are told an image's class; null: not at
            all. Generated images are of the classes of the real ones beside them.
        spectral_norm: whether D's matrices are divided by their norm (Miyato et al. 2018).
        augment: what D sees all images through; null: as they are.
        pack: items that D judges together, side by side in the channels (PacGAN: Lin et al. 2018).
        penalty_every: penalties are taken in every so many-th step only, so many times as strong: their mean, and
            so the direction in which they pull, is what it was (Karras et al. 2020b, section 3.1).
        top_k: share of its samples that G learns from at the end, those that D takes for the most real; falls
            linearly from all of them (Sinha et al. 2020).
    """

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
        generator_condition: GeneratorCondition | None = None,
        discriminator_condition: DiscriminatorCondition | None = None,
        spectral_norm: bool = False,
        augment: Augmentation | None = None,
        pack: PositiveInt = 1,
        penalty_every: PositiveInt = 1,
        top_k: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(plan)
        if augment is not None and plan.spec.modality != "image":
            raise ValueError(f"augment: for images only, and {plan.spec.name} holds none")
        for name, penalty in penalties.items():
            if isinstance(penalty, Consistency) and plan.spec.modality != "image":
                raise ValueError(f"penalties.{name}: changes images, and {plan.spec.name} holds none")
        if top_k > 1:
            raise ValueError(f"top_k={top_k}: a share is at most 1")
        if pack > 1 and discriminator_condition is not None:
            raise ValueError(f"pack={pack}: items of several classes are not packed; leave the conditions out")
        if plan.batch_size // discriminator_steps % pack:
            raise ValueError(
                f"pack={pack}: must divide what the discriminator sees in a step, "
                f"{plan.batch_size // discriminator_steps} items"
            )
        if (generator_condition is None) != (discriminator_condition is None):
            raise ValueError(
                "generator_condition and discriminator_condition: give both, or none; one player alone that knows "
                "the class learns nothing from it"
            )
        self.generator = Implicit(
            spec=plan.spec,
            generator=generator,
            latent_dim=latent_dim,
            latent=latent,
            generator_condition=generator_condition,
        )
        averaged = ema_decay > 0
        self.weights_name = "ema" if averaged else "raw"
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False) if averaged else self.generator
        self.discriminator = (
            discriminator.encoder((plan.spec.shape[0] * pack, *plan.spec.shape[1:]), 1)
            if discriminator_condition is None
            else discriminator_condition.discriminator(discriminator, plan.spec.shape, plan.spec.n_classes)
        )
        if spectral_norm:
            with_spectral_norm(self.discriminator)
        if self._norms_batches and (of_slopes := [name for name, p in penalties.items() if p.of_slopes]):
            raise ValueError(
                f"penalties.{of_slopes[0]}: is of the slope at each item, and this discriminator norms items by "
                "those beside them; set model.discriminator.encoder_norm=false, or leave the penalty out"
            )
        if self.at_once and discriminator_steps > 1:
            raise ValueError(f"discriminator_steps={discriminator_steps}: players that move at once take one each")
        if plan.batch_size % discriminator_steps:
            raise ValueError(
                f"discriminator_steps={discriminator_steps}: must divide a process's share of data.batch_size, "
                f"which is {plan.batch_size}"
            )
        normalised = any(isinstance(layer, nn.BatchNorm1d) for layer in self.modules())
        if normalised and plan.batch_size == discriminator_steps:
            raise ValueError("batch normalisation needs two items a step; set a larger data.batch_size")
        self.discriminator_steps = discriminator_steps
        self.objective, self.penalties = objective, penalties
        self.augment, self.pack, self.penalty_every, self.top_k = augment, pack, penalty_every, top_k
        # those with a state of their own are part of the module's
        self.stateful = nn.ModuleDict({name: p for name, p in penalties.items() if isinstance(p, nn.Module)})
        self.ema_decay = ema_decay
        self.lr, self.discriminator_lr = lr, discriminator_lr

    @property
    def _norms_batches(self) -> bool:
        """Whether what D says of an item depends on those beside it."""
        return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in self.discriminator.modules())

    @property
    def wants_labels(self) -> bool:
        return self.generator.takes_classes

    @property
    def sampler(self) -> Implicit:
        return self.generator_ema

    def training_step(self, batch: Tensor | LabelledImages, batch_idx: int) -> None:
        for minibatch in self._minibatches(batch):
            with torch.no_grad():
                fake_items = self._generate(minibatch)
            real, fake = self.judge(minibatch.real, minibatch), self.judge(fake_items, minibatch)
            reported = self._discriminator_step(minibatch, real, fake, fake_items)
        optimizer, _ = self.each_optimizer()
        with frozen(self.discriminator):
            verdict = self.judge(self._generate(minibatch), minibatch)
            # the logits of D as it is now, where the game looks at them
            real_logits = self.judge(minibatch.real, minibatch).logits if self.objective.compares else None
            loss = self._generator_loss(verdict, real_logits)
            self.descend(optimizer, [loss + verdict.class_loss])
        reported["generator_loss"] = loss
        self._update_ema()
        self.report(reported)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            self.make_optimizer(self.generator.parameters(), self.lr),
            self.make_optimizer(self.discriminator.parameters(), self.discriminator_lr),
        ]

    def compile_networks(self) -> None:
        """Both players; D not beside penalties on its slopes, which torch.compile cannot differentiate twice."""
        self.generator.compile()
        if not any(penalty.of_slopes for penalty in self.penalties.values()):
            self.discriminator.compile()

    def _minibatches(self, batch: Tensor | LabelledImages) -> list[Minibatch]:
        """One for each discriminator step."""
        real, classes = self.minibatch(batch)
        parts = real.chunk(self.discriminator_steps)
        if classes is None:
            return [Minibatch(part, None) for part in parts]
        return [Minibatch(*both) for both in zip(parts, classes.chunk(len(parts)), strict=True)]

    def minibatch(self, batch: Tensor | LabelledImages) -> Minibatch:
        """The whole batch as one."""
        items, labels = batch if isinstance(batch, LabelledImages) else (batch, None)
        classes = None if labels is None else one_hot(labels, self.plan.spec.n_classes)
        return Minibatch(self.generator.real(items), classes)

    def _generate(self, minibatch: Minibatch) -> Tensor:
        """As many generated items of the same classes."""
        return self.generator(self.generator.latents(len(minibatch.real)), minibatch.classes)

    def judge(self, items: Tensor, minibatch: Minibatch) -> Verdict:
        """What D says of items of the minibatch's classes."""
        items = items if self.augment is None else self.augment(items)
        if minibatch.classes is None:
            logits, class_loss = self.discriminator(self._packed(items)), items.new_zeros(())
        else:
            logits, class_loss = self.discriminator(items, minibatch.classes)
        return Verdict(at_least_float32(logits), class_loss)

    def _packed(self, items: Tensor) -> Tensor:
        """[B, C, ...] -> what D takes, [B / pack, pack · C, ...]."""
        return items.reshape(-1, items.shape[1] * self.pack, *items.shape[2:])

    def _discriminator_step(
        self, minibatch: Minibatch, real: Verdict, fake: Verdict, fake_items: Tensor
    ) -> dict[str, Tensor]:
        """Returns what is to be reported."""
        _, optimizer = self.each_optimizer()
        progress = self.step / self.plan.max_steps
        game_loss = self.objective.discriminator_loss(real.logits, fake.logits)

        def logits(items_or_packs: Tensor) -> Tensor:
            return self.judge(items_or_packs.reshape(-1, *minibatch.real.shape[1:]), minibatch).logits

        items = minibatch.real, fake_items
        packs = self._packed(minibatch.real), self._packed(fake_items)  # a slope is of all that D takes at once
        taken = {} if (self.step + 1) % self.penalty_every else self.penalties
        penalties = {
            name: self.penalty_every * p(logits, *(packs if p.of_slopes else items), progress)
            for name, p in taken.items()
        }
        if isinstance(self.augment, Steered):
            middle = self.objective.middle
            above = real.logits.detach() - (fake.logits.detach() if middle is None else middle)
            sign = self.trainer.strategy.reduce(above.sign().mean(), reduce_op="mean")
            self.augment.steer(sign, len(minibatch.real) * self.trainer.world_size)
        self.descend(optimizer, [game_loss + real.class_loss + fake.class_loss + sum(penalties.values())])
        told = {"class_loss": real.class_loss} if real.class_loss.requires_grad else {}  # or D reads no class
        means = {"real_logit": real.logits.mean(), "fake_logit": fake.logits.mean()}
        return {"discriminator_loss": game_loss, **penalties, **told, **means}

    def _generator_loss(self, fake: Verdict, real_logits: Tensor | None) -> Tensor:
        """The game's, without classes; of the best samples only while `top_k` says so."""
        # a game that does not compare looks at no real logits, so any will do
        compared = fake.logits.detach() if real_logits is None else real_logits
        logits = fake.logits
        if self.top_k < 1:
            share = 1 - (1 - self.top_k) * self.step / self.plan.max_steps
            best = logits.detach().flatten().topk(max(1, round(share * len(logits)))).indices
            logits, compared = logits[best], compared[best]
        return self.objective.generator_loss(logits, compared)

    def _update_ema(self) -> None:
        if self.generator_ema is not self.generator:
            update_average(self.generator_ema, self.generator, decay=self.ema_decay, step=self.step)


class SimultaneousGAN(GAN):
    """Both players move at once, on one batch of samples, as in the code of Goodfellow et al. 2014.

    G descends the gradient through D as it was before the step, and D learns from samples of G as it was: the
    simultaneous gradient descent of `aigc_lab.minimax.games`, where `GAN` alternates. Both gradients come from one
    pass of the samples through D, so that they share its dropout, as theirs do.
    """

    at_once: ClassVar[bool] = True

    def training_step(self, batch: Tensor | LabelledImages, batch_idx: int) -> None:
        optimizer, _ = self.each_optimizer()
        minibatch = self.minibatch(batch)
        fake_items = self._generate(minibatch)
        judged = fake_items.detach().requires_grad_()
        real, fake = self._judge_both(minibatch, judged)
        loss = self._generator_loss(fake, real.logits.detach())
        (slope,) = torch.autograd.grad(loss + fake.class_loss, judged, retain_graph=True)
        self.descend(optimizer, [(fake_items * slope).sum()])
        reported = self._discriminator_step(minibatch, real, fake, judged.detach())
        self._update_ema()
        self.report(reported | {"generator_loss": loss})

    def _judge_both(self, minibatch: Minibatch, fake_items: Tensor) -> tuple[Verdict, Verdict]:
        """What D says of the real and the generated items, in one pass where that is the same: a small network
        takes hardly longer for twice the items."""
        if self._norms_batches or minibatch.classes is not None:
            return self.judge(minibatch.real, minibatch), self.judge(fake_items, minibatch)
        logits, class_loss = self.judge(torch.cat([minibatch.real, fake_items]), minibatch)
        real, fake = logits.chunk(2)
        return Verdict(real, class_loss), Verdict(fake, class_loss)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the network's parameters inside the block; gradients still flow through it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
