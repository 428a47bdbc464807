"""Symbols per second of `aigc_lab.decoding` against `transformers` generate(), the same weights in both.

python benchmarks/text/sampling.py [--rounds 7]

GPT-2's layout, random weights, a prompt of one symbol and 200 new ones, float32, pairs in turn, medians.
Before the clock runs, both have to write the same text greedily. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from aigc_lab.decoding import Sampling, write
from aigc_lab.huggingface import to_transformers
from aigc_lab.nets.transformer import Transformer

NEW = 200
SHAPES = {"4 layers, 4 heads, 128 wide": (4, 4, 128), "6 layers, 6 heads, 384 wide": (6, 6, 384)}


Side = Callable[[bool], Tensor]
"""Whether to draw -> the new symbols [batch, NEW]."""


def sides(layers: int, heads: int, width: int, batch: int) -> tuple[Side, Side]:
    """Ours and theirs."""
    torch.manual_seed(0)
    network = Transformer(
        shape=(256,),
        vocab_size=65,
        width=width,
        n_layers=layers,
        n_heads=heads,
        rotary=False,
        position_embedding=True,
        norm="layer",
        feed_forward="gelu",
        qk_norm=False,
        bias=True,
        tied=True,
    ).eval()
    config, tensors = to_transformers(network)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    model.load_state_dict(tensors, strict=False)
    prompt = torch.full((batch, 1), network.start)

    def ours(draw: bool) -> Tensor:
        sampling = Sampling(temperature=1.0 if draw else 0.0)
        nothing = [torch.tensor([], dtype=torch.long)] * batch
        return torch.tensor(write(network, nothing, seeds=range(batch), sampling=sampling, length=NEW))

    def theirs(draw: bool) -> Tensor:
        found = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=draw,
            top_k=0,
            min_new_tokens=NEW,
            max_new_tokens=NEW,
            eos_token_id=network.start,
            pad_token_id=network.start,
        )
        return found[:, 1:]

    return ours, theirs


def rate(side: Side, batch: int) -> float:
    began = time.perf_counter()
    side(True)
    return batch * NEW / (time.perf_counter() - began)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    results = []
    for name, shape in SHAPES.items():
        for batch in (1, 16):
            ours, theirs = sides(*shape, batch)
            assert torch.equal(ours(False), theirs(False)), "the same weights write the same text"
            pairs = [(rate(ours, batch), rate(theirs, batch)) for _ in range(arguments.rounds)]
            mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(
                f"{name}, batch {batch:2}: {mine:6.0f} against {other:5.0f} symbols/s, ratio {ratio:.2f}",
                flush=True,
            )
            results.append({"shape": name, "batch": batch, "ours": mine, "transformers": other, "ratio": ratio})
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"benchmark": "sampling", "rounds": arguments.rounds, "results": results, **machine}))
