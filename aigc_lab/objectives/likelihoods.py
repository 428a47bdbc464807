"""Conditional likelihoods p(x | parameters) of discrete images, for decoders.

Images are integers 0 .. levels-1. Likelihoods are probabilities of these integers, never densities, so
that -log2 p / number of pixels is a code length, and models can be compared in bits.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Likelihood(Protocol):
    """A law of an image given the decoder's maps; pixels are independent given these."""

    n_maps: ClassVar[int]
    """Maps per image channel: the number of parameters of a pixel's law."""

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

    n_maps: ClassVar[int] = 1

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


@dataclass(frozen=True)
class DiscretisedLogistic:
    """A logistic density integrated over the bin of each level (Kingma et al. 2016, appendix A.3).

    Maps are the location and the log-scale, in the unit in which images span [-1, 1]; the lowest and
    highest bins extend to infinity, so the probabilities of all levels sum to one.
    """

    n_maps: ClassVar[int] = 2

    def check(self, levels: int) -> None:
        """Any number of levels will do."""

    def log_prob(self, maps: Tensor, pixels: Tensor, levels: int) -> Tensor:
        """Σ log [F(upper edge) - F(lower edge)], [B] nats, F the logistic distribution function."""
        location, inverse_scale = self._parameters(maps)
        # the edges of a level's bin: one level's upper edge is the next one's lower edge to the last bit
        x = pixels.to(maps.dtype)
        upper = ((2 * x + 1) / (levels - 1) - 1 - location) * inverse_scale
        lower = ((2 * x - 1) / (levels - 1) - 1 - location) * inverse_scale
        # σ(a) - σ(b) = σ(a) σ(-b) (1 - e^(b-a)): no cancellation, however far x is in a tail
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        log_prob = torch.where(pixels == levels - 1, F.logsigmoid(-lower), inside)
        log_prob = torch.where(pixels == 0, F.logsigmoid(upper), log_prob)
        return log_prob.flatten(1).sum(1)

    def median(self, maps: Tensor, levels: int) -> Tensor:
        """The level nearest to the location."""
        return to_levels(self._parameters(maps)[0], levels)

    def sample(self, maps: Tensor, levels: int, rng: torch.Generator) -> Tensor:
        """A logistic draw (inverse distribution function), rounded to the nearest level."""
        location, inverse_scale = self._parameters(maps)
        quantile = torch.logit(uniform(location.shape, rng, location), eps=1e-7)
        return to_levels(location + quantile / inverse_scale, levels)

    @staticmethod
    def _parameters(maps: Tensor) -> tuple[Tensor, Tensor]:
        """Location and 1/scale. The scale is kept above e^-7: narrower than any bin of 8-bit images."""
        location, log_scale = maps.chunk(2, dim=1)
        return location, torch.exp(-log_scale.clamp(min=-7))


def to_unit(pixels: Tensor, levels: int) -> Tensor:
    """Levels 0 .. levels-1 -> [-1, 1], float32."""
    return pixels.float() * (2 / (levels - 1)) - 1


def to_levels(images: Tensor, levels: int) -> Tensor:
    """[-1, 1] -> the nearest of the levels 0 .. levels-1, int64; the inverse of `to_unit`."""
    return ((images.float() + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1).long()


def uniform(shape: torch.Size, rng: torch.Generator, like: Tensor) -> Tensor:
    """Uniform draws on [0, 1) from a CPU generator, whatever the device: the same seed, the same sample."""
    return torch.rand(shape, generator=rng).to(like.device)
