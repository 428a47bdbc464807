"""Measures of images' likelihoods: what autoencoders are compared by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigc_lab.errors import UserError
from aigc_lab.reproduce.rows import rows_of_samples
from aigc_lab.reproduce.trial import Seen, Trial
from aigc_lab.types import PositiveInt

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class HeldOutBound:
    """-log p of the held-out items, or an upper bound on it: `nats_per_image`, the mean over all of them, and
    `bits_per_dim`.

    Beside them `nats_error`, half of the mean's 95 % interval over the items, as if they had been drawn anew; and,
    where the bound is an estimate by several draws, `nats_draw_error`, half of the interval over the draws.

    Args:
        importance_samples: draws of z for each item. More make the bound tighter: 200 or 5,000 are customary, and
            two numbers compare only where they are as many.
    """

    importance_samples: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the run has no likelihood.
        """
        items = trial.dataset.likelihood_items("held_out")
        found = trial.generator.log_likelihood(items, rng=trial.rng(), importance_samples=self.importance_samples)
        if found is None:
            raise UserError("claims: HeldOutBound is for models with a likelihood")
        n = len(found.nats)
        measured = {
            "nats_per_image": -float(found.nats.mean()),
            "nats_error": 1.96 * float(found.nats.std()) / math.sqrt(n),
            "bits_per_dim": found.bits_per_byte(),
        }
        if found.draw_error is not None:
            measured["nats_draw_error"] = 1.96 * float(found.draw_error.square().sum().sqrt()) / n
        return measured

    def figure(self, seen: Sequence[Seen]) -> "Figure | None":
        return rows_of_samples(seen)
