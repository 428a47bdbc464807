"""Measures: what a claim is judged by. One class each: a trial in, numbers by name out.

A new measure is a frozen dataclass whose fields are its settings (they are the configuration's keys), with
`__call__(self, trial) -> dict[str, float]`. It draws random numbers from `trial.rng()` only, so that repeating
it on the same run gives the same numbers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch.distributions import Distribution, MixtureSameFamily

from aigc_lab import training
from aigc_lab.data import Dataset
from aigc_lab.data.samples import Points
from aigc_lab.data.stream import fold
from aigc_lab.errors import UserError
from aigc_lab.generators import NeuralGenerator, load
from aigc_lab.minimax import modes, sampled
from aigc_lab.modules.base import GenerativeModule
from aigc_lab.modules.gan import GAN
from aigc_lab.run import Run
from aigc_lab.types import PositiveInt

_MEASURING = 3


@dataclass(frozen=True)
class Trial:
    """One seed of one variant: what a measure looks at.

    Attributes:
        seed: of the trial.
        finished: its run; None where the experiment trains nothing.
    """

    seed: int
    finished: Run | None

    def rng(self) -> torch.Generator:
        """A new generator, on the CPU, whose numbers are no part of those that the run was trained with."""
        return torch.Generator().manual_seed(fold(self.seed, _MEASURING))

    @property
    def run(self) -> Run:
        """The finished run.

        Raises:
            UserError: there is none.
        """
        if self.finished is None:
            raise UserError("claims: this measure needs a trained run, and claims.trains is false")
        return self.finished

    @cached_property
    def generator(self) -> NeuralGenerator:
        """What the run trained, with the weights it is sampled with."""
        return load(self.run.path)

    @property
    def dataset(self) -> Dataset:
        """What it was trained on."""
        return self._restored[0]

    @property
    def module(self) -> GenerativeModule:
        """All that was trained, a GAN's discriminator too, from the newest checkpoint."""
        return self._restored[1]

    @cached_property
    def _restored(self) -> tuple[Dataset, GenerativeModule]:
        return training.restore(self.run)

    @property
    def law(self) -> Distribution:
        """The exact law of the data.

        Raises:
            UserError: it is not known.
        """
        law = getattr(self.dataset, "law", None)
        if law is None:
            raise UserError(f"claims: the density of {self.dataset.spec.name} is not known")
        return law


class Measure(Protocol):
    def __call__(self, trial: Trial) -> Mapping[str, float]: ...


@dataclass(frozen=True, kw_only=True)
class ModeCoverage:
    """`aigc_lab.minimax.modes.coverage` of samples: modes, high_quality, reverse_kl, binned_kl.

    Args:
        n: samples; 2,500 are customary, and every one of these numbers depends on it.
    """

    n: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the data is no mixture in the plane.
        """
        law = trial.law
        if not isinstance(law, MixtureSameFamily) or law.event_shape != (2,):
            raise UserError(f"claims: {trial.dataset.spec.name} has no modes in the plane to count")
        samples = trial.generator.sample(self.n, rng=trial.rng())
        assert isinstance(samples, Points)
        return asdict(modes.coverage(samples.coordinates, law))


@dataclass(frozen=True, kw_only=True)
class GameAtItsEnd:
    """How a trained game stands on data of known density: `aigc_lab.minimax.sampled.play`.

    Gives `jsd` = JSD(p, p_g), its stated error `jsd_error` and `jsd_at_most`, their sum; `value` = V(D, G) on
    held-out points, `optimum` = C(G), and `distance_from_half` = mean |D - 1/2|.

    Args:
        n: generated points; they set the error.
    """

    n: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the run is no GAN, or the data's density is not known.
        """
        module, law = trial.module, trial.law
        if not isinstance(module, GAN):
            raise UserError("claims: the game has an end for a GAN only")
        real = trial.dataset.real("held_out")
        assert isinstance(real, Points)
        generated = module.sampler.push_forward(self.n, rng=trial.rng())
        played = sampled.play(module.discriminator, law, real=real.coordinates, generated=generated)
        return {
            "jsd": played.jsd.value,
            "jsd_error": played.jsd.error,
            "jsd_at_most": played.jsd.value + played.jsd.error,
            "value": played.value,
            "optimum": played.optimum,
            "distance_from_half": played.distance_from_half,
        }
