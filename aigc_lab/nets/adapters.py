"""Low-rank adapters: a network stays as it is and learns small corrections of its matrices."""

import warnings
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

from torch import nn

from aigc_lab.nets.pretrained import Pretrained
from aigc_lab.nets.transformer import Transformer
from aigc_lab.types import Fraction, PositiveFloat, PositiveInt

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """W + alpha / rank · B A in place of a matrix W, of which only A and B are trained (Hu et al. 2022); B begins
    at 0. By the library `peft`.

    Args:
        rank: of B A.
        alpha: the corrections are multiplied with alpha / rank.
        dropout: rate on what A reads.
        targets: the ends of the names of the layers that are corrected; None: all that map hidden channels to
            hidden channels.

    Raises:
        ValueError: peft is not installed.
    """

    rank: PositiveInt
    alpha: PositiveFloat
    dropout: Fraction
    targets: list[str] | None

    def __post_init__(self) -> None:
        if find_spec("peft") is None:
            raise ValueError("adapters are made by the package peft: pip install 'aigc_lab[lora]'")

    def insert(self, network: Transformer | Pretrained) -> None:
        """Add the corrections, in place; nothing else of the network is trained from now on.

        Raises:
            ValueError: a target is no layer of the network.
        """
        from peft import LoraConfig, inject_adapter_in_model

        layers = _layers(network)
        for target in self.targets or []:
            if not any(f".{name}".endswith(f".{target}") for name in layers):
                known = sorted({name.rpartition(".")[2] for name in layers})
                raise ValueError(f"adapters.targets: no layer is called {target}; there are: {', '.join(known)}")
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=self.targets or layers
        )
        with warnings.catch_warnings():  # it sees by itself which layers keep their matrices transposed (GPT-2's)
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
            inject_adapter_in_model(config, network)


def _layers(network: Transformer | Pretrained) -> list[str]:
    """The layers whose weight maps hidden channels to hidden channels, by name."""
    matrices = {id(matrix) for matrix in network.matrices()}
    return [name for name, module in network.named_modules() if id(getattr(module, "weight", None)) in matrices]


def merged(network: AnyNetwork) -> AnyNetwork:
    """A copy in which the corrections are part of the matrices: a network as it was before `insert`."""
    from peft.tuners.lora import LoraLayer

    network = deepcopy(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, module.get_base_layer())
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network
