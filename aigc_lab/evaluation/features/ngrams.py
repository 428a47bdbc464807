"""Texts as the frequencies of their byte n-grams."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Samples, Texts
from aigc_lab.data.splits import content_hash
from aigc_lab.evaluation.features.base import Features, check_dim
from aigc_lab.types import Lengths, NonNegativeInt, PositiveInt


@dataclass(frozen=True, kw_only=True)
class HashedNgrams:
    """Latent semantic analysis of byte n-grams: square roots of their frequencies, hashed into buckets, on the
    leading singular vectors of the training split.

    The square root keeps frequent n-grams from drowning the rest (distances are Hellinger's). The singular
    vectors are those along which real passages vary; random directions, measured on the controls, hardly
    told a trigram model's babble from text.

    Args:
        lengths: of the n-grams, in bytes; each has the same weight.
        buckets: of the hash.
        dim: number of singular vectors.
        fit_on: training passages to compute them from, at most.
        seed: of the choice of these and of the randomised decomposition.
    """

    lengths: Lengths
    buckets: PositiveInt
    dim: PositiveInt
    fit_on: PositiveInt
    seed: NonNegativeInt

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Compute the singular vectors (seconds; not cached).

        Raises:
            UserError: there are fewer of them than `dim`.
        """
        from sklearn.decomposition import TruncatedSVD

        train = dataset.real("train")
        assert isinstance(train, Texts)
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))[: self.fit_on]
        check_dim(self.dim, len(chosen), self.buckets)
        basis = TruncatedSVD(self.dim, random_state=self.seed).fit(self.frequencies(train[chosen].passages).sqrt())

        def extract(samples: Samples) -> Tensor:
            assert isinstance(samples, Texts)
            return torch.from_numpy(basis.transform(self.frequencies(samples.passages).sqrt()))

        name = f"{','.join(map(str, self.lengths))}-grams{self.dim}"
        return Features(name, content_hash(torch.from_numpy(basis.components_), repr(self)), extract)

    def frequencies(self, passages: list[bytes]) -> csr_array:
        """Share of each bucket in each passage, sparse [n, buckets]; rows sum to 1."""
        symbols = np.frombuffer(b"".join(passages), dtype=np.uint8).astype(np.uint64)
        row = np.repeat(np.arange(len(passages)), [len(p) for p in passages])
        total = csr_array((len(passages), self.buckets))
        code = np.zeros(len(symbols), dtype=np.uint64)
        for n in range(1, max(self.lengths) + 1):
            # code of the n bytes that begin at each place; multiplied out, then mixed (Fibonacci hashing)
            code = code[: len(symbols) - n + 1] * np.uint64(257) + symbols[n - 1 :] + np.uint64(n)
            if n in self.lengths:
                inside = row[: len(code)] == row[n - 1 :]  # not across the end of a passage
                bucket = ((code[inside] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) % np.uint64(
                    self.buckets
                )
                place = (row[: len(code)][inside], bucket.astype(np.int64))
                counts = csr_array((np.ones(len(bucket)), place), shape=total.shape)
                total += counts.multiply(1 / np.maximum(1, counts.sum(1))[:, None]).tocsr()
        return total / len(self.lengths)
