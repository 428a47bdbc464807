"""From logits to symbols: sampling, greedy and beam search, each prompt on its own.

A prompt's continuation depends on the prompt, the options and its seed, not on what else is in the batch.
Shapes: B rows, V symbols.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from aigc_lab.data.stream import fold
from aigc_lab.types import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Share


class SequenceModel(Protocol):
    """What is needed of a network: `aigc_lab.nets.transformer.Transformer`, or `Pretrained`.

    It reads symbols 0 .. vocab_size-1 and `start`, at most `context` at once, and says what follows.
    """

    context: int
    vocab_size: int
    start: int

    @property
    def device(self) -> torch.device: ...

    def new_cache(self, batch: int) -> Any: ...

    def incremental(self, rows: int) -> Callable[[Tensor, Any], Tensor]:
        """What gives the logits [B, V + 1] behind one more symbol [B] in each of B = `rows` rows of a cache."""
        ...

    def __call__(self, symbols_BL: Tensor, cache: Any = None, *, documents_BL: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a symbol is drawn from logits. The steps are taken in the order of the arguments.

    Args:
        repetition_penalty: logits of symbols that stand in the text already are divided by it where positive and
            multiplied where negative (Keskar et al. 2019); 1: none. The start symbol is no part of the text:
            `transformers` counts it, and so makes ends less likely.
        temperature: divides the logits; 0 takes the most likely symbol.
        top_k: keep so many of the likeliest symbols (Fan et al. 2018).
        top_p: keep the likeliest symbols up to this sum of probabilities, the one that reaches it included
            (Holtzman et al. 2020).
        min_p: keep symbols that are at least so many times as likely as the likeliest (Nguyen et al. 2024).
    """

    repetition_penalty: PositiveFloat = 1.0
    temperature: NonNegativeFloat = 1.0
    top_k: PositiveInt | None = None
    top_p: Share | None = None
    min_p: Fraction | None = None

    def draw(self, logits_BV: Tensor, uniforms_B: Tensor, seen_BV: Tensor | None = None) -> Tensor:
        """One symbol a row, int64 [B], by inversion of the distribution function.

        Args:
            uniforms_B: in [0, 1), float64.
            seen_BV: which symbols stand in the row's text; needed with a repetition penalty.
        """
        if self.repetition_penalty != 1:
            assert seen_BV is not None
            logits_BV = penalise(logits_BV, seen_BV, self.repetition_penalty)
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        return invert(self.warp(logits_BV), uniforms_B)

    def warp(self, logits_BV: Tensor) -> Tensor:
        """Log-probabilities of what is kept, up to a constant in each row, float64."""
        logits = logits_BV.double()
        if self.temperature != 1:
            logits = (logits - logits.amax(-1, keepdim=True)) / self.temperature  # however small: 0 stays 0
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], -math.inf)
        if self.top_p is not None:
            logits = keep_nucleus(logits, self.top_p)
        if self.min_p is not None:
            least = logits.amax(-1, keepdim=True) + math.log(self.min_p) if self.min_p else -math.inf
            logits = logits.masked_fill(logits < least, -math.inf)
        return logits


