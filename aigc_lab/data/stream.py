"""The stream of training batches: a pure function of (seed, position), so any position can be resumed."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data.packing import Batch
from aigc_lab.data.samples import LabelledImages


def fold(*keys: int) -> int:
    """A 63-bit seed from a tuple of integers; neighbouring tuples give unrelated seeds (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=2)  # a batch can straddle two epochs
def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """The order of the n items in an epoch, int64 [n]: 8 bytes an item, so 0.8 GB for 10⁸ windows (of 256 symbols:
    2.6·10¹⁰), and up to two epochs are kept."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(fold(seed, epoch)))


def items(seed: int, begin: int, count: int, n: int) -> tuple[Tensor, Tensor]:
    """Positions begin .. begin+count-1 of the endless stream of shuffled epochs.

    Returns:
        (epoch, item), int64 [count] each. Every epoch visits each of the n items once; a batch may begin in
        one epoch and end in another, so no item is dropped however the batch size divides n.
    """
    end = begin + count
    epochs = range(begin // n, -(-end // n))
    parts = [(e, permutation(seed, e, n)[max(begin - e * n, 0) : end - e * n]) for e in epochs]
    return torch.cat([torch.full_like(part, e) for e, part in parts]), torch.cat([part for _, part in parts])


class TrainingStream:
    """`n_batches` batches for one process of `world_size`; Lightning's stateful-loader protocol.

    The global batch is the same whatever the number of processes: each takes its own consecutive slice.

    Args:
        gather: (epoch [b], item [b]) -> batch; how the data set looks its items up.
        n_items: items per epoch.
        batch_size: of the global batch; must divide by `world_size`.
    """

    def __init__(
        self,
        gather: Callable[[Tensor, Tensor], Batch | LabelledImages],
        *,
        n_items: int,
        batch_size: int,
        n_batches: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert batch_size % world_size == 0, "checked when the run was configured"
        self.gather, self.n_items, self.seed = gather, n_items, seed
        self.batch_size, self.n_batches = batch_size, n_batches
        self.rank, self.local_size = rank, batch_size // world_size
        self.position = 0

    def __len__(self) -> int:
        """The length of the whole run, also after a resume: Lightning counts from the beginning."""
        return self.n_batches

    def __iter__(self) -> Iterator[Batch | LabelledImages]:
        while self.position < self.n_batches:
            begin = self.position * self.batch_size + self.rank * self.local_size
            self.position += 1
            yield self.gather(*items(self.seed, begin, self.local_size, self.n_items))

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class HeldOutBatches:
    """The first `n_batches` batches of the held-out split, in order; each process takes every n-th.

    Every process gets as many, for a step is taken by all of them or hangs: the first ones come again where
    the number does not divide.
    """

    def __init__(
        self,
        gather: Callable[[Tensor], Batch | LabelledImages],
        *,
        n_items: int,
        batch_size: int,
        n_batches: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.gather = gather
        batches = torch.arange(n_items).split(batch_size)[:n_batches]
        n_each = math.ceil(len(batches) / world_size)
        self.slices = [batches[(rank + i * world_size) % len(batches)] for i in range(n_each)]

    def __len__(self) -> int:
        return len(self.slices)

    def __iter__(self) -> Iterator[Batch | LabelledImages]:
        return (self.gather(index) for index in self.slices)
