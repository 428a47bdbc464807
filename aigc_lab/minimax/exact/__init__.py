"""Exact values of the GAN game for laws of known density: `from aigc_lab.minimax import exact`.

Laws are `torch.distributions` on the line, in the plane or discrete; values are floats, in nats where there is
a logarithm, computed in float64 by quadrature to 1e-7 on the line and 1e-6 in the plane. Laws without a common
density, of more than two dimensions or not normalised are refused with a ValueError.
"""

from aigc_lab.minimax.exact.divergences import (
    F_DIVERGENCES,
    GAN,
    JS,
    KL,
    PEARSON,
    REVERSE_KL,
    SQUARED_HELLINGER,
    FDivergence,
    total_variation,
    triangular_discrimination,
)
from aigc_lab.minimax.exact.game import (
    Discriminator,
    jensen_shannon,
    minimax_value,
    minimax_value_sd,
    non_saturating_gradient,
    optimal_discriminator,
    saturating_gradient,
    value,
    value_gap,
)
from aigc_lab.minimax.exact.variants import (
    hinge_value,
    least_squares_value,
    relativistic_value,
    wasserstein_value,
)

__all__ = [
    "F_DIVERGENCES",
    "GAN",
    "JS",
    "KL",
    "PEARSON",
    "REVERSE_KL",
    "SQUARED_HELLINGER",
    "Discriminator",
    "FDivergence",
    "hinge_value",
    "jensen_shannon",
    "least_squares_value",
    "minimax_value",
    "minimax_value_sd",
    "non_saturating_gradient",
    "optimal_discriminator",
    "relativistic_value",
    "saturating_gradient",
    "total_variation",
    "triangular_discrimination",
    "value",
    "value_gap",
    "wasserstein_value",
]
