"""What Lightning and the lab add to a training step: `aigc train` against a bare loop on the same network.

python benchmarks/text/overhead.py [--rounds 5] [--steps 120]

nanoGPT's shape for a CPU: 4 layers, 4 heads, 128 wide, batches of 12 x 64 characters of Tiny Shakespeare, AdamW,
clipped gradients. Rounds in turn, medians over the steps of a round. Needs AIGC_DATA. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn import functional as F

from aigc_lab.config.compose import Composer
from aigc_lab.generators import behind_start
from aigc_lab.modules.language_model import LanguageModel
from aigc_lab.nets.transformer import Transformer
from aigc_lab.training import train

BATCH, CONTEXT, WARM = 12, 64, 20


def lab(text: Path, steps: int) -> list[float]:
    """Milliseconds between the beginnings of the steps of a run."""
    began: list[float] = []
    start = LanguageModel.on_train_batch_start

    def timed(self: LanguageModel, *arguments: Any) -> None:
        began.append(time.perf_counter())
        start(self, *arguments)

    with TemporaryDirectory() as folder:
        overrides = [f"data.path={text}", f"data.context={CONTEXT}", f"data.batch_size={BATCH}"]
        overrides += ["trainer.gradient_clip_val=1.0", f"trainer.max_steps={steps}", f"paths.runs_dir={folder}"]
        config = Composer().train(
            ["data=shakespeare", "model=transformer", "optimizer.weight_decay=0.1", *overrides]
        )
        LanguageModel.on_train_batch_start = timed  # type: ignore[method-assign]
        try:
            train(config, [])
        finally:
            LanguageModel.on_train_batch_start = start  # type: ignore[method-assign]
    return [1000 * (b - a) for a, b in pairwise(began)][WARM:]


def bare(text: Path, steps: int) -> list[float]:
    """The same of a loop with nothing in it but the step."""
    characters = text.read_text()
    index = {character: i for i, character in enumerate(sorted(set(characters)))}
    data = torch.tensor([index[character] for character in characters])
    network = Transformer(shape=(CONTEXT,), vocab_size=len(index), width=128, n_layers=4, n_heads=4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.1, fused=True)
    began = []
    for _ in range(steps):
        began.append(time.perf_counter())
        at = torch.randint(len(data) - CONTEXT, (BATCH, 1))
        targets = data[at + torch.arange(CONTEXT)]
        logits = network(behind_start(targets, network.start))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return [1000 * (b - a) for a, b in pairwise(began)][WARM:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120)
    arguments = parser.parse_args()
    text = Path(os.environ.get("AIGC_DATA", "../shared/data")).absolute() / "tinyshakespeare/input.txt"
    rounds = []
    for number in range(arguments.rounds):
        a, b = (statistics.median(side(text, arguments.steps)) for side in (lab, bare))
        print(f"round {number}: lab {a:.1f} ms, bare loop {b:.1f} ms a step, ratio {a / b:.3f}", flush=True)
        rounds.append((a, b))
    found = {
        "lab_ms": statistics.median(a for a, _ in rounds),
        "bare_ms": statistics.median(b for _, b in rounds),
        "ratio": statistics.median(a / b for a, b in rounds),
    }
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"benchmark": "overhead", **vars(arguments), **found, **machine}))
