"""Conditional likelihoods p(x | parameters) of discrete images, for decoders.

Images are integers 0 .. levels-1. Likelihoods are probabilities of these integers, never densities, so
that -log2 p / number of pixels is a code length, and models can be compared in bits.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from aigc_lab.types import PositiveFloat


class Likelihood(Protocol):
    """A law of an image given the decoder's maps; pixels are independent given these."""

    def n_maps(self, levels: int) -> int:
        """Maps per image channel: the number of parameters of a pixel's law."""
        ...

    def check(self, levels: int) -> None:
        """Raise ValueError if the law is not one over `levels` values."""
        ...

    def log_prob(self, maps: Tensor, pixels: Tensor, levels: int) -> Tensor:
        """log p(x), [B], of pixels [B, C, H, W] under maps [B, n_maps * C, H, W]."""
        ...

    def median(self, maps: Tensor, levels: int) -> Tensor:
        """The median of each pixel's law: [B, C, H, W] integers."""
        ...

    def sample(self, maps: Tensor, levels: int, rng: torch.Generator) -> Tensor:
        """One draw per pixel: [B, C, H, W] integers."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    """Each pixel is 0 or 1; the map is its logit (Kingma & Welling 2014, appendix C.1)."""

    def n_maps(self, levels: int) -> int:
        """One."""
        return 1

    def check(self, levels: int) -> None:
        """
        Raises:
            ValueError: the pixels are not binary. (The cross-entropy of grey values is not a likelihood:
                it is not normalised, and its value means nothing in bits.)
        """
        if levels != 2:
            raise ValueError(
                f"a Bernoulli likelihood needs binary pixels but the data has {levels} levels: "
                "set data.levels=2 or model/likelihood=discretised_logistic"
            )

    def log_prob(self, maps: Tensor, pixels: Tensor, levels: int) -> Tensor:
        """Σ x log σ(m) + (1 - x) log(1 - σ(m)), [B] nats."""
        return -F.binary_cross_entropy_with_logits(maps, pixels.to(maps.dtype), reduction="none").flatten(1).sum(1)

    def median(self, maps: Tensor, levels: int) -> Tensor:
        """1 where σ(m) > 1/2."""
        return (maps > 0).long()

    def sample(self, maps: Tensor, levels: int, rng: torch.Generator) -> Tensor:
        """x = 1 with probability σ(m)."""
        return (uniform(maps.shape, rng, maps) < maps.sigmoid()).long()


class Discretised(ABC):
    """A density on the line, symmetric about its location, integrated over the bin of each level.

    Location and scale are in the unit in which images span [-1, 1]. The lowest and highest bins extend to
    infinity, so the probabilities of all levels sum to one.
    """

    def check(self, levels: int) -> None:  # noqa: B027 - nothing is refused
        """Any number of levels will do."""

    def log_prob(self, maps: Tensor, pixels: Tensor, levels: int) -> Tensor:
        """Σ log [F(upper edge) - F(lower edge)], [B] nats, F the distribution function."""
        location, inverse_scale = self._parameters(maps)
        # the edges of a level's bin: one level's upper edge is the next one's lower edge to the last bit
        x = pixels.to(location.dtype)
        upper = ((2 * x + 1) / (levels - 1) - 1 - location) * inverse_scale
        lower = ((2 * x - 1) / (levels - 1) - 1 - location) * inverse_scale
        log_prob = torch.where(pixels == levels - 1, self._log_below(-lower), self._log_between(lower, upper))
        log_prob = torch.where(pixels == 0, self._log_below(upper), log_prob)
        return log_prob.flatten(1).sum(1).to(maps.dtype)

    def median(self, maps: Tensor, levels: int) -> Tensor:
        """The level nearest to the location."""
        return to_levels(self._parameters(maps)[0], levels)

    def sample(self, maps: Tensor, levels: int, rng: torch.Generator) -> Tensor:
        """A draw of the density (inverse distribution function), rounded to the nearest level."""
        location, inverse_scale = self._parameters(maps)
        return to_levels(location + self._quantile(uniform(location.shape, rng, location)) / inverse_scale, levels)

    @abstractmethod
    def _parameters(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Location and 1/scale."""

    @abstractmethod
    def _log_below(self, x: Tensor) -> Tensor:
        """log F(x) of location 0 and scale 1."""

    @abstractmethod
    def _log_between(self, lower: Tensor, upper: Tensor) -> Tensor:
        """log [F(upper) - F(lower)], however far both are in a tail."""

    @abstractmethod
    def _quantile(self, p: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DiscretisedLogistic(Discretised):
    """The logistic density (Kingma et al. 2016, appendix A.3). Maps are the location and the log-scale."""

    def n_maps(self, levels: int) -> int:
        """Two."""
        return 2

    def _parameters(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        location, log_scale = maps.chunk(2, dim=1)
        return location, inverse(log_scale)

    def _log_below(self, x: Tensor) -> Tensor:
        return F.logsigmoid(x)

    def _log_between(self, lower: Tensor, upper: Tensor) -> Tensor:
        # σ(a) - σ(b) = σ(a) σ(-b) (1 - e^(b-a)): no cancellation
        return F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))

    def _quantile(self, p: Tensor) -> Tensor:
        return torch.logit(p, eps=1e-7)


