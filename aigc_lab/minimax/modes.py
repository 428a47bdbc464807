"""The benchmarks of mode collapse: mixtures whose modes can be counted, what is counted, and what a perfect
sampler would reach.

All measures depend on the number of samples: 2,500 of the mixtures and 26,000 of stacked MNIST are customary
(Srivastava et al. 2017; Lin et al. 2018).
"""

import math
from dataclasses import dataclass

import scipy.special
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

HIGH_QUALITY_SD = 3.0
"""A sample is of high quality within this many standard deviations of a mode."""
N_DIGITS = 10


def ring(*, n_modes: int = 8, radius: float = 1.0, sd: float = 0.01) -> MixtureSameFamily:
    """Modes on a circle, in equal shares. The defaults are PacGAN's; radius 2 and sd 0.02 are in use too."""
    angle = 2 * math.pi * torch.arange(n_modes, dtype=torch.float64) / n_modes
    return _mixture(radius * torch.stack([angle.cos(), angle.sin()], 1), sd)


def grid(*, side: int = 5, spacing: float = 2.0, sd: float = 0.05) -> MixtureSameFamily:
    """side x side modes around the origin, in equal shares. The defaults are PacGAN's: {-4, -2, 0, 2, 4}²."""
    axis = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
    return _mixture(torch.cartesian_prod(axis, axis), sd)


def _mixture(centres: Tensor, sd: float) -> MixtureSameFamily:
    modes = Independent(Normal(centres, torch.full_like(centres, sd)), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(centres), dtype=centres.dtype)), modes)


@dataclass(frozen=True)
class ModeReport:
    """What a set of samples covers of a mixture. No one number suffices: read them together."""

    modes: float
    """Modes that are nearest to at least one sample of high quality."""
    high_quality: float
    """The share of samples within 3 sd of a mode. More than a perfect sampler's: the modes are too narrow."""
    reverse_kl: float
    """KL(shares of the modes || equal shares), each sample counted for its nearest mode, good or bad."""
    binned_kl: float
    """The same over K + 1 bins, samples of low quality in a bin of their own, against a perfect sampler's law."""


def coverage(samples: Tensor, mixture: MixtureSameFamily) -> ModeReport:
    """The measures of samples [n, d] against `ring` or `grid`: equal, round modes of one width.

    Raises:
        ValueError: the samples are none, are not points of that space or not finite, or the modes are unequal.
    """
    centres, sds = mixture.component_distribution.mean, mixture.component_distribution.stddev
    weights, sd, n_modes = mixture.mixture_distribution.probs, float(sds.flatten()[0]), len(centres)
    if not (sds.allclose(sds.flatten()[0]) and weights.allclose(weights[0])):
        raise ValueError("modes are counted of mixtures whose components have one width and one weight")
    if samples.dim() != 2 or samples.shape[1] != centres.shape[1] or not len(samples):
        raise ValueError(f"samples must be points [n, {centres.shape[1]}], not {list(samples.shape)}")
    if not samples.isfinite().all():
        raise ValueError("a sample is NaN or infinite, and nearest to no mode")
    distance, nearest = torch.cdist(samples.to(centres), centres).min(1)
    good = distance <= HIGH_QUALITY_SD * sd
    bins = torch.where(good, nearest, n_modes).bincount(minlength=n_modes + 1)
    quality = _quality(centres.shape[1])
    ideal = torch.tensor([quality / n_modes] * n_modes + [1 - quality], dtype=torch.float64)
    return ModeReport(
        modes=int((bins[:-1] > 0).sum()),
        high_quality=float(good.double().mean()),
        reverse_kl=_kl(nearest.bincount(minlength=n_modes), _equal(n_modes)),
        binned_kl=_kl(bins, ideal),
    )


