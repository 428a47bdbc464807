"""Causal likelihood: a Transformer over the symbols of a text, or over the pixels of an image."""

from collections.abc import Mapping
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from aigc_lab.data.packing import IGNORED, Batch, Windows, inputs
from aigc_lab.generators import Autoregressive, PretrainedText, behind_start
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.modules.parallelize import shard_blocks
from aigc_lab.nets.adapters import LoRA, merged
from aigc_lab.nets.transformer import Transformer
from aigc_lab.types import PositiveFloat


class LanguageModel(GenerativeModule):
    """Minimises -1/L Σ log p(x_i | start, x_1 .. x_{i-1}) in nats per symbol.

    Images [B, C, H, W] are read as sequences of C·H·W pixel values in raster order, so the same module
    gives images an exact likelihood.

    Args:
        network: maps symbols to the logits of the next one.
        lr: learning rate at the schedule's peak.
    """

    can_shard: ClassVar[bool] = True
    can_split: ClassVar[bool] = True

    generator: Autoregressive

    def __init__(self, *, network: Transformer, lr: PositiveFloat, plan: Plan) -> None:
        super().__init__(plan)
        self.generator = Autoregressive(spec=plan.spec, network=network)
        self.lr = lr

    @property
    def sampler(self) -> Autoregressive:
        return self.generator

    def loss(self, batch: Batch) -> Tensor:
        """Mean nats per symbol of a batch of windows [B, L], of images [B, C, H, W] or of packed documents."""
        return self._nats(batch) / _n_symbols(batch)

    def _nats(self, batch: Batch) -> Tensor:
        """The sum over all symbols."""
        network = self.generator.network  # its whole alphabet: it also learns that nothing ends here
        if isinstance(batch, Windows):
            logits, targets = network(inputs(batch, network.start), documents_BL=batch.documents), batch.targets
        else:
            targets = batch.flatten(1).long()
            logits = network(behind_start(targets, network.start))
        return F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        (optimizer,) = self.each_optimizer()
        n_symbols = _n_symbols(batch)
        pieces = batch.chunk(self.plan.micro_batches)
        loss = self.descend(optimizer, (self._nats(piece) / n_symbols for piece in pieces))
        self.report({"loss": loss})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch), batch_size=_n_symbols(batch), sync_dist=True)

    def configure_model(self) -> None:
        """Called by Lightning before training; splits the network where the strategy has a device mesh."""
        if self.device_mesh is not None:
            assert isinstance(self.generator.network, Transformer), "others cannot be sharded"
            shard_blocks(self.generator.network, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        network = self.generator.network
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in network.matrices() if parameter.requires_grad]
        return self.make_optimizer(trained, self.lr, matrices=matrices)

    def compile_networks(self) -> None:
        self.generator.network.compile()


class FineTuning(LanguageModel):
    """A language model that begins with the weights of one of Hugging Face's kind.

    Args:
        path: a folder, or the id of a model in the local cache.
        lr: learning rate at the schedule's peak.
        adapters: train these, and leave the weights as they are; None: train all weights.
    """

    can_shard: ClassVar[bool] = False

    def __init__(self, *, path: str, lr: PositiveFloat, plan: Plan, adapters: LoRA | None = None) -> None:
        GenerativeModule.__init__(self, plan)
        self._adopt(PretrainedText(spec=plan.spec, path=path), lr, adapters)

    def _adopt(self, generator: Autoregressive, lr: float, adapters: LoRA | None) -> None:
        self.generator, self.lr, self.adapters = generator, lr, adapters
        if adapters is not None:
            adapters.insert(generator.network)

    def sampling_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With the adapters merged into the weights: whoever opens the run needs neither them nor peft."""
        own = super().sampling_state(state)
        if self.adapters is None:
            return own
        generator = deepcopy(self.generator)
        generator.load_state_dict(own)
        return merged(generator).state_dict()


def _n_symbols(batch: Batch) -> int:
    return int((batch.targets != IGNORED).sum()) if isinstance(batch, Windows) else batch.numel()
