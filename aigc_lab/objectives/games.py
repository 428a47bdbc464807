"""The games that a generator G and a discriminator D play, one class per paper.

D's output is a logit: D(x) = σ(logit). Both losses are to be minimised and are means over the batch;
`generator_loss` also receives the real logits of the very same discriminator, which relativistic games need:
they leave D's offset free, so the logits of an older D would be off by an arbitrary constant.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor
from torch.nn import functional as F


class Game(Protocol):
    """A pair of losses. Arguments are logits of any shape, one per image."""

    compares: ClassVar[bool]
    """Whether the generator's loss looks at the real logits."""
    scaled: ClassVar[bool]
    """Whether logits have a unit: not those of a critic whose size only a penalty or clipping sets."""

    @property
    def middle(self) -> float | None:
        """The logit of an item that is as likely real as generated; None where the game leaves it free."""
        ...

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor: ...

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Minimax:
    """min_G max_D E[log D(x)] + E[log(1 - D(G(z)))] (Goodfellow et al. 2014, equation 1).

    The generator's loss is the saturating one: its gradient vanishes where D rejects every sample.
    """

    compares: ClassVar[bool] = False
    scaled: ClassVar[bool] = True
    middle: ClassVar[float | None] = 0.0

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

    compares: ClassVar[bool] = False
    scaled: ClassVar[bool] = True
    middle: ClassVar[float | None] = 0.0

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]; at the optimum 2 - 2 TV(p, p_g)."""
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """-E[D(G(z))]."""
        return -fake_logits.mean()


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """LSGAN (Mao et al. 2017, equation 2). The output is a number, D(x), not a logit.

    With b - c = 1 and b - a = 2 the game minimises the Pearson divergence of (p + p_g)/2 from p_g (their
    section 3.2), which is bounded: it is not χ²(p || p_g). The labels 0, 1, 1 are in use too, without this.

    Args:
        fake_label, real_label: a and b, what D should answer.
        goal: c, what G wants D to answer.
    """

    fake_label: float
    real_label: float
    goal: float

    compares: ClassVar[bool] = False
    scaled: ClassVar[bool] = True

    @property
    def middle(self) -> float:
        return (self.fake_label + self.real_label) / 2

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """½ E[(D(x) - b)²] + ½ E[(D(G(z)) - a)²]; for -1, 1 at the optimum 1 - ½ ∫ (p - p_g)²/(p + p_g)."""
        real, fake = (real_logits - self.real_label).square(), (fake_logits - self.fake_label).square()
        return (real.mean() + fake.mean()) / 2

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """½ E[(D(G(z)) - c)²]."""
        return (fake_logits - self.goal).square().mean() / 2


@dataclass(frozen=True)
class Wasserstein:
    """WGAN (Arjovsky et al. 2017, equations 2 and 3). The output is a score of a critic.

    Only a Lipschitz critic makes this a distance: put the penalty `GradientPenalty` beside it.
    """

    compares: ClassVar[bool] = False
    scaled: ClassVar[bool] = False
    middle: ClassVar[float | None] = None

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-(E[D(x)] - E[D(G(z))]); at the best 1-Lipschitz D this is -W1(p, p_g)."""
        return fake_logits.mean() - real_logits.mean()

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """-E[D(G(z))]."""
        return -fake_logits.mean()


@dataclass(frozen=True)
class Relativistic:
    """RpGAN: is x more real than G(z)? (Jolicoeur-Martineau 2019, equation 10; f(t) = -log(1 + e^-t) as in R3GAN,
    Huang et al. 2024). The i-th real and the i-th fake logit are a pair.

    The generator's loss is the one of both papers' code, -E[f(D(G(z)) - D(x))]: it does not saturate.
    Every sample is held against a real item, which leaves no bad local optimum without some of the modes (Sun et
    al. 2020); alone the game cycles like the others, and takes R1 and R2 to converge.
    """

    compares: ClassVar[bool] = True
    scaled: ClassVar[bool] = True
    middle: ClassVar[float | None] = None

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-E[log σ(D(x) - D(G(z)))]; at the optimum log 2 - JSD(p ⊗ p_g, p_g ⊗ p)."""
        return F.softplus(fake_logits - real_logits).mean()

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """-E[log σ(D(G(z)) - D(x))]."""
        return F.softplus(real_logits - fake_logits).mean()