def penalise(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """CTRL's repetition penalty on the symbols that were seen."""
    weakened = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(seen_BV, weakened, logits_BV)


def keep_nucleus(logits_BV: Tensor, mass: float) -> Tensor:
    """-inf for all but the fewest symbols whose probabilities sum to at least `mass`; one is always kept."""
    ordered, order = logits_BV.sort(stable=True, dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    dropped = before >= mass
    dropped[:, 0] = False
    return logits_BV.masked_fill(dropped.scatter(-1, order, dropped), -math.inf)


def invert(logits_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The symbols at which the distribution functions of softmax(logits) exceed the numbers, int64 [B]."""
    cumulative = logits_BV.softmax(-1).cumsum(-1)
    threshold = uniforms_B[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative[:, :-1].contiguous(), threshold, right=True)[:, 0]


@dataclass
class _Rows:
    """The texts that are written at once, and what the network has read of each.

    Of a text longer than the context, the network sees from `begin` on: when the context is full, the older half
    is dropped and the newer half read again. Each row's window is its own, whatever the others do.
    """

    network: SequenceModel
    texts: list[list[int]]
    begin: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.begin = [max(0, len(text) - self.network.context + 1) for text in self.texts]
        self.cache: Any = None
        self.step = self.network.incremental(len(self.texts))

    def read(self, last_B: Tensor | None) -> Tensor:
        """Logits [B, V + 1] behind each text; `last_B` are what each has gained since the last call."""
        context, device = self.network.context, self.network.device
        full = [i for i, text in enumerate(self.texts) if len(text) - self.begin[i] + 1 > context]
        for i in full:
            self.begin[i] = len(self.texts[i]) - context // 2
        if last_B is not None and not full:
            return self.step(last_B.to(device), self.cache)
        windows = [[self.network.start, *text[begin:]] for text, begin in zip(self.texts, self.begin, strict=True)]
        width = max(map(len, windows))
        symbols = torch.tensor([[self.network.start] * (width - len(w)) + w for w in windows], device=device)
        documents = torch.tensor([[0] * (width - len(w)) + [1] * len(w) for w in windows], device=device)
        self.cache = self.network.new_cache(len(self.texts))
        alone = bool(documents.all())
        return self.network(symbols, self.cache, documents_BL=None if alone else documents)[:, -1]


@torch.inference_mode()
def stream(
    network: SequenceModel,
    prompts: Sequence[Tensor],
    *,
    seeds: Sequence[int],
    sampling: Sampling,
    length: int,
    ends: Collection[int] = (),
) -> Iterator[Tensor]:
    """The symbols that follow each prompt, int64 [B] at a time, on the CPU, at most `length` times.

    Args:
        prompts: symbols [P] each, P from 0.
        seeds: of each row's random numbers.
        ends: the symbols that end a text; the start symbol is drawn where it is one of them. The caller stops a
            row there.
    """
    assert len(seeds) == len(prompts), "one seed a row"
    rows = _Rows(network, [prompt.tolist() for prompt in prompts])
    rngs = [torch.Generator().manual_seed(fold(seed)) for seed in seeds]
    uniforms = torch.stack([torch.rand(length, generator=rng, dtype=torch.float64) for rng in rngs])
    n_symbols = network.vocab_size + (network.start in ends)
    seen = None
    if sampling.repetition_penalty != 1:
        seen = torch.zeros(len(prompts), n_symbols, dtype=torch.bool)
        for row, prompt in zip(seen, prompts, strict=True):
            row[prompt] = True
    last = None
    for i in range(length):
        last = sampling.draw(rows.read(last)[:, :n_symbols].cpu(), uniforms[:, i], seen)
        for text, symbol in zip(rows.texts, last.tolist(), strict=True):
            text.append(symbol)
        if seen is not None:
            seen.scatter_(1, last[:, None], True)
        yield last


def write(
    network: SequenceModel,
    prompts: Sequence[Tensor],
    *,
    seeds: Sequence[int],
    sampling: Sampling,
    length: int,
    ends: Collection[int] = (),
    stopped: Callable[[list[int]], bool] = lambda _: False,
) -> list[list[int]]:
    """What follows each prompt: `length` symbols, or fewer where a text ends, without the symbol that ends it.

    Args:
        ends: see `stream`.
        stopped: whether what was written so far is enough; asked after every symbol.
    """
    written: list[list[int]] = [[] for _ in prompts]
    going = [True] * len(prompts)
    for symbols in stream(network, prompts, seeds=seeds, sampling=sampling, length=length, ends=ends):
        for i, symbol in enumerate(symbols.tolist()):
            if going[i] and symbol in ends:
                going[i] = False
            elif going[i]:
                written[i].append(symbol)
                going[i] = not stopped(written[i])
        if not any(going):
            break
    return written


@torch.inference_mode()
def beam_search(
    network: SequenceModel,
    prompt: Tensor,
    *,
    n_beams: int,
    length: int,
    length_penalty: float = 1.0,
    ends: Collection[int] = (),
) -> list[int]:
    """The continuation with the highest Σ log p / n^`length_penalty` that a search with `n_beams` finds.

    n ≤ `length` is its number of symbols, the end counted. It finds what `transformers` does.

    Args:
        ends: see `stream`.

    Raises:
        ValueError: the prompt and `length` do not fit into the context.
    """
    if len(prompt) + length > network.context:
        raise ValueError(
            f"a beam search sees the whole text: a prompt of {len(prompt)} and {length} symbols exceed the "
            f"context of {network.context}"
        )
    device = network.device
    begin = torch.cat([torch.tensor([network.start]), prompt]).to(device)
    cache = network.new_cache(n_beams)
    unread = begin.expand(n_beams, -1)
    texts = torch.zeros(n_beams, 0, dtype=torch.long)
    scores = torch.full((n_beams,), -math.inf)
    scores[0] = 0.0  # all beams are the same yet
    found: list[tuple[float, list[int]]] = []
    n_symbols = network.vocab_size + (network.start in ends)
    n_best = n_beams * (1 + max(1, len(ends)))  # so many that all beams can go on
    for n in range(1, length + 1):
        log_p = network(unread, cache)[:, -1, :n_symbols].log_softmax(-1).cpu()
        best = (scores[:, None] + log_p).flatten().topk(min(n_best, n_beams * n_symbols))
        beams, symbols = best.indices // n_symbols, best.indices % n_symbols
        ended = torch.isin(symbols, torch.tensor([*ends], dtype=torch.long))
        found += [
            (float(best.values[i]) / n**length_penalty, texts[beams[i]].tolist())
            for i in range(n_beams)
            if ended[i]
        ]
        found = sorted(found, key=lambda pair: -pair[0])[:n_beams]
        going = (~ended).nonzero().flatten()[:n_beams]
        beams, symbols, scores = beams[going], symbols[going], best.values[going]
        texts = torch.cat([texts[beams], symbols[:, None]], 1)
        if len(found) == n_beams and found[-1][0] >= float(scores[0]) / n**length_penalty:
            break
        cache.reorder(beams.to(device))
        unread = symbols[:, None].to(device)
    found += [(float(score) / n**length_penalty, text) for score, text in zip(scores, texts.tolist(), strict=True)]
    return max(found, key=lambda pair: pair[0])[1]
