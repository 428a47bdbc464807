"""Causal language models of Hugging Face's kind behind the interface of the lab's own Transformer."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aigc_lab.hub import folder_of, without_bars
from aigc_lab.nets.attention import document_sight, places
from aigc_lab.nets.incremental import by_forward

FULL, SLIDING = "full_attention", "sliding_attention"
"""What `transformers` calls layers that see everything before, and those that see a window only."""

CACHES = ("past_key_values", "cache_params")
"""What it calls the argument by which a model is given what it has read."""


@dataclass
class PretrainedCache:
    """What the model has read: its own cache (None: it has none), its symbols [B, length], and which text each
    belongs to."""

    past: Any
    ids: Tensor
    documents: Tensor | None = None

    @property
    def length(self) -> int:
        return self.ids.shape[1]

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on as what row `rows[i]` was."""
        self.ids = self.ids[rows]
        if self.past is not None:
            self.past.reorder_cache(rows)


class Pretrained(nn.Module):
    """A model of `transformers`, its weights from a folder or the local cache. No code that comes with it is run.

    Some cannot go on from a cache (RWKV), others not keep texts apart that share a row (Bloom, all that have
    states instead of attention). Which they are is tried; they read a text again at every step, and one at a time.

    The alphabet is the tokenizer's V symbols and `start`: at the beginning of a text the model's own symbol that
    begins one, and elsewhere, read or predicted, the one that ends it.

    Args:
        path: a folder, or the id of a model in the local cache.
        context: positions that are read at once.
        vocab_size: V.

    Raises:
        ValueError: it is not there, no causal language model, knows fewer positions or symbols, or does not say
            how a text begins.
    """

    def __init__(self, path: str, *, context: int, vocab_size: int) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        try:
            folder = folder_of(path)
            with without_bars():
                self.model = AutoModelForCausalLM.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                )
        except (OSError, ValueError, ImportError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"model.path={path}: cannot be loaded ({reason}); give a folder that holds its config.json and "
                "model.safetensors, or an id (model.download=true fetches it)"
            ) from None
        config = self.model.config
        known = getattr(config, "max_position_embeddings", context)
        if known < context:
            raise ValueError(f"data.context={context}: {path} knows {known} positions; choose at most as many")
        if config.vocab_size < vocab_size:
            raise ValueError(
                f"data/tokenizer has {vocab_size} symbols and {path} {config.vocab_size}; take the model's own: "
                f"data/tokenizer=hf data.tokenizer.path={path}"
            )
        begin, end = config.bos_token_id, config.eos_token_id
        end = end[0] if isinstance(end, list) else end
        if begin is None and end is None:
            raise ValueError(f"model.path={path}: has no symbol that begins or ends a text")
        self.begin, self.end = end if begin is None else begin, begin if end is None else end
        self.context, self.vocab_size, self.start = context, vocab_size, vocab_size
        arguments = inspect.signature(self.model.forward).parameters
        self._cache_name = next((name for name in CACHES if name in arguments), None)
        self._goes_on = self._parts = True  # until they are tried
        self._goes_on = self._cache_name is not None and self._agrees([self.begin, 0, 1])
        self._parts = self._agrees([self.begin, 0, 1], behind=[0, 1])

    @property
    def device(self) -> torch.device:
        return self.model.device

    def forward(
        self, symbols_BL: Tensor, cache: PretrainedCache | None = None, *, documents_BL: Tensor | None = None
    ) -> Tensor:
        """Logits [B, L, V + 1]; see `Transformer.forward`."""
        seen = cache.length if cache else 0
        length = symbols_BL.shape[1]
        assert seen + length <= self.context, f"{seen + length} positions exceed the context {self.context}"
        place = torch.arange(seen, seen + length, device=symbols_BL.device).expand_as(symbols_BL)
        if documents_BL is not None:
            if cache is not None:
                past = cache.documents
                documents_BL = documents_BL if past is None else torch.cat([past, documents_BL], 1)
                cache.documents = documents_BL
            place = places(documents_BL)[:, seen:]
        ids = symbols_BL.masked_fill(symbols_BL == self.start, self.end)
        ids = ids.masked_fill((symbols_BL == self.start) & (place == 0), self.begin)
        found = self._read(ids, cache, documents_BL)
        end, logits = found[..., self.end : self.end + 1], found[..., : self.vocab_size]
        if self.end < self.vocab_size:  # it has a place of its own, behind the others
            logits = logits.index_fill(-1, torch.tensor([self.end], device=logits.device), -torch.inf)
        return torch.cat([logits, end], -1)

    def _read(self, ids_BL: Tensor, cache: PretrainedCache | None, documents_BE: Tensor | None) -> Tensor:
        """The model's logits at its symbols, which continue those of the cache: [B, L, all its symbols]."""
        length = ids_BL.shape[1]
        if cache is not None:
            cache.ids = torch.cat([cache.ids, ids_BL], 1)
        if (cache is not None and not self._goes_on) or (documents_BE is not None and not self._parts):
            return self._read_again(ids_BL if cache is None else cache.ids, documents_BE, length)
        options: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            options[str(self._cache_name)] = cache.past
        if documents_BE is not None:
            options["attention_mask"] = self._masks(documents_BE, length, cached=cache is not None)
            options["position_ids"] = places(documents_BE)[:, -length:]
        return self.model(input_ids=ids_BL, **options).logits

    def _read_again(self, ids_BE: Tensor, documents_BE: Tensor | None, length: int) -> Tensor:
        """The logits at the last `length` of E symbols, without a cache, and each document by itself."""
        if documents_BE is None:
            return self.model(input_ids=ids_BE, use_cache=False).logits[:, -length:]
        rows = []
        for ids, documents in zip(ids_BE, documents_BE, strict=True):
            begin = int((documents == documents[-length]).int().argmax())  # what is before has no say
            sizes = documents[begin:].unique_consecutive(return_counts=True)[1].tolist()
            parts = (self.model(input_ids=part[None], use_cache=False) for part in ids[begin:].split(sizes))
            rows.append(torch.cat([part.logits[0] for part in parts])[-length:])
        return torch.stack(rows)

    def incremental(self, rows: int) -> Callable[[Tensor, PretrainedCache], Tensor]:
        """What continues a cache by one symbol a row."""
        return by_forward(self)

    def _masks(self, documents_BE: Tensor, length: int, *, cached: bool) -> Any:
        """What may be seen, as numbers that are added to the attention's: for all layers, or for each kind where
        some have a sliding window and others do not. The cache of a layer with one holds no more than it sees."""
        config = self.model.config
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or [SLIDING if window else FULL])
        if strange := kinds - {FULL, SLIDING}:
            raise ValueError(f"no masks are known for layers of the kinds {', '.join(strange)}")

        def mask(kind: str) -> Tensor:
            narrow = window if kind == SLIDING else None
            sight = document_sight(documents_BE, length, window=narrow, causal=True)
            assert sight.mask is not None
            seen = sight.mask if narrow is None or not cached else sight.mask[..., -(narrow - 1 + length) :]
            return torch.where(seen, 0.0, torch.finfo(self.model.dtype).min).to(self.model.dtype)

        masks = {kind: mask(kind) for kind in kinds}
        return masks if len(masks) > 1 else masks.popitem()[1]

    def new_cache(self, batch: int) -> PretrainedCache:
        from transformers import DynamicCache

        past = DynamicCache(config=self.model.config) if self._goes_on else None
        return PretrainedCache(past, torch.zeros(batch, 0, dtype=torch.long, device=self.device))

    @torch.no_grad()
    def _agrees(self, text: list[int], *, behind: Sequence[int] = ()) -> bool:
        """Whether the model says the same behind a text when it goes on from a cache, and the text stands behind
        another one. Who cannot does not say so: arguments are ignored, or anything is raised."""
        ids, alone = torch.tensor([[*behind, *text]]), torch.tensor([text])
        documents = torch.tensor([[0] * len(behind) + [1] * len(text)]) if behind else None
        try:
            expected = self.model(input_ids=alone, use_cache=False).logits[:, -1]
            if self._goes_on:
                cache = self.new_cache(1)
                self._read(ids[:, :-1], cache, documents if documents is None else documents[:, :-1])
                found = self._read(ids[:, -1:], cache, documents)
            else:
                found = self._read(ids, None, documents)
        except Exception:
            return False
        return torch.allclose(found[:, -1], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))

    def matrices(self) -> Iterator[nn.Parameter]:
        """Those that map hidden channels to hidden channels."""
        outer = {id(self.model.get_input_embeddings().weight), id(self.model.get_output_embeddings().weight)}
        for module in self.model.modules():
            weight = None if isinstance(module, nn.Embedding) else getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter) and weight.ndim == 2 and id(weight) not in outer:
                yield weight
