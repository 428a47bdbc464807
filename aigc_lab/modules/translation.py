"""Conditional likelihood: an encoder-decoder over pairs of texts."""

from torch import Tensor

from aigc_lab.data.packing import Batch, Windows
from aigc_lab.modules.base import Plan
from aigc_lab.modules.symbols import SymbolModel
from aigc_lab.nets.encoder_decoder import EncoderDecoder
from aigc_lab.translator import Translator
from aigc_lab.types import PositiveFloat


class Translation(SymbolModel):
    """Minimises -1/L Σ log p(y_i | source, start, y_1 .. y_{i-1}) in nats per symbol of the targets, their ends
    counted (Sutskever et al. 2014; Vaswani et al. 2017).

    Args:
        network: maps a source and the beginning of a target to the logits of the target's next symbol.
        lr: learning rate at the schedule's peak.
    """

    generator: Translator

    def __init__(self, *, network: EncoderDecoder, lr: PositiveFloat, plan: Plan) -> None:
        super().__init__(plan)
        self.generator = Translator(spec=plan.spec, network=network)
        self.lr = lr

    @property
    def sampler(self) -> Translator:
        return self.generator

    def nats(self, batch: Batch) -> Tensor:
        assert not isinstance(batch, Windows)
        return -self.generator.log_p(*batch.unbind(1)).sum()

    def n_symbols(self, batch: Batch) -> int:
        assert not isinstance(batch, Windows)
        return int((batch[:, 1] >= 0).sum()) + len(batch)