def perfect_coverage(mixture: MixtureSameFamily, n: int) -> ModeReport:
    """The expected report of n samples of the mixture itself, its modes so far apart that they do not overlap."""
    centres = mixture.component_distribution.mean
    n_modes, quality = len(centres), _quality(centres.shape[1])
    return ModeReport(
        modes=n_modes * -math.expm1(n * math.log1p(-quality / n_modes)),
        high_quality=quality,
        reverse_kl=n_modes * _expected_kl_term(1 / n_modes, n),
        binned_kl=n_modes * _expected_kl_term(quality / n_modes, n) + _expected_kl_term(1 - quality, n),
    )


@dataclass(frozen=True)
class StackedReport:
    """What a set of three-digit images covers of the 1,000 triples."""

    modes: float
    """Triples that occur at least once."""
    kl: float
    """KL(shares of the triples || equal shares)."""


def stacked_coverage(labels: Tensor) -> StackedReport:
    """The measures of stacked MNIST (Metz et al. 2017) from the digits that a classifier read in each channel.

    Raises:
        ValueError: labels is not of three digits each, integers [n, 3].
    """
    if labels.dim() != 2 or labels.shape[1] != 3 or labels.is_floating_point():
        raise ValueError(f"labels must be integers [n, 3], not {labels.dtype} {list(labels.shape)}")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < N_DIGITS:
        raise ValueError(f"labels must be digits, not {int(labels.min())} .. {int(labels.max())}")
    triples = (labels.long() * torch.tensor([N_DIGITS**2, N_DIGITS, 1], device=labels.device)).sum(1).cpu()
    counts = triples.bincount(minlength=N_DIGITS**3)
    return StackedReport(modes=int((counts > 0).sum()), kl=_kl(counts, _equal(N_DIGITS**3)))


def perfect_stacked_coverage(n: int, digit_shares: Tensor | None = None) -> StackedReport:
    """The expected report of n perfect samples, read by a perfect classifier.

    Args:
        n: samples.
        digit_shares: how often each digit occurs in the data, [10]; MNIST's digits are not equally frequent.
            Equal shares if None.

    Raises:
        ValueError: digit_shares is not of ten digits that all occur.
    """
    if digit_shares is not None and not (digit_shares.shape == (N_DIGITS,) and digit_shares.min() > 0):
        raise ValueError(f"digit_shares must be of {N_DIGITS} digits that all occur")
    shares = _equal(N_DIGITS) if digit_shares is None else digit_shares.double() / digit_shares.sum()
    triples, times = torch.cartesian_prod(shares, shares, shares).prod(1).unique(return_counts=True)
    modes = times * -torch.expm1(n * torch.log1p(-triples))
    bias = sum(k * _expected_kl_term(share, n) for share, k in zip(triples.tolist(), times.tolist(), strict=True))
    inequality = times * triples * (triples * N_DIGITS**3).log()
    return StackedReport(modes=float(modes.sum()), kl=bias + float(inequality.sum()))


def _expected_kl_term(share: float, n: int) -> float:
    """E[s log(s / share)] for the observed share s of a bin among n draws: a finite sample's bias, exactly.

    Summed over K bins it is about (K - 1) / 2n. Counts further than 12 standard deviations out are left away.
    """
    reach = 12 * math.sqrt(n * share) + 50
    counts = torch.arange(max(1, int(n * share - reach)), min(n, int(n * share + reach)) + 1, dtype=torch.float64)
    law = torch.distributions.Binomial(n, torch.tensor(share, dtype=torch.float64))
    observed = counts / n
    return float((law.log_prob(counts).exp() * observed * (observed / share).log()).sum())


def _equal(n: int) -> Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


def _quality(dimension: int) -> float:
    """P(|z| <= 3) of a standard normal z in that many dimensions: 1 - e^(-9/2) in the plane."""
    return float(scipy.special.gammainc(dimension / 2, HIGH_QUALITY_SD**2 / 2))


def _kl(counts: Tensor, law: Tensor) -> float:
    """KL of the counts' shares from the law, in nats."""
    shares = counts.double() / counts.sum()
    return float((torch.xlogy(shares, shares) - torch.xlogy(shares, law)).sum())
