"""Precision, recall, density and coverage of 10,000 against 10,000 features of 512 dimensions: ours and prdc.

python benchmarks/evaluation/manifold.py [--n 10000] [--d 512] [--rounds 3]
"""

import argparse
from dataclasses import asdict
from functools import partial

import torch
from sides import finish, require, take_turns
from torch import Tensor

from aigc_lab.evaluation.metrics import manifold

K = 5


def ours(real: Tensor, generated: Tensor) -> dict[str, float]:
    found = asdict(manifold(real, generated, k_precision=K, k_density=K))
    return {name: found[name]["value"] for name in ("precision", "recall", "density", "coverage")}


def prdc(real: Tensor, generated: Tensor) -> dict[str, float]:
    from prdc import compute_prdc

    return {k: float(v) for k, v in compute_prdc(real.numpy(), generated.numpy(), nearest_k=K).items()}


def inputs(n: int, *, d: int) -> tuple[Tensor, Tensor]:
    """Features of low rank with noise, float32; the generated ones are wider and shifted."""
    rng = torch.Generator().manual_seed(0)
    mix = torch.randn(d // 8, d, generator=rng) / (d // 8) ** 0.5
    real, generated = (
        torch.randn(n, d // 8, generator=rng) @ mix + 0.1 * torch.randn(n, d, generator=rng) for _ in range(2)
    )
    return real, 1.05 * generated + 0.05


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    require("prdc")

    turns = take_turns({"ours": ours, "prdc": prdc}, partial(inputs, d=arguments.d), arguments.n, arguments.rounds)
    mine, theirs = (turns[name][0].value for name in ("ours", "prdc"))
    memory = sum(t.extra_mb for t in turns["ours"]) / sum(t.extra_mb for t in turns["prdc"])
    finish(
        "manifold",
        turns,
        ("prdc", "scikit-learn"),
        n=arguments.n,
        d=arguments.d,
        k=K,
        memory_share=round(memory, 3),
        largest_difference=max(abs(mine[name] - theirs[name]) for name in mine),
    )
