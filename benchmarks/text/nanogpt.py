"""nanoGPT's recipe for a CPU against text/shakespeare_char_cpu: the same network's size and data, in turn.

git clone (karpathy/nanoGPT) DIR
python benchmarks/text/nanogpt.py --peer DIR [--rounds 3]

nanoGPT trains 4 layers, 4 heads, 128 wide for 2,000 batches of 12 x 64 characters, as its README says; T is what
the command takes from its first batch on. Ours is timed twice, once for two batches, which is start-up and
compilation, and the rest is training. Then ours has as many steps as fit into T. Likelihoods of ours are of the
full validation split. Needs AIGC_DATA. The last line is JSON.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import aigc_lab
from aigc_lab.config.targets import build
from aigc_lab.run import Run

RECIPE = (
    "--device=cpu --compile=False --eval_iters=20 --log_interval=100 --block_size=64 --batch_size=12 --n_layer=4 "
    "--n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


STEPS = 250
"""Of text/shakespeare_char_cpu."""


def theirs(peer: Path, text: Path) -> dict[str, float]:
    """nanoGPT in a copy of its folder: seconds, and the validation loss that it prints last."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "nanogpt"
        shutil.copytree(peer, copy, ignore=shutil.ignore_patterns(".git"))
        shutil.copy(text, copy / "data/shakespeare_char/input.txt")  # so it downloads nothing
        run([sys.executable, "data/shakespeare_char/prepare.py"], copy)
        command = [sys.executable, "-u", "train.py", "config/train_shakespeare_char.py", *RECIPE.split()]
        seconds, output = run(command, copy, clock_from="number of parameters")
    return {"seconds": seconds, "val_loss": float(re.findall(r"val loss ([\d.]+)", output)[-1])}


def ours(root: Path, seed: int, *overrides: str) -> dict[str, float]:
    """The lab: seconds of training, seconds before it, nats per character of the full validation split."""
    with TemporaryDirectory() as folder:
        train = [sys.executable, "-m", "aigc_lab", "train", "experiment=text/shakespeare_char_cpu", f"seed={seed}"]
        train += [f"paths.data_dir={root}", *overrides]
        took = {}
        for name, more in {"before": ["trainer.max_steps=2"], "all": []}.items():
            fresh = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/cache-{name}"}  # a new machine compiles
            command = [*train, *more, f"paths.runs_dir={folder}/{name}"]
            took[name], output = run(command, Path(folder), **fresh)
        path = re.findall(r"^run: (.*)$", output, re.MULTILINE)[-1]
        model = aigc_lab.load(path)
        dataset: Any = build(Run.open(path).config().data, path="data", supplied={"cache_dir": None})
        found = model.log_likelihood(dataset.likelihood_items("held_out"), rng=torch.Generator())
        nats = -float(found.nats.sum() / found.n_bytes.sum())  # every character is a byte
    return {"seconds": took["all"] - took["before"], "before": took["before"], "val_loss": nats}


def run(command: list[str], folder: Path, *, clock_from: str = "", **environment: str) -> tuple[float, str]:
    """Seconds from the first line that holds `clock_from` to the end, and what was printed."""
    began, lines = time.perf_counter(), []
    with subprocess.Popen(
        command, cwd=folder, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if clock_from and clock_from in line:
                began, clock_from = time.perf_counter(), ""
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, "".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="of our experiment")
    arguments = parser.parse_args()
    root = Path(os.environ.get("AIGC_DATA", "../shared/data")).absolute()
    rounds = []
    for seed in range(arguments.rounds):
        peer, mine = (
            theirs(arguments.peer, root / "tinyshakespeare/input.txt"),
            ours(root, seed, *arguments.overrides),
        )
        ratio = peer["seconds"] / mine["seconds"]
        print(f"round {seed}: nanoGPT {peer}, ours {mine}, T / ours {ratio:.1f}", flush=True)
        steps = round(STEPS * ratio)
        at_t = ours(root, seed, *arguments.overrides, f"trainer.max_steps={steps}")
        while at_t["seconds"] > peer["seconds"]:  # so many do not fit into T
            steps = int(0.97 * steps * peer["seconds"] / at_t["seconds"])
            at_t = ours(root, seed, *arguments.overrides, f"trainer.max_steps={steps}")
        print(f"round {seed}: ours with {steps} steps {at_t}", flush=True)
        rounds.append({"nanogpt": peer, "ours": mine, "ratio": ratio, "at_t": at_t, "steps_at_t": steps})
    summary = {"ratio": statistics.median(r["ratio"] for r in rounds)}
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"benchmark": "nanogpt", **summary, "rounds": rounds, **machine}))
