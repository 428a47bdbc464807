"""Data sets, their symbols and fixed splits, and the resumable stream of batches. Knows no model."""

from typing import Protocol

from torch import Tensor

from aigc_lab.data.packing import Batch
from aigc_lab.data.samples import Samples
from aigc_lab.data.spec import DataSpec, Split


class Dataset(Protocol):
    """What training and evaluation ask of any data set, of any modality."""

    batch_size: int
    """Items in one optimisation batch, over all processes."""

    @property
    def spec(self) -> DataSpec: ...

    @property
    def n_items(self) -> int:
        """Training items in an epoch."""
        ...

    def gather(self, epoch: Tensor, item: Tensor) -> Batch:
        """The batch of training items (epoch [b], item [b])."""
        ...

    @property
    def n_held_out_items(self) -> int: ...

    def gather_held_out(self, item: Tensor) -> Batch:
        """The batch of held-out items [b]."""
        ...

    def real(self, split: Split) -> Samples:
        """All of a split as samples, for comparison with generated ones."""
        ...

    def labels(self, split: Split) -> Tensor | None:
        """The class of each of these, int64 [n]; None where there are no classes."""
        ...

    def likelihood_items(self, split: Split) -> Samples:
        """What likelihoods are measured on: images, or whole documents."""
        ...
