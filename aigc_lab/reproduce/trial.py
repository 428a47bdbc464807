"""What a measure is given, and what it gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch.distributions import Distribution

from aigc_lab import training
from aigc_lab.data import Dataset
from aigc_lab.data.stream import fold
from aigc_lab.errors import UserError
from aigc_lab.generators import NeuralGenerator, load
from aigc_lab.modules.base import GenerativeModule
from aigc_lab.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


@dataclass(frozen=True)
class Seen:
    """A trial of a variant, and what all measures found of it: what a figure is drawn from."""

    variant: str
    trial: Trial
    found: Mapping[str, float]


@runtime_checkable
class Illustrated(Protocol):
    """A measure that can be looked at: of all trials, of every variant, one small figure."""

    def figure(self, seen: Sequence[Seen]) -> "Figure | None":
        """None where these trials have left nothing to draw."""
        ...
