"""Causal language models of Hugging Face's kind behind the interface of the lab's own Transformer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aigc_lab.nets.attention import document_sight, places
from aigc_lab.nets.incremental import by_forward

SLIDING = "sliding_attention"
"""What `transformers` calls layers that see a window only."""


@dataclass
class PretrainedCache:
    """What the model has read: its own cache, how many positions, and which text each belongs to."""

    past: Any
    length: int = 0
    documents: Tensor | None = None

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on as what row `rows[i]` was."""
        self.past.reorder_cache(rows)


class Pretrained(nn.Module):
    """A model of `transformers`, its weights from a folder or the local cache. No code that comes with it is run.

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
            self.model = AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
            )
        except (OSError, ValueError, ImportError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"model.path={path}: cannot be loaded ({reason}); give a folder that holds its config.json and "
                "model.safetensors"
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
        options: dict[str, Any] = (
            {"past_key_values": cache.past, "use_cache": True} if cache else {"use_cache": False}
        )
        place = torch.arange(seen, seen + length, device=symbols_BL.device).expand_as(symbols_BL)
        if documents_BL is not None:
            if cache is not None:
                past = cache.documents
                documents_BL = documents_BL if past is None else torch.cat([past, documents_BL], 1)
                cache.documents = documents_BL
            options["attention_mask"] = self._masks(documents_BL, length)
            options["position_ids"] = place = places(documents_BL)[:, seen:]
        ids = symbols_BL.masked_fill(symbols_BL == self.start, self.end)
        ids = ids.masked_fill((symbols_BL == self.start) & (place == 0), self.begin)
        found = self.model(input_ids=ids, **options).logits
        if cache:
            cache.length += length
        end, logits = found[..., self.end : self.end + 1], found[..., : self.vocab_size]
        if self.end < self.vocab_size:  # it has a place of its own, behind the others
            logits = logits.index_fill(-1, torch.tensor([self.end], device=logits.device), -torch.inf)
        return torch.cat([logits, end], -1)

    def incremental(self, rows: int) -> Callable[[Tensor, PretrainedCache], Tensor]:
        """What continues a cache by one symbol a row."""
        return by_forward(self)

    def _masks(self, documents_BE: Tensor, length: int) -> Any:
        """What may be seen, as numbers that are added to the attention's: for all layers, or for each kind where
        some have a sliding window and others do not."""
        config = self.model.config
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or [SLIDING if window else "full_attention"])

        def mask(kind: str) -> Tensor:
            sight = document_sight(documents_BE, length, window=window if kind == SLIDING else None, causal=True)
            assert sight.mask is not None
            return torch.where(sight.mask, 0.0, torch.finfo(self.model.dtype).min).to(self.model.dtype)

        masks = {kind: mask(kind) for kind in kinds}
        return masks if len(masks) > 1 else masks.popitem()[1]

    def new_cache(self, batch: int) -> PretrainedCache:
        from transformers import DynamicCache

        return PretrainedCache(DynamicCache(config=self.model.config))

    def matrices(self) -> Iterator[nn.Parameter]:
        """Those that map hidden channels to hidden channels."""
        outer = {id(self.model.get_input_embeddings().weight), id(self.model.get_output_embeddings().weight)}
        for module in self.model.modules():
            weight = None if isinstance(module, nn.Embedding) else getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter) and weight.ndim == 2 and id(weight) not in outer:
                yield weight
