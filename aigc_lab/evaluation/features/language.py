"""Texts as a language model reads them: its hidden states are the features, its likelihoods the judgement.

The judge is not the writer. A model rates its own samples well whatever they are; one that never saw how they
were made does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Samples, Texts
from aigc_lab.data.splits import content_hash
from aigc_lab.data.tokens import Bytes
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features.base import (
    Features,
    Judge,
    check_dim,
    fastest_device,
    from_disk,
    hash_of,
    train_once,
)
from aigc_lab.generators import behind_start, symbol_log_p
from aigc_lab.nets.transformer import Transformer
from aigc_lab.types import NonNegativeInt, PositiveFloat, PositiveInt

BATCH = 64
"""Passages read together."""

Read = Callable[[Sequence[bytes]], Tensor]
"""Passages -> the mean of the hidden states over each, float64 [n, width]."""


@dataclass(frozen=True, kw_only=True)
class ByteTransformer:
    """The mean last hidden state of a small Transformer over bytes, trained on the training split, on the leading
    principal components of training passages; the same Transformer judges.

    Args:
        context: bytes that it sees.
        width, n_layers, n_heads: see `nets.Transformer`.
        steps, batch_size, lr: of its training.
        dim: number of principal components.
        fit_on: training passages to compute them from, at most.
        seed: of its initialisation, its batches and the choice of these.
    """

    context: PositiveInt
    width: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    steps: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    dim: PositiveInt
    fit_on: PositiveInt
    seed: NonNegativeInt

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Train it, or read it from the cache.

        Raises:
            UserError: the training split is shorter than `context`, or its settings do not fit together.
        """
        train = _texts(dataset.real("train"))
        network = self._network()
        sizes = {key: value for key, value in asdict(self).items() if key not in ("dim", "fit_on")}
        key = content_hash(dataset.spec.content_hash, repr(sorted(sizes.items())), _VERSION)
        cached = cache_dir / "features" / f"byte-transformer-{key[:16]}.safetensors"
        train_once(network, cached, lambda: self._train(network, train))
        network.eval()

        def logits(symbols_BL: Tensor) -> Tensor:
            return network(behind_start(symbols_BL, network.start))

        @torch.inference_mode()
        def read(passages: Sequence[bytes]) -> Tensor:
            return torch.cat(
                [
                    _masked_mean(network.hidden(behind_start(symbols, network.start)), lengths)
                    for symbols, lengths in _batches([Bytes().encode(p[: self.context]) for p in passages])
                ]
            )

        def judge(passages: Sequence[bytes], given: Sequence[bytes] | None = None) -> Tensor:
            return _judged(Bytes().encode, logits, self.context, torch.device("cpu"), passages, given)

        return _features(f"byte-transformer{self.dim}", hash_of(network, repr(self)), train, read, judge, self)

    def _network(self) -> Transformer:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                return Transformer(
                    shape=(self.context,),
                    vocab_size=256,
                    width=self.width,
                    n_layers=self.n_layers,
                    n_heads=self.n_heads,
                )
            except ValueError as error:
                raise UserError(f"{error}") from None

    def _train(self, network: Transformer, train: Texts) -> None:
        text = Bytes().encode(b"".join(train.passages))
        if len(text) < self.context:
            raise UserError(f"the training split has {len(text)} bytes, fewer than context={self.context}")
        rng = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr, betas=(0.9, 0.95))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=self.steps)
        for _ in range(self.steps):
            begin = torch.randint(len(text) - self.context + 1, (self.batch_size, 1), generator=rng)
            window = text[begin + torch.arange(self.context)]
            logits = network(behind_start(window, network.start))
            optimizer.zero_grad()
            F.cross_entropy(logits.flatten(0, 1), window.flatten()).backward()
            optimizer.step()
            schedule.step()


_VERSION = "1"
"""Of the training procedure above: raise it when that changes, and cached judges are trained anew."""


