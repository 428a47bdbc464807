"""The f-GAN family (Nowozin, Cseke & Tomioka 2016): every f-divergence is a game.

D_f(p || p_g) = max_T E_p[T] - E_{p_g}[f*(T)] (their equation 5; Nguyen, Wainwright & Jordan 2010). D's output v is
any number and T = g_f(v), so that T lies in the domain of f* (table 2). Both players play for this one value:
at T = T* the generator descends the divergence itself.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_2 = 0.6931471805599453


class FGame(ABC):
    """The two losses; a divergence is its `gain` and its `cost`.

    `cost` is f* after g_f in closed form, which neither leaves the domain of f* nor cancels. The exponentials of
    KL, reverse KL and squared Hellinger overflow float32 beyond |v| = 88; clip gradients and keep rates low.
    """

    compares: ClassVar[bool] = False
    scaled: ClassVar[bool] = True
    middle: ClassVar[float | None] = 0.0

    @abstractmethod
    def gain(self, v: Tensor) -> Tensor:
        """T = g_f(v), what D is paid on real data."""

    @abstractmethod
    def cost(self, v: Tensor) -> Tensor:
        """f*(g_f(v)), what D pays on samples."""

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-(E[T(x)] - E[f*(T(G(z)))]); at T* this is -D_f(p || p_g)."""
        return self.cost(fake_logits).mean() - self.gain(real_logits).mean()

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """-E[f*(T(G(z)))]: the only term that G moves."""
        return -self.cost(fake_logits).mean()


class KL(FGame):
    """KL(p || p_g): f(u) = u log u, f*(t) = e^(t - 1), g(v) = v. T* = 1 + log p/p_g."""

    middle: ClassVar[float | None] = 1.0

    def gain(self, v: Tensor) -> Tensor:
        """v."""
        return v

    def cost(self, v: Tensor) -> Tensor:
        """e^(v - 1)."""
        return (v - 1).exp()


class ReverseKL(FGame):
    """KL(p_g || p): f(u) = -log u, f*(t) = -1 - log(-t), g(v) = -e^-v. T* = -p_g/p."""

    def gain(self, v: Tensor) -> Tensor:
        """-e^-v."""
        return -(-v).exp()

    def cost(self, v: Tensor) -> Tensor:
        """-1 - log e^-v = v - 1."""
        return v - 1


class Pearson(FGame):
    """χ²(p || p_g) = ∫ (p - p_g)²/p_g: f(u) = (u - 1)², f*(t) = t²/4 + t, g(v) = v. T* = 2(p/p_g - 1)."""

    def gain(self, v: Tensor) -> Tensor:
        """v."""
        return v

    def cost(self, v: Tensor) -> Tensor:
        """v²/4 + v."""
        return v.square() / 4 + v


class SquaredHellinger(FGame):
    """∫ (√p - √p_g)²: f(u) = (√u - 1)², f*(t) = t/(1 - t), g(v) = 1 - e^-v. T* = 1 - √(p_g/p)."""

    def gain(self, v: Tensor) -> Tensor:
        """1 - e^-v."""
        return -torch.expm1(-v)

    def cost(self, v: Tensor) -> Tensor:
        """(1 - e^-v)/e^-v = e^v - 1."""
        return torch.expm1(v)


class JensenShannon(FGame):
    """2 JSD(p, p_g): f*(t) = -log(2 - e^t), g(v) = log 2 + log σ(v). T* = log 2p/(p + p_g)."""

    def gain(self, v: Tensor) -> Tensor:
        """log 2 + log σ(v)."""
        return LOG_2 + F.logsigmoid(v)

    def cost(self, v: Tensor) -> Tensor:
        """-log(2 - 2 σ(v)) = softplus(v) - log 2."""
        return F.softplus(v) - LOG_2


class GAN(FGame):
    """2 JSD(p, p_g) - log 4: f*(t) = -log(1 - e^t), g(v) = log σ(v). Exactly `Minimax`. T* = log p/(p + p_g)."""

    def gain(self, v: Tensor) -> Tensor:
        """log σ(v)."""
        return F.logsigmoid(v)

    def cost(self, v: Tensor) -> Tensor:
        """-log(1 - σ(v)) = softplus(v)."""
        return F.softplus(v)
