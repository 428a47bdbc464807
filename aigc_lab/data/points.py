"""Points of known density: data on the line and in the plane, for which the whole theory can be checked."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal, Normal

from aigc_lab.data.samples import Points
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.data.splits import content_hash
from aigc_lab.data.stream import fold
from aigc_lab.minimax import modes
from aigc_lab.types import NonNegativeInt, PositiveFloat, PositiveInt

_SPLITS: dict[Split, int] = {"train": 0, "held_out": 1}


@dataclass(kw_only=True)
class PointData(ABC):
    """Draws from a law, made on first use and kept: training points and, independent of them, held-out ones.

    Args:
        batch_size: points in one optimisation batch, over all processes.
        n_train, n_held_out: points in each split.
        seed: of the draws; the run's seed does not move the data.
    """

    batch_size: PositiveInt
    n_train: PositiveInt
    n_held_out: PositiveInt
    seed: NonNegativeInt

    @abstractmethod
    def _law(self) -> Distribution: ...

    @cached_property
    def law(self) -> Distribution:
        """The exact law: float64; an event is a number on the line and a vector [2] in the plane."""
        return self._law()

    @cached_property
    def spec(self) -> DataSpec:
        """What models must know. The hash is of what defines the points: their last bits depend on the machine."""
        settings = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.name != "batch_size"]
        return DataSpec(
            name=type(self).__name__,
            modality="points",
            shape=(self.law.event_shape.numel(),),
            vocab_size=0,
            tokenizer=None,
            passage=0,
            n_classes=0,
            n_train=self.n_train,
            n_held_out=self.n_held_out,
            content_hash=content_hash(type(self).__name__, *settings),
        )

    @cached_property
    def _train(self) -> Tensor:
        return self._drawn("train", self.n_train)

    @cached_property
    def _held_out(self) -> Tensor:
        return self._drawn("held_out", self.n_held_out)

    def _drawn(self, split: Split, n: int) -> Tensor:
        """float32 [n, d]; torch's distributions draw from the global generator, which is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(fold(self.seed, _SPLITS[split]))
            return self.law.sample((n,)).reshape(n, -1).float()

    def real(self, split: Split) -> Points:
        """All points of a split."""
        return Points(self._train if split == "train" else self._held_out)

    def labels(self, split: Split) -> None:
        """None: points have no classes."""
        return

    likelihood_items = real

    @property
    def n_items(self) -> int:
        return self.n_train

    def gather(self, epoch: Tensor, item: Tensor) -> Tensor:
        """Training points: float32 [b, d]."""
        return self._train[item]

    @property
    def n_held_out_items(self) -> int:
        return self.n_held_out

    def gather_held_out(self, item: Tensor) -> Tensor:
        """Held-out points: float32 [b, d]."""
        return self._held_out[item]


@dataclass(kw_only=True)
class Gaussian(PointData):
    """One normal law.

    Args:
        mean: one number on the line, two in the plane.
        covariance: a symmetric, positive definite matrix of that size.
    """

    mean: list[float]
    covariance: list[list[float]]

    def __post_init__(self) -> None:
        d = len(self.mean)
        if d not in (1, 2) or [len(row) for row in self.covariance] != [d] * d:
            raise ValueError(f"covariance={self.covariance}: should be {d}x{d} for {d} means, 1 or 2 of them")
        matrix = torch.tensor(self.covariance, dtype=torch.float64)
        if not matrix.equal(matrix.mT) or torch.linalg.cholesky_ex(matrix).info:
            raise ValueError(f"covariance={self.covariance}: should be symmetric and positive definite")

    def _law(self) -> Distribution:
        mean, covariance = (torch.tensor(v, dtype=torch.float64) for v in (self.mean, self.covariance))
        if len(mean) == 1:
            return Normal(mean[0], covariance[0, 0].sqrt())
        return MultivariateNormal(mean, covariance)


@dataclass(kw_only=True)
class Mixture(PointData):
    """Normal laws on the line, of one width and in equal shares.

    Args:
        centres: of the components.
        sd: their standard deviation.
    """

    centres: list[float]
    sd: PositiveFloat

    def __post_init__(self) -> None:
        if not self.centres:
            raise ValueError("centres=[]: give at least one")

    def _law(self) -> Distribution:
        centres = torch.tensor(self.centres, dtype=torch.float64)
        return MixtureSameFamily(Categorical(torch.ones_like(centres)), Normal(centres, self.sd))


@dataclass(kw_only=True)
class Ring(PointData):
    """`aigc_lab.minimax.modes.ring`: modes on a circle.

    Args:
        n_modes, radius, sd: of the ring.
    """

    n_modes: PositiveInt
    radius: PositiveFloat
    sd: PositiveFloat

    def _law(self) -> Distribution:
        return modes.ring(n_modes=self.n_modes, radius=self.radius, sd=self.sd)


@dataclass(kw_only=True)
class Grid(PointData):
    """`aigc_lab.minimax.modes.grid`: modes on a square lattice.

    Args:
        side, spacing, sd: of the grid.
    """

    side: PositiveInt
    spacing: PositiveFloat
    sd: PositiveFloat

    def _law(self) -> Distribution:
        return modes.grid(side=self.side, spacing=self.spacing, sd=self.sd)
