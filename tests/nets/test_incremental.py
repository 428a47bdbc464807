"""The quick step is the network's own, whatever the options."""

from typing import Any

import pytest
import torch

from aigc_lab.nets.transformer import Transformer

OPTIONS: dict[str, dict[str, Any]] = {
    "the lab's": {},
    "gpt2": {
        "norm": "layer",
        "feed_forward": "gelu",
        "qk_norm": False,
        "rotary": False,
        "position_embedding": True,
        "bias": True,
        "tied": True,
    },
    "llama": {"feed_forward": "swiglu", "qk_norm": False, "n_kv_heads": 2},
    "norms with biases": {"norm": "layer", "bias": True, "qk_norm": True},
    "window": {"window": 5, "n_kv_heads": 1, "position_embedding": True},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(
    ("rows", "padding"),
    [(1, None), (3, None), (3, [0, 4, 1])],
    ids=["a single row", "whole rows", "prompts of several lengths"],
)
@torch.inference_mode()
def test_an_incremental_step_is_a_step_of_the_network(name: str, rows: int, padding: list[int] | None) -> None:
    torch.manual_seed(0)
    network = Transformer(shape=(24,), vocab_size=11, width=16, n_layers=2, n_heads=4, **OPTIONS[name]).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    symbols, documents = torch.randint(12, (rows, 20)), None
    if padding is not None:
        documents = (torch.arange(20) >= torch.tensor(padding)[:, None]).long()
    ours, theirs, step = network.new_cache(rows), network.new_cache(rows), network.incremental(rows)
    for cache in (ours, theirs):
        network(symbols[:, :6], cache, documents_BL=None if documents is None else documents[:, :6])
    for i in range(6, 20):
        last = None if documents is None else documents[:, i : i + 1]
        expected = network(symbols[:, i : i + 1], theirs, documents_BL=last)[:, -1]
        torch.testing.assert_close(step(symbols[:, i], ours), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-4)