@dataclass(frozen=True, kw_only=True)
class DiscretisedGaussian(Discretised):
    """The normal density. Maps are the location and, where it is learnt, the log-scale.

    Args:
        scale: standard deviation of every pixel; None: learnt, of each pixel.
    """

    scale: PositiveFloat | None

    def n_maps(self, levels: int) -> int:
        """One, or two with the scale."""
        return 2 if self.scale is None else 1

    def _parameters(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        # float64: the distribution functions of neighbouring levels differ in few digits
        if self.scale is not None:
            return maps.double(), maps.new_tensor(1 / self.scale, dtype=torch.double)
        location, log_scale = maps.double().chunk(2, dim=1)
        return location, inverse(log_scale)

    def _log_below(self, x: Tensor) -> Tensor:
        return torch.special.log_ndtr(x)

    def _log_between(self, lower: Tensor, upper: Tensor) -> Tensor:
        right = lower + upper > 0  # there F is next to 1, and F(-x) = 1 - F(x) has the digits
        larger = torch.special.log_ndtr(torch.where(right, -lower, upper))
        smaller = torch.special.log_ndtr(torch.where(right, -upper, lower))
        return larger + torch.log(-torch.expm1(smaller - larger))

    def _quantile(self, p: Tensor) -> Tensor:
        return torch.special.ndtri(p.clamp(1e-7, 1 - 1e-7))


@dataclass(frozen=True)
class Categorical:
    """A probability of each level by itself, softmax of the maps: any law of a pixel, and as many maps as levels
    (van den Oord et al. 2016)."""

    def n_maps(self, levels: int) -> int:
        """As many as levels."""
        return levels

    def check(self, levels: int) -> None:
        """Any number of levels will do."""

    def log_prob(self, maps: Tensor, pixels: Tensor, levels: int) -> Tensor:
        """Σ log softmax(m)_x, [B] nats."""
        return -F.cross_entropy(_by_level(maps, levels), pixels.long(), reduction="none").flatten(1).sum(1)

    def median(self, maps: Tensor, levels: int) -> Tensor:
        """The lowest level up to which lies half of the mass."""
        return self._quantile(maps, levels, maps.new_tensor(0.5))

    def sample(self, maps: Tensor, levels: int, rng: torch.Generator) -> Tensor:
        """By the inverse distribution function."""
        return self._quantile(maps, levels, uniform(_by_level(maps, levels)[:, :1].shape, rng, maps))

    @staticmethod
    def _quantile(maps: Tensor, levels: int, p: Tensor) -> Tensor:
        below = _by_level(maps, levels).softmax(1).cumsum(1)[:, :-1]  # the last is 1, whatever rounding says
        return (below < p).sum(1)


def inverse(log_scale: Tensor) -> Tensor:
    """1/scale. The scale is kept above e^-7, which is narrower than any bin of 8-bit images, and below e^7, where
    all mass is in the outermost bins."""
    return torch.exp(-log_scale.clamp(-7, 7))


def _by_level(maps: Tensor, levels: int) -> Tensor:
    """[B, levels · C, H, W] -> [B, levels, C, H, W]."""
    return maps.unflatten(1, (levels, -1))


def to_unit(pixels: Tensor, levels: int) -> Tensor:
    """Levels 0 .. levels-1 -> [-1, 1], float32."""
    return pixels.float() * (2 / (levels - 1)) - 1


def to_levels(images: Tensor, levels: int) -> Tensor:
    """[-1, 1] -> the nearest of the levels 0 .. levels-1, int64; the inverse of `to_unit`."""
    return ((images.float() + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1).long()


def uniform(shape: torch.Size, rng: torch.Generator, like: Tensor) -> Tensor:
    """Uniform draws on [0, 1) from a CPU generator, whatever the device: the same seed, the same sample."""
    return torch.rand(shape, generator=rng).to(like.device)
