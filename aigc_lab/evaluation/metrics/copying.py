"""Whether generated items lie closer to the training set than they should."""

import math

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked
from aigc_lab.evaluation.metrics.distances import nearest_neighbours, neighbours
from aigc_lab.evaluation.metrics.ranks import probability_greater

ENOUGH = 20
"""Generated items that a cell needs to count: the τ m of Meehan et al."""


def data_copying(
    train: Tensor, held_out: Tensor, generated: Tensor, *, n_cells: int = 3, seed: int = 0
) -> Estimate:
    """C_T (Meehan, Chaudhuri & Dasgupta 2020, section 3): are generated points nearer to the training set than
    held-out ones? Mann and Whitney's U of the distances to the nearest training point, as a z-score, within each
    k-means cell of the training set, averaged by the cells' share of held-out points. Features [n, d].

    About N(0, 1) for identical laws; far below 0 for copies (1,000 against 1,000 in one cell: -38.7), far above
    where the generator underfits. Cells with fewer than 20 generated points do not count; without one that
    does, the value is NaN. It grows as √n: compare at equal n. Blind to dropped modes, and to few copies among
    many fresh points. The interval (DeLong's, over both samples) is of the z-score itself.
    """
    train, held_out, generated = checked(n_cells, train=train, held_out=held_out, generated=generated)
    if n_cells > 1:
        cells = KMeans(n_cells, n_init=10, random_state=seed).fit(train.double().numpy())
        parts = [torch.from_numpy(cells.predict(x.double().numpy())) for x in (train, held_out, generated)]
    else:
        parts = [torch.zeros(len(x), dtype=torch.int32) for x in (train, held_out, generated)]
    scores, weights = [], []
    for cell in range(n_cells):
        of_train, of_held_out, of_generated = (
            x[part == cell] for x, part in zip((train, held_out, generated), parts, strict=True)
        )
        if len(of_train) and len(of_held_out) and len(of_generated) >= min(ENOUGH, len(generated)):
            scores.append(_z_score(of_train, of_held_out, of_generated))
            weights.append(len(of_held_out))
    if not scores:
        return Estimate.unknown()
    shares = [w / sum(weights) for w in weights]
    value = sum(w * s.value for w, s in zip(shares, scores, strict=True))
    return Estimate.normal(value, math.hypot(*(w * s.standard_error for w, s in zip(shares, scores, strict=True))))


def _z_score(train: Tensor, held_out: Tensor, generated: Tensor) -> Estimate:
    """(U - n m / 2 + 1/2) / √(n m (n + m + 1) / 12), as in the authors' code."""
    nearest = [nearest_neighbours(train, x)[1] for x in (generated, held_out)]
    further = probability_greater(*nearest)
    pairs = len(generated) * len(held_out)
    unit = math.sqrt(pairs * (len(generated) + len(held_out) + 1) / 12)
    return Estimate.normal((pairs * (further.value - 0.5) + 0.5) / unit, further.standard_error * pairs / unit)


def authenticity(train: Tensor, generated: Tensor) -> Estimate:
    """The share of generated points that lie further from their nearest training point than that point lies
    from its own nearest neighbour in the training set (Alaa et al. 2022, section 4.3). Features [n, d].

    0 for copies. For fresh real data it is not 1 but depends on the dimension (N(0, I), n = 1,000: .33 at d = 1,
    .81 at d = 64): compare with held-out data. Noise scores 1: blind to fidelity.
    """
    train, generated = checked(2, train=train, generated=generated)
    nearest, distance = nearest_neighbours(train, generated)
    needed, place = nearest.unique(return_inverse=True)
    own = neighbours(train[needed], train, 2)[0][:, 1].sqrt()  # the first is the point itself
    return Estimate.share_of(distance > own[place])
