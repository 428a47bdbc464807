"""Divergence frontier of two laws, and the areas MAUVE and FI make of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked

N_WEIGHTS = 25
N_RESAMPLES = 100
N_QUANTISATIONS = 5


@dataclass(frozen=True)
class Mauve:
    """Means over several quantisations.

    Attributes:
        mauve: area under the frontier, from the cells' plain frequencies.
        frontier_integral: what the frontier costs on average, in [0, 1], in closed form.
        mauve_star: as `mauve`, with half a count added to each cell (Krichevsky & Trofimov): less biased.
        frontier_integral_star: likewise.
        frontier: [25 + 2, 2], smoothed by nothing, the mean point for each weight; first how well real covers
            generated, then the reverse.
    """

    mauve: Estimate
    frontier_integral: Estimate
    mauve_star: Estimate
    frontier_integral_star: Estimate
    frontier: Tensor


def mauve(real: Tensor, generated: Tensor, *, n_cells: int | None = None, seed: int = 0) -> Mauve:
    """MAUVE (Pillutla et al. 2021, section 3; 2023): both sets of features [n, d] are cut into cells by k-means
    (after scaling to unit length and PCA to 90 % of the variance), and the two histograms compared. The values of
    five k-means are averaged; the authors take that of the best of five.

    MAUVE is 1 for identical histograms, but about .96 for identical laws at the default n / 10 cells, for every
    n, and .004 for disjoint ones: compare with held-out real features at equal n. FI is 0 and 1. Blind to
    copying and to all within a cell. The interval has a bootstrap of the histograms, given the cells, and what the
    mean over k-means moves by.

    Args:
        n_cells: a tenth of the smaller set where None.
    """
    real, generated = checked(2, real=real, generated=generated)
    cells = max(2, round(min(len(real), len(generated)) / 10)) if n_cells is None else n_cells
    points, rng = _reduced(torch.cat([real, generated])), torch.Generator().manual_seed(seed)
    histograms = [
        _histograms(_quantise(points, cells, seed * N_QUANTISATIONS + i), len(real), cells)
        for i in range(N_QUANTISATIONS)
    ]
    resampled = [(_resample(p, rng), _resample(q, rng)) for p, q in histograms]

    def estimate(summary: Callable[[Tensor, Tensor], Tensor], smoothing: float) -> Estimate:
        def of(p: Tensor, q: Tensor) -> Tensor:
            return summary(_frequencies(p, smoothing), _frequencies(q, smoothing))

        values = torch.stack([of(*pair) for pair in histograms])
        by_sample = torch.stack([of(*pair).var() for pair in resampled]).mean()
        error = (by_sample + values.var() / len(values)).sqrt()
        return Estimate.normal(float(values.mean()), float(error)).within(0, 1)

    frontiers = [divergence_frontier(_frequencies(p, 0.0), _frequencies(q, 0.0)) for p, q in histograms]
    return Mauve(
        mauve=estimate(mauve_of_histograms, 0.0),
        frontier_integral=estimate(frontier_integral, 0.0),
        mauve_star=estimate(mauve_of_histograms, 0.5),
        frontier_integral_star=estimate(frontier_integral, 0.5),
        frontier=torch.stack(frontiers).mean(0),
    )


def divergence_frontier(p: Tensor, q: Tensor, *, scaling: float = 5.0) -> Tensor:
    """Points (exp(-c KL(q | r)), exp(-c KL(p | r))) for r = w p + (1 - w) q, 25 w in (0, 1), between the corners
    (0, 1) and (1, 0) (Djolonga et al. 2020; Pillutla et al. 2021, equation 1).

    Histograms [..., k] in, [..., 27, 2] out.
    """
    w = torch.linspace(1e-6, 1 - 1e-6, N_WEIGHTS, dtype=torch.float64)[:, None].flip(0)
    p, q = p.unsqueeze(-2), q.unsqueeze(-2)
    r = w * p + (1 - w) * q
    inner = torch.stack([(-scaling * _kl(q, r)).exp(), (-scaling * _kl(p, r)).exp()], dim=-1)
    first, last = (torch.tensor([corner], dtype=torch.float64) for corner in ((0.0, 1.0), (1.0, 0.0)))
    return torch.cat([first.expand_as(inner[..., :1, :]), inner, last.expand_as(inner[..., :1, :])], dim=-2)


def mauve_of_histograms(p: Tensor, q: Tensor) -> Tensor:
    """Area under the divergence frontier: 1 where p = q, .00407 (1 / C(2c, c) on a fine grid) where disjoint."""
    x, y = divergence_frontier(p, q).unbind(-1)
    return torch.trapezoid(y, x)


def frontier_integral(p: Tensor, q: Tensor) -> Tensor:
    """FI (Liu et al. 2021, definition 1): 2 ∫ λ KL(p | r) + (1 - λ) KL(q | r) dλ, r = λ p + (1 - λ) q, closed
    form: Σ (p + q) / 2 - p q (log p - log q) / (p - q). 0 where p = q, 1 where disjoint."""
    middle = (p + q) / 2
    t = torch.where(middle > 0, (p - q) / (p + q).clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    inside = t.abs().clamp(1e-4, 1 - 1e-16)
    exact = 1 - (1 - inside**2) * inside.atanh() / inside
    return (middle * torch.where(t.abs() < 1e-4, t**2 * 2 / 3, torch.where(t.abs() == 1, 1.0, exact))).sum(-1)


def _kl(p: Tensor, r: Tensor) -> Tensor:
    return (torch.xlogy(p, p) - torch.xlogy(p, r)).sum(-1)


def _frequencies(counts: Tensor, smoothing: float) -> Tensor:
    smoothed = counts + smoothing
    return smoothed / smoothed.sum(-1, keepdim=True)


def _resample(counts: Tensor, rng: torch.Generator) -> Tensor:
    """Histograms of bootstrap resamples, [100, k]."""
    n = int(counts.sum())
    drawn = torch.multinomial(counts, N_RESAMPLES * n, replacement=True, generator=rng).view(N_RESAMPLES, n)
    return torch.zeros(N_RESAMPLES, len(counts), dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones((), dtype=torch.float64).expand_as(drawn)
    )


def _reduced(points: Tensor) -> Tensor:
    """Scaled to unit length, on the principal components that hold 90 % of the variance, float32."""
    unit = normalize(points.double())
    centred = unit - unit.mean(0)
    eigenvalues, vectors = torch.linalg.eigh(centred.mT @ centred)
    share = eigenvalues.flip(0).cumsum(0) / eigenvalues.sum()
    kept = 1 + int((share < 0.9).sum())
    return (centred @ vectors.flip(1)[:, :kept]).float()


def _histograms(labels: Tensor, n_real: int, n_cells: int) -> tuple[Tensor, Tensor]:
    """Counts of real and of generated points, [k] each."""
    real, generated = labels[:n_real], labels[n_real:]
    return real.bincount(minlength=n_cells).double(), generated.bincount(minlength=n_cells).double()


def _quantise(points: Tensor, n_cells: int, seed: int) -> Tensor:
    """The k-means cell of each point, int64 [n]."""
    fit = KMeans(n_cells, init="random", n_init=1, random_state=seed).fit(points.numpy())
    return torch.from_numpy(fit.labels_).long()
