"""Masked language models: every symbol is learnt from any of the others, on both sides."""

from typing import ClassVar

import torch
from torch import Tensor

from aigc_lab.any_order import AnyOrder
from aigc_lab.data.packing import PADDING, Batch, Windows
from aigc_lab.modules.base import Plan
from aigc_lab.modules.symbols import SymbolModel
from aigc_lab.nets.transformer import Transformer
from aigc_lab.objectives.any_order import stratified
from aigc_lab.types import PositiveFloat, PositiveInt


class MaskedLanguageModel(SymbolModel):
    """Minimises a bound on nats per symbol: symbols masked at random are predicted from the others. How many is
    drawn for each window anew, where BERT (Devlin et al. 2019) masks 15 %, which bounds nothing. See
    `aigc_lab.objectives.any_order`.

    Args:
        network: maps symbols, some of them masked, to the logits of what stands in each place.
        at_once: symbols that sampling unmasks at once; the bound is that of the law which is sampled.
        lr: learning rate at the schedule's peak.
    """

    can_split: ClassVar[bool] = False  # masks are drawn for a batch as a whole
    can_answer: ClassVar[bool] = False  # the symbol that would end a response is the mask

    generator: AnyOrder

    def __init__(self, *, network: Transformer, at_once: PositiveInt, lr: PositiveFloat, plan: Plan) -> None:
        super().__init__(plan)
        self.generator = AnyOrder(spec=plan.spec, network=network, at_once=at_once)
        self.lr = lr

    @property
    def sampler(self) -> AnyOrder:
        return self.generator

    def nats(self, batch: Batch) -> Tensor:
        if isinstance(batch, Windows):
            symbols, documents = batch.symbols, batch.documents
            free = documents != PADDING
        else:
            symbols, documents = batch.flatten(1).long(), None
            free = torch.ones_like(symbols, dtype=torch.bool)
        steps = stratified(torch.rand(1, device=self.device), len(symbols))
        order = torch.rand(symbols.shape, device=self.device)
        return -self.generator.bound(symbols, documents, free, steps, order).sum()
