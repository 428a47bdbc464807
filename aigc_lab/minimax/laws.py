"""Laws on the line as one writes them: N(0, 1), or 0.3 N(-2, 0.5) + 0.7 N(2, 0.5). Nothing here imports torch."""

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigc_lab.errors import UserError

if TYPE_CHECKING:
    from torch.distributions import Distribution

MAX_COMPONENTS = 20
MAX_RATIO = 100
"""Of the largest length in a law, distances from 0 included, to its smallest standard deviation."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_TERM = re.compile(rf"(?:({_NUMBER})\s*\*?\s*)?N\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)", re.IGNORECASE)
GRAMMAR = "write N(MEAN, SD), or 0.3 N(-2, 0.5) + 0.7 N(2, 0.5)"


@dataclass(frozen=True)
class Gaussians:
    """A mixture of normal laws on the line."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]

    def __str__(self) -> str:
        parts = [f"N({mean:g}, {sd:g})" for mean, sd in zip(self.means, self.sds, strict=True)]
        if len(parts) == 1:
            return parts[0]
        return " + ".join(f"{weight:.3g} {part}" for weight, part in zip(self.weights, parts, strict=True))

    def law(self) -> "Distribution":
        """In float64."""
        import torch
        from torch.distributions import Categorical, MixtureSameFamily, Normal

        weights, means, sds = (torch.tensor(v, dtype=torch.float64) for v in (self.weights, self.means, self.sds))
        if len(weights) == 1:
            return Normal(means[0], sds[0])
        return MixtureSameFamily(Categorical(weights), Normal(means, sds))


def parse_law(text: str) -> Gaussians:
    """The law that a text describes; the second number is a standard deviation. Terms without weights share alike.

    Raises:
        UserError: it is no sum of normal laws whose weights are positive and add up to 1, or lengths in it
            differ by more than MAX_RATIO, too much for one picture.
    """
    terms = [
        _TERM.fullmatch(term.strip()) for term in re.split(r"\+(?=[^+]*N)", text.strip(), flags=re.IGNORECASE)
    ]
    found = [term.groups() for term in terms if term]
    if len(found) < len(terms) or len(found) > MAX_COMPONENTS:
        raise UserError(f"{text[:80]!r} is no law: {GRAMMAR} (at most {MAX_COMPONENTS} terms)")
    given = [weight for weight, _, _ in found if weight is not None]
    if given and len(given) < len(found):
        raise UserError(f"{text[:80]!r}: give every term a weight, or none")
    weights = tuple(float(weight) for weight in given) or (1 / len(found),) * len(found)
    means, sds = (tuple(float(term[i]) for term in found) for i in (1, 2))
    if min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
        raise UserError(f"{text[:80]!r}: the weights must be positive and add up to 1, not {sum(weights):g}")
    if min(sds) <= 0:
        raise UserError(f"{text[:80]!r}: a standard deviation must be positive, not {min(sds):g}")
    longest = max(max(means) - min(means), max(sds), max(abs(mean) for mean in means))
    if not math.isfinite(longest) or longest / min(sds) > MAX_RATIO:
        raise UserError(f"{text[:80]!r}: lengths from {min(sds):g} to {longest:g} do not fit one picture")
    return Gaussians(weights, means, sds)
