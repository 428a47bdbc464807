"""A Transformer's step from one symbol to the next for a single text on the CPU, in numpy.

A step of a small network is some sixty operations on a few hundred numbers each. numpy calls one in half the time
that torch does, and its BLAS multiplies a vector by a matrix twice as fast. What can be done once is done once, in
the weights: gains and biases of norms go into the matrices behind them, the scale of attention into the queries.
And where a norm subtracts the mean, every map into the residual stream has it subtracted already, so that what is
left of all norms is to divide by the root mean square.

Shapes: E positions seen, V symbols; H heads, K heads of keys and values, G = H / K, D channels of a head.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from aigc_lab.nets.attention import KVCache
from aigc_lab.nets.transformer import Block, Transformer

Array = np.ndarray


@dataclass(frozen=True)
class _Affine:
    """x W + b; `weight` is W."""

    weight: Array
    bias: Array | None

    def __call__(self, x: Array) -> Array:
        y = np.dot(x, self.weight)
        if self.bias is not None:
            y += self.bias
        return y

    def scaled(self, outputs: slice, factor: float) -> "_Affine":
        """The same with some outputs times a factor."""
        factors = np.ones(self.weight.shape[1], np.float32)
        factors[outputs] = factor
        return _Affine(self.weight * factors, None if self.bias is None else self.bias * factors)

    def centred(self) -> "_Affine":
        """The same with outputs of mean 0."""
        return _Affine(_centred(self.weight), None if self.bias is None else _centred(self.bias))


@dataclass(frozen=True)
class _Block:
    qkv: _Affine
    gains: Array | None  # [H + K, D], of the norms of queries and keys
    project: _Affine
    expand: _Affine
    contract: _Affine


class SingleRow:
    """The logits behind one more symbol, as `network(symbols_11, cache)` gives them.

    Args:
        network: causal, in evaluation mode, float32 on the CPU. Its weights are copied: make another one when they
            change.
    """

    def __init__(self, network: Transformer) -> None:
        assert network.causal and not network.cross and not network.training
        layout = network.layout
        self.n_heads, self.n_kv_heads = layout.n_heads, layout.n_kv_heads
        self.head_size = layout.width // layout.n_heads
        self.window = network.window
        self.activation = ACTIVATIONS[layout.activation]
        self.epsilon = network.norm.eps
        self.centre = isinstance(network.norm, nn.LayerNorm)
        self.embedding = self._stream(_array(network.embedding.weight))
        self.positions = None if network.positions is None else self._stream(_array(network.positions))
        self.rotation = None
        if network.rotation is not None:  # [2, context, 2, D / 2]: the halves that are rotated into each other
            self.rotation = _array(network.rotation).reshape(2, network.context, 2, -1)
        self.blocks = [self._block(block) for block in network.blocks if isinstance(block, Block)]
        head = network.embedding.weight if network.head is None else network.head.weight
        self.head = _behind(network.norm, _array(head), None)

    def _stream(self, vectors: Array) -> Array:
        return _centred(vectors) if self.centre else vectors

    def _block(self, block: Block) -> _Block:
        attention, feed_forward = block.attention, block.feed_forward
        qkv = _behind(block.attention_norm, *_parts(attention.qkv))
        scale, gains = 1 / math.sqrt(self.head_size), None
        if isinstance(attention.query_norm, nn.RMSNorm):
            query, key = _array(attention.query_norm.weight), _array(attention.key_norm.weight)
            gains = np.stack([query * np.float32(scale)] * self.n_heads + [key] * self.n_kv_heads)
        else:
            qkv = qkv.scaled(slice(self.n_heads * self.head_size), scale)
        project, contract = _affine(*_parts(attention.project)), _affine(*_parts(feed_forward.project))
        if self.centre:
            project, contract = project.centred(), contract.centred()
        expand = _behind(block.feed_forward_norm, *_parts(feed_forward.expand))
        return _Block(qkv, gains, project, expand, contract)

    def __call__(self, symbols_B: Tensor, cache: KVCache) -> Tensor:
        """Logits [1, V + 1] of what follows the symbol [1]; it is added to the cache."""
        assert cache.documents is None, "a single text is one document"
        place, end = cache.length, cache.length + 1
        begin = 0 if self.window is None else max(0, end - self.window)
        x = self.embedding[int(symbols_B)]
        x = x.copy() if self.positions is None else x + self.positions[place]
        every_key, every_value = cache.keys.numpy(), cache.values.numpy()
        for i, block in enumerate(self.blocks):
            keys_KED, values_KED = every_key[i, 0, :, begin:end], every_value[i, 0, :, begin:end]
            heads = block.qkv(self._normed(x)).reshape(-1, self.head_size)
            queries, keys_KED[:, -1], values_KED[:, -1] = self._split(heads, block.gains, place)
            x += block.project(_attend(queries, keys_KED, values_KED))
            x += block.contract(self.activation(block.expand(self._normed(x))))
        cache.length = end
        return torch.from_numpy(self.head(self._normed(x)))[None]

    def _normed(self, x: Array) -> Array:
        return x * np.float32(1 / math.sqrt(np.dot(x, x) / len(x) + self.epsilon))

    def _split(self, heads: Array, gains: Array | None, place: int) -> tuple[Array, Array, Array]:
        """Queries [K, G, D], keys and values [K, D] of what `qkv` gives, normalised and rotated."""
        n_looking = self.n_heads + self.n_kv_heads
        looking = heads[:n_looking]
        if gains is not None:
            mean_square = np.einsum("hd,hd->h", looking, looking)[:, None] / self.head_size
            looking = looking / np.sqrt(mean_square + self.epsilon) * gains
        if self.rotation is not None:
            cos, sin = self.rotation[:, place]
            halves = looking.reshape(n_looking, 2, -1)
            looking = (halves * cos + halves[:, ::-1] * sin).reshape(n_looking, -1)
        queries = looking[: self.n_heads].reshape(self.n_kv_heads, -1, self.head_size)
        return queries, looking[self.n_heads :], heads[n_looking:]


def _attend(queries_KGD: Array, keys_KED: Array, values_KED: Array) -> Array:
    """softmax(q kᵀ) v, the heads side by side: [H · D]."""
    weights = np.matmul(queries_KGD, keys_KED.transpose(0, 2, 1))
    weights -= np.maximum.reduce(weights, -1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= np.add.reduce(weights, -1, keepdims=True)
    return np.matmul(weights, values_KED).reshape(-1)


def _relu2(x: Array) -> Array:
    x = np.maximum(x, 0)
    return np.multiply(x, x, out=x)


def _gelu(x: Array) -> Array:
    inner = x * x
    inner *= 0.044715
    inner += 1
    inner *= x
    inner *= math.sqrt(2 / math.pi)
    np.tanh(inner, out=inner)
    inner += 1
    inner *= x
    inner *= 0.5
    return inner


def _swiglu(x: Array) -> Array:
    gate, value = np.split(x, 2)
    return gate / (1 + np.exp(-gate)) * value


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {"relu2": _relu2, "gelu": _gelu, "swiglu": _swiglu}
"""The functions of `aigc_lab.nets.transformer.ACTIVATIONS`."""


def _array(tensor: Tensor | nn.Module) -> Array:
    assert isinstance(tensor, Tensor)
    return tensor.detach().numpy()


def _parts(layer: nn.Linear) -> tuple[Array, Array | None]:
    assert type(layer) is nn.Linear, "adapters have to be merged first"
    return _array(layer.weight), None if layer.bias is None else _array(layer.bias)


def _affine(weight: Array, bias: Array | None) -> _Affine:
    """Of a matrix in torch's layout."""
    return _Affine(np.ascontiguousarray(weight.T), bias)


def _behind(norm: nn.Module, weight: Array, bias: Array | None) -> _Affine:
    """The map behind the norm, with the norm's gain and bias in it."""
    assert isinstance(norm, nn.LayerNorm | nn.RMSNorm)
    shift = getattr(norm, "bias", None)
    if shift is not None:
        shifted = weight @ _array(shift)
        bias = shifted if bias is None else bias + shifted
    return _affine(weight * _array(norm.weight), bias)


def _centred(vectors: Array) -> Array:
    """Minus their means."""
    return vectors - vectors.mean(-1, keepdims=True)
