"""The games that a generator G and a discriminator D play, one class per paper.

D's output is a logit: D(x) = σ(logit). Both losses are to be minimised and are means over the batch;
`generator_loss` also receives the real logits, which relativistic games need.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


class Game(Protocol):
    """A pair of losses. Arguments are logits of any shape, one per image."""

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor: ...

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Minimax:
    """min_G max_D E[log D(x)] + E[log(1 - D(G(z)))] (Goodfellow et al. 2014, equation 1).

    The generator's loss is the saturating one: its gradient vanishes where D rejects every sample.
    """

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-E[log D(x)] - E[log(1 - D(G(z)))]; at D = D* this is log 4 - 2 JSD(p, p_g)."""
        return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """E[log(1 - D(G(z)))]: the very term that the discriminator maximises."""
        return -F.softplus(fake_logits).mean()


@dataclass(frozen=True)
class NonSaturating(Minimax):
    """The minimax discriminator with the heuristic generator: max_G E[log D(G(z))] (2014, section 3)."""

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """-E[log D(G(z))]: the same fixed point as minimax, a gradient that does not vanish."""
        return F.softplus(-fake_logits).mean()


@dataclass(frozen=True)
class Hinge:
    """Geometric GAN (Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17). The output is a score."""

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]; at the optimum 2 - 2 TV(p, p_g)."""
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """-E[D(G(z))]."""
        return -fake_logits.mean()
