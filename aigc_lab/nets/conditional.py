"""How the two players of a GAN are told the class. Classes are one-hot, [B, K]."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.nets.architecture import Architecture
from aigc_lab.types import PositiveFloat, PositiveInt, Shape


class GeneratorCondition(Protocol):
    """Builds a generator whose input is [z, class] side by side."""

    def generator(self, architecture: Architecture, n_in: int, shape: Shape, n_classes: int) -> nn.Module:
        """[B, n_in + n_classes] -> maps [B, *shape]."""
        ...


@dataclass(frozen=True)
class ConcatenatedLatent:
    """The class stands beside z (Mirza & Osindero 2014). For any architecture."""

    def generator(self, architecture: Architecture, n_in: int, shape: Shape, n_classes: int) -> nn.Module:
        return architecture.decoder(n_in + n_classes, shape)


@dataclass(frozen=True)
class ClassNorms:
    """The class chooses gain and bias of BatchNorm (de Vries et al. 2017; Miyato & Koyama 2018): of every one of
    `dcgan`, of those in the blocks of `resnet`, as in their code."""

    def generator(self, architecture: Architecture, n_in: int, shape: Shape, n_classes: int) -> nn.Module:
        """
        Raises:
            ValueError: the architecture has no norms.
        """
        if not hasattr(architecture, "class_decoder"):
            raise ValueError(
                f"generator_condition: {type(architecture).__name__} has no BatchNorm for classes to choose; use "
                "model/generator=dcgan or resnet, or model/generator_condition=concatenation"
            )
        return architecture.class_decoder(n_in, shape, n_classes)


class Verdict(NamedTuple):
    """What a discriminator says of images.

    Attributes:
        logits: [B, 1].
        class_loss: what is to be paid for the class that it reads from them, a scalar; 0 where it reads none.
    """

    logits: Tensor
    class_loss: Tensor


class DiscriminatorCondition(Protocol):
    """Builds a discriminator D(x, y) -> `Verdict` of images [B, *shape] and their classes."""

    def discriminator(self, architecture: Architecture, shape: Shape, n_classes: int) -> nn.Module: ...


@dataclass(frozen=True)
class ConcatenatedMaps:
    """Each class is a further channel of the image, 1 on that of its own (Mirza & Osindero 2014)."""

    def discriminator(self, architecture: Architecture, shape: Shape, n_classes: int) -> nn.Module:
        channels, *sides = shape
        return _SeesMaps(architecture.encoder((channels + n_classes, *sides), 1))


class _SeesMaps(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, classes: Tensor) -> Verdict:
        maps = classes[..., None, None].expand(-1, -1, *x.shape[2:])
        return Verdict(self.network(torch.cat([x, maps.to(x.dtype)], 1)), x.new_zeros(()))


@dataclass(frozen=True, kw_only=True)
class Projection:
    """w·φ(x) + <e_y, φ(x)>: what D* is where log p(y|x) is linear in φ (Miyato & Koyama 2018, equation 4).

    Args:
        n_features: size of φ.
    """

    n_features: PositiveInt

    def discriminator(self, architecture: Architecture, shape: Shape, n_classes: int) -> nn.Module:
        return _Projects(architecture.encoder(shape, self.n_features), self.n_features, n_classes)


class _Projects(nn.Module):
    def __init__(self, features: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(n_features, 1)
        self.classes = nn.Linear(n_classes, n_features, bias=False)

    def forward(self, x: Tensor, classes: Tensor) -> Verdict:
        features = F.leaky_relu(self.features(x), 0.2)
        logits = self.head(features) + (self.classes(classes) * features).sum(1, keepdim=True)
        return Verdict(logits, x.new_zeros(()))


@dataclass(frozen=True, kw_only=True)
class AuxiliaryClassifier:
    """D also reads the class of real and generated images, and both players pay for errors (Odena et al. 2017).

    Args:
        weight: of the cross-entropy beside the game; 1 in the paper.
    """

    weight: PositiveFloat

    def discriminator(self, architecture: Architecture, shape: Shape, n_classes: int) -> nn.Module:
        return _Classifies(architecture.encoder(shape, 1 + n_classes), self.weight)


class _Classifies(nn.Module):
    def __init__(self, network: nn.Module, weight: float) -> None:
        super().__init__()
        self.network, self.weight = network, weight

    def forward(self, x: Tensor, classes: Tensor) -> Verdict:
        output = self.network(x)
        return Verdict(output[:, :1], self.weight * F.cross_entropy(output[:, 1:], classes))


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """int64 [B] -> float32 [B, K]."""
    return F.one_hot(labels, n_classes).float()
