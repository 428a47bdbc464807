"""A GAN held against theory, and the protocols of 2014, while it trains."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from aigc_lab.data import Dataset
from aigc_lab.data.images import ImageData
from aigc_lab.data.samples import Points
from aigc_lab.errors import UserError
from aigc_lab.generators import evaluating
from aigc_lab.minimax import parzen, sampled
from aigc_lab.modules.base import diverged
from aigc_lab.modules.gan import GAN
from aigc_lab.nets.rectifier import SigmoidImages
from aigc_lab.types import NonNegativeInt, PositiveInt


class MinimaxValue(pl.Callback):
    """Holds a GAN's game against theory, on data of known density, every `every_n_steps` batches and at the end.

    Logs `minimax/value` = V(D, G) on held-out points and as many generated ones, `minimax/optimum` = C(G), the
    value that the best discriminator would reach, with its error `minimax/optimum_error`, and `minimax/floor` =
    -log 4, where the generator has won. G is the generator as it is sampled.

    Args:
        every_n_steps: batches between two looks.
        n: generated points; they set the error (`aigc_lab.minimax.sampled`).
        dataset: of the run; supplied by the lab.
    """

    def __init__(self, *, every_n_steps: PositiveInt, n: PositiveInt, dataset: Dataset) -> None:
        law = getattr(dataset, "law", None)
        if law is None:
            raise ValueError(f"MinimaxValue: the density of {dataset.spec.name} is not known")
        self.every_n_steps, self.n, self.law, self.dataset = every_n_steps, n, law, dataset

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, GAN):
            raise UserError(f"callbacks: MinimaxValue is for a GAN, not for {type(pl_module).__name__}")
        if pl_module.pack > 1:
            raise UserError(
                f"model.pack={pl_module.pack}: MinimaxValue asks D about single points; use model.pack=1"
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = batch_idx + 1
        if trainer.is_global_zero and not (step % self.every_n_steps and step != trainer.num_training_batches):
            assert isinstance(pl_module, GAN)
            values = self.look(pl_module, step)
            for logger in trainer.loggers:
                logger.log_metrics(values, batch_idx)

    def look(self, module: GAN, step: int) -> dict[str, float]:
        """The logged values now, always on the same latents: what moves in a curve is the game.

        Raises:
            UserError: the generator gives a point that is not finite.
        """
        generated = module.sampler.push_forward(self.n, rng=torch.Generator().manual_seed(0))
        if not generated.isfinite().all():
            raise diverged("a generated point is NaN or infinite", step)
        held_out = self.dataset.real("held_out")
        assert isinstance(held_out, Points)

        def logits(x: Tensor) -> Tensor:
            return module.discriminator(x.to(module.device)).cpu()

        with evaluating(module.discriminator):  # spectral norm moves on in training, with every look
            played = sampled.play(logits, self.law, real=held_out.coordinates, generated=generated)
        return {
            "minimax/value": played.value,
            "minimax/optimum": played.optimum,
            "minimax/optimum_error": 2 * played.jsd.error,
            "minimax/floor": -math.log(4),
        }


class StartAtMeans(pl.Callback):
    """Before the first step, a sigmoid generator's last bias gives every pixel its mean in the training data.

    Args:
        dataset: supplied by the lab.
    """

    def __init__(self, *, dataset: Dataset) -> None:
        self.images = _images(dataset, "start_at_means")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """
        Raises:
            UserError: the model is no GAN, or its generator's last layer has no sigmoid.
        """
        if trainer.fit_loop.epoch_loop.batch_progress.current.completed:
            return  # resumed
        mean = self.images.real("train").pixels.double().mean(0) / (self.images.spec.vocab_size - 1)
        module = _gan(pl_module, "start_at_means")
        for generator in (module.generator, module.generator_ema):
            if not isinstance(generator.network, SigmoidImages):
                raise UserError(
                    "callbacks.start_at_means: the generator's last layer has no sigmoid; "
                    "use model/generator=rectifier"
                )
            generator.network.start_at(mean)


class LogParzen(pl.Callback):
    """The Parzen estimate of 2014 (`aigc_lab.minimax.parzen`) while a GAN trains, in nats per image.

    Args:
        every_n_steps: batches between two estimates.
        n: samples under the kernels; 10,000 in 2014.
        seed: of the samples.
        dataset: supplied by the lab.
    """

    def __init__(
        self, *, every_n_steps: PositiveInt, n: PositiveInt, seed: NonNegativeInt, dataset: Dataset
    ) -> None:
        self.every_n_steps, self.n, self.seed = every_n_steps, n, seed
        self.images = _images(dataset, "log_parzen")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.every_n_steps or not trainer.is_global_zero:
            return
        rng = torch.Generator().manual_seed(self.seed)
        samples = (_gan(pl_module, "log_parzen").sampler.push_forward(self.n, rng=rng) + 1) / 2
        found = parzen.protocol_2014(samples, *self.images.intensities())
        values = {"mean": found.mean, "standard_error": found.standard_error, "sigma": found.sigma}
        for logger in trainer.loggers:
            logger.log_metrics({f"parzen/{name}": value for name, value in values.items()}, batch_idx)


def _gan(module: pl.LightningModule, callback: str) -> GAN:
    if not isinstance(module, GAN):
        raise UserError(f"callbacks.{callback}: it is about a GAN's generator; use model=gan")
    return module


def _images(dataset: Dataset, callback: str) -> ImageData:
    if not isinstance(dataset, ImageData):
        raise UserError(f"callbacks.{callback}: {dataset.spec.name} holds no images")
    return dataset
