"""Causal likelihood: a Transformer over the symbols of a text, or over the pixels of an image."""

from collections.abc import Mapping
from copy import deepcopy
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from aigc_lab.data.packing import IGNORED, Batch, Windows, inputs
from aigc_lab.data.tokenizing import of_model
from aigc_lab.generators import Autoregressive, PretrainedText, behind_start
from aigc_lab.hub import WEIGHTS, folder_of
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.modules.parallelize import shard_blocks
from aigc_lab.modules.symbols import SymbolModel
from aigc_lab.nets.adapters import LoRA, merged
from aigc_lab.nets.transformer import Transformer
from aigc_lab.types import PositiveFloat


class LanguageModel(SymbolModel):
    """Minimises -1/L Σ log p(x_i | start, x_1 .. x_{i-1}) in nats per symbol.

    Images [B, C, H, W] are read as sequences of C·H·W pixel values in raster order, so the same module
    gives images an exact likelihood.

    Args:
        network: maps symbols to the logits of the next one.
        lr: learning rate at the schedule's peak.
    """

    can_shard: ClassVar[bool] = True

    generator: Autoregressive

    def __init__(self, *, network: Transformer, lr: PositiveFloat, plan: Plan) -> None:
        super().__init__(plan)
        self.generator = Autoregressive(spec=plan.spec, network=network)
        self.lr = lr

    @property
    def sampler(self) -> Autoregressive:
        return self.generator

    def nats(self, batch: Batch) -> Tensor:
        network = self.generator.network  # its whole alphabet: it also learns that nothing ends here
        if isinstance(batch, Windows):
            logits, targets = network(inputs(batch, network.start), documents_BL=batch.documents), batch.targets
        else:
            targets = batch.flatten(1).long()
            logits = network(behind_start(targets, network.start))
        return F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def configure_model(self) -> None:
        """Called by Lightning before training; splits the network where the strategy has a device mesh."""
        if self.device_mesh is not None:
            assert isinstance(self.generator.network, Transformer), "others cannot be sharded"
            shard_blocks(self.generator.network, self.device_mesh["data_parallel"])


class FineTuning(LanguageModel):
    """A language model that begins with the weights of one of Hugging Face's kind.

    Args:
        path: a folder, or the id of a model in the local cache.
        lr: learning rate at the schedule's peak.
        adapters: train these, and leave the weights as they are; None: train all weights.
        download: fetch the id from the hub first. Who opens the run finds it in the cache, or does not.

    Raises:
        ValueError: it is not there, does not fit the data, or has learnt other symbols than theirs.
    """

    can_shard: ClassVar[bool] = False

    def __init__(
        self,
        *,
        path: str,
        lr: PositiveFloat,
        plan: Plan,
        adapters: LoRA | None = None,
        download: bool = False,  # what runs were before they could choose
    ) -> None:
        GenerativeModule.__init__(self, plan)
        if download:
            try:
                folder_of(path, fetch=WEIGHTS)
            except FileNotFoundError as error:
                raise ValueError(f"model.path={path}: {error}") from None
        generator = PretrainedText(spec=plan.spec, path=path)
        own = of_model(path)
        given = plan.spec.tokenizer
        if own is not None and given is not None and list(own.pieces) != list(given.pieces):
            raise ValueError(
                f"data/tokenizer: {path} has learnt other symbols; take its own: data/tokenizer=hf "
                f"data.tokenizer.path={path}"
            )
        self._adopt(generator, lr, adapters)

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
