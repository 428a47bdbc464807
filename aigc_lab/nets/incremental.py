"""A Transformer's step from one symbol to the next, laid out for few rows.

At one position a row the arithmetic takes less time than the modules and views around it do, and in a larger
network than the reading of its weights does. So this is the same function with the weights gathered once,
in the order that they are read in, and as few operations as there can be.

Shapes: B rows, E positions seen, V symbols; H heads, K heads of keys and values, D channels of a head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab.nets.attention import KVCache, rotate
from aigc_lab.nets.transformer import ACTIVATIONS, Block, Transformer


@dataclass(frozen=True)
class _Linear:
    """x W + b, with W stored in rows of its longer side: so it is read twice as fast for a single x."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, layer: nn.Linear) -> "_Linear":
        assert type(layer) is nn.Linear, "adapters have to be merged first"
        weight = layer.weight.t()
        return cls(weight.contiguous() if layer.out_features >= layer.in_features else weight, layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual + x W + b."""
        found = torch.addmm(residual, x, self.weight)
        return found if self.bias is None else found.add_(self.bias)


@dataclass(frozen=True)
class _Block:
    """One block's weights."""

    attention_norm: Callable[[Tensor], Tensor]
    query_norm: Callable[[Tensor], Tensor] | None
    key_norm: Callable[[Tensor], Tensor] | None
    qkv: _Linear
    project: _Linear
    feed_forward_norm: Callable[[Tensor], Tensor]
    expand: _Linear
    contract: _Linear

    @classmethod
    def of(cls, block: Block) -> "_Block":
        attention, feed_forward = block.attention, block.feed_forward
        normed = not isinstance(attention.query_norm, nn.Identity)
        return cls(
            _norm(block.attention_norm),
            _norm(attention.query_norm) if normed else None,
            _norm(attention.key_norm) if normed else None,
            _Linear.of(attention.qkv),
            _Linear.of(attention.project),
            _norm(block.feed_forward_norm),
            _Linear.of(feed_forward.expand),
            _Linear.of(feed_forward.project),
        )


class Incremental:
    """The logits behind one more symbol in each row, as `network(symbols_B1, cache)` gives them.

    Args:
        network: causal, in evaluation mode. Its weights are copied: make another one when they change.
    """

    def __init__(self, network: Transformer) -> None:
        assert network.causal and not network.cross and not network.training
        layout = network.layout
        self.embedding, self.positions, self.rotation = (
            network.embedding.weight,
            network.positions,
            network.rotation,
        )
        self.window = network.window
        self.heads = [layout.n_heads, layout.n_kv_heads, layout.n_kv_heads]
        self.n_heads = sum(self.heads)
        self.grouped = layout.n_kv_heads < layout.n_heads
        self.activation = ACTIVATIONS[layout.activation][0]
        self.blocks = [_Block.of(block) for block in network.blocks if isinstance(block, Block)]
        self.norm = _norm(network.norm)
        head = self.embedding if network.head is None else network.head.weight
        self.head = head.t().contiguous()

    def __call__(self, symbols_B: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, V + 1] of what follows the symbols; these are added to the cache."""
        end, B = cache.length + 1, len(symbols_B)
        begin = 0 if self.window is None else max(0, end - self.window)
        where, mask = self._sight(cache, begin)
        x = self.embedding[symbols_B]
        if self.positions is not None:
            x = x + self.positions[where]
        rotation = None
        if self.rotation is not None:
            rotation = self.rotation[:, where]  # [2, D], or [2, B, D]
            rotation = rotation[:, None] if mask is None else rotation[:, :, None, None]
        # of every layer at once: the place of the new keys and values, and all that are seen then
        new_keys, new_values = (kept.narrow(3, end - 1, 1).unbind() for kept in (cache.keys, cache.values))
        keys, values = (kept.narrow(3, begin, end - begin).unbind() for kept in (cache.keys, cache.values))
        for i, block in enumerate(self.blocks):
            heads = block.qkv(block.attention_norm(x)).view(B, self.n_heads, 1, -1)
            q, k, v = heads.split_with_sizes(self.heads, 1)
            if block.query_norm is not None and block.key_norm is not None:
                q, k = block.query_norm(q), block.key_norm(k)
            if rotation is not None:
                q, k = rotate(q, rotation), rotate(k, rotation)
            new_keys[i].copy_(k)
            new_values[i].copy_(v)
            y = F.scaled_dot_product_attention(q, keys[i], values[i], attn_mask=mask, enable_gqa=self.grouped)
            x = block.project.onto(x, y.view(B, -1))
            hidden = self.activation(block.expand(block.feed_forward_norm(x)))
            x = block.contract.onto(x, hidden)
        cache.length = end
        return torch.mm(self.norm(x), self.head)

    def _sight(self, cache: KVCache, begin: int) -> tuple[int | Tensor, Tensor | None]:
        """Where the new symbols stand in their texts, and which positions from `begin` on they see; None: all.

        They go on with the last document of their row.
        """
        if cache.documents is None:
            return cache.length, None
        documents = cache.documents = torch.cat([cache.documents, cache.documents[:, -1:]], 1)
        same = documents == documents[:, -1:]
        return same.sum(1) - 1, same[:, None, None, begin:]


def by_forward(network: Callable[..., Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """The same for any network that reads a cache."""

    def step(symbols_B: Tensor, cache: Any) -> Tensor:
        documents = None if cache.documents is None else cache.documents[:, -1:]
        return network(symbols_B[:, None], cache, documents_BL=documents)[:, -1]

    return step


def _norm(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The function of a norm, without the module around it."""
    if isinstance(module, nn.LayerNorm):
        shape, weight, bias, eps = list(module.normalized_shape), module.weight, module.bias, module.eps
        return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
    assert isinstance(module, nn.RMSNorm)
    shape, weight, epsilon = list(module.normalized_shape), module.weight, module.eps
    return lambda x: torch.rms_norm(x, shape, weight, epsilon)