@dataclass(frozen=True, kw_only=True)
class CausalLM:
    """The mean last hidden state of a causal language model of Hugging Face's kind, on the leading principal
    components of training passages; the same model judges. It may have read the very texts that are held out.

    Args:
        model: a folder, or the id of a model in the local cache.
        dim: number of principal components.
        fit_on: training passages to compute them from, at most.
        seed: of the choice of these.
        download: bring the id into the local cache first.
    """

    model: str
    dim: PositiveInt
    fit_on: PositiveInt
    seed: NonNegativeInt
    download: bool = field(default=False, repr=False)  # how it came here is no part of what it is

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Load it; nothing but the components is learned.

        Raises:
            UserError: it is not there, or has no symbol that begins a text.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer: Any = from_disk(AutoTokenizer, self.model, download=self.download)
        model = from_disk(AutoModelForCausalLM, self.model, download=self.download).to(fastest_device())
        start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        if start is None:
            raise UserError(f"{self.model} has no symbol that begins a text")
        context = getattr(model.config, "max_position_embeddings", 1024) - 1

        def encode(text: bytes) -> Tensor:
            ids = tokenizer(text.decode(errors="replace"), add_special_tokens=False)["input_ids"]
            return torch.tensor(ids, dtype=torch.long)

        def logits(symbols_BL: Tensor) -> Tensor:
            return model(behind_start(symbols_BL, start)).logits

        @torch.inference_mode()
        def read(passages: Sequence[bytes]) -> Tensor:
            means = []
            for symbols, lengths in _batches([encode(p)[:context] for p in passages]):
                entered = behind_start(symbols, start).to(model.device)
                states = model(entered, output_hidden_states=True).hidden_states[-1]
                means.append(_masked_mean(states.cpu(), lengths))
            return torch.cat(means)

        def judge(passages: Sequence[bytes], given: Sequence[bytes] | None = None) -> Tensor:
            return _judged(encode, logits, context, model.device, passages, given)

        digest = hash_of(model, content_hash(*sorted(tokenizer.get_vocab())), repr(self))
        name = f"{Path(self.model).name}-{self.dim}"
        return _features(name, digest, _texts(dataset.real("train")), read, judge, self)


def _features(
    name: str, digest: str, train: Texts, read: Read, judge: Judge, sizes: ByteTransformer | CausalLM
) -> Features:
    """`read`, on the principal components of training passages.

    Raises:
        UserError: there are fewer of them than `dim`.
    """
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(sizes.seed))[: sizes.fit_on]
    states = read(train[chosen].passages)
    check_dim(sizes.dim, *states.shape)
    mean, components = states.mean(0), torch.linalg.svd(states - states.mean(0), full_matrices=False).Vh
    basis = components[: sizes.dim].T

    def extract(samples: Samples) -> Tensor:
        return (read(_texts(samples).passages) - mean) @ basis

    return Features(name, digest, extract, judge=judge)


def _judged(
    encode: Callable[[bytes], Tensor],
    logits: Callable[[Tensor], Tensor],
    context: int,
    device: torch.device,
    passages: Sequence[bytes],
    given: Sequence[bytes] | None,
) -> Tensor:
    """See `Judge`. What is given and the passage are encoded apart, so that the same symbols are judged whatever
    is given."""
    before = [encode(text) for text in given or [b""] * len(passages)]
    sequences = [torch.cat([b, encode(p)]) for b, p in zip(before, passages, strict=True)]
    log_p = symbol_log_p(logits, sequences, context=context, device=device)
    return torch.tensor(
        [float(p[len(b) :].sum()) for p, b in zip(log_p, before, strict=True)], dtype=torch.float64
    )


def _batches(sequences: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(symbols [B, L] padded with 0, lengths [B]) of every BATCH sequences."""
    groups = [sequences[i : i + BATCH] for i in range(0, len(sequences), BATCH)]
    pad = torch.nn.utils.rnn.pad_sequence
    return [(pad(list(group), batch_first=True), torch.tensor([len(s) for s in group])) for group in groups]


def _masked_mean(states_BLD: Tensor, lengths_B: Tensor) -> Tensor:
    """Over the first `lengths` positions of each, float64 [B, D]."""
    inside = torch.arange(states_BLD.shape[1]) < lengths_B[:, None]
    return (states_BLD.double() * inside[..., None]).sum(1) / lengths_B.clamp(min=1)[:, None]


def _texts(samples: Samples) -> Texts:
    if not isinstance(samples, Texts):
        raise UserError("a language model reads texts only")
    return samples
