"""What modules that learn the law of sequences of symbols share."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from aigc_lab.data.packing import IGNORED, Batch, Windows
from aigc_lab.modules.base import GenerativeModule


class Network(Protocol):
    """A network that `optimizer=muon` can train too."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def matrices(self) -> Iterator[nn.Parameter]: ...

    def compile(self) -> None: ...


class OfSymbols(Protocol):
    @property
    def network(self) -> Network: ...


class SymbolModel(GenerativeModule):
    """Minimises nats per symbol of a generator that has one network."""

    can_split: ClassVar[bool] = True

    generator: OfSymbols
    lr: float

    @abstractmethod
    def nats(self, batch: Batch) -> Tensor:
        """-log p of a batch of windows [B, L], of images [B, C, H, W], of pairs [B, 2, L] or of packed documents,
        or what is minimised in its place: the sum over all symbols."""

    def n_symbols(self, batch: Batch) -> int:
        """Those that `nats` sums over."""
        return int((batch.targets != IGNORED).sum()) if isinstance(batch, Windows) else batch.numel()

    def loss(self, batch: Batch) -> Tensor:
        """Mean nats per symbol of a batch."""
        return self.nats(batch) / self.n_symbols(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        (optimizer,) = self.each_optimizer()
        share = self._share(self.n_symbols(batch))
        pieces = batch.chunk(self.plan.micro_batches)
        loss = self.descend(optimizer, (self.nats(piece) / share for piece in pieces))
        self.report({"loss": loss})

    def _share(self, n_symbols: int) -> Tensor | int:
        """What the sum over this process's symbols is divided by, so that the mean over the processes is that of
        all symbols, however unevenly packed documents and responses are spread over them."""
        n_processes = self.trainer.world_size
        if n_processes == 1:
            return n_symbols
        count = torch.tensor(float(n_symbols), device=self.device)
        return self.trainer.strategy.reduce(count, reduce_op="sum") / n_processes

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch), batch_size=self.n_symbols(batch), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        network = self.generator.network
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in network.matrices() if parameter.requires_grad]
        return self.make_optimizer(trained, self.lr, matrices=matrices)

    def compile_networks(self) -> None:
        self.generator.network.compile()
