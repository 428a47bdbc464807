"""How long a user waits before the program answers: help, a typing error, and what importing torch takes.

    python benchmarks/startup.py [--rounds 5]

Each turn is a fresh process; the commands take turns, so that whatever slows the machine slows all of them.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

from aigc_lab.cli import aigc

AIGC = [sys.executable, "-m", "aigc_lab"]
COMMANDS = {
    "aigc --help": [*AIGC, "--help"],
    **{f"aigc {verb} --help": [*AIGC, verb, "--help"] for verb in aigc.commands},
    "aigc train, unknown key": [*AIGC, "train", "experiment=image/digits_gan", "model.latnt_dim=16"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import pytorch_lightning": [sys.executable, "-c", "import pytorch_lightning"],
}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for command in COMMANDS.values():  # files come from the disk once
        seconds(command)
    taken = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            taken[name].append(seconds(command))
    medians = {name: round(statistics.median(turns), 3) for name, turns in taken.items()}
    for name, median in medians.items():
        print(f"{median:7.3f} s  {name}")
    print(
        json.dumps(
            {"benchmark": "startup", "seconds": medians, "rounds": rounds, "python": platform.python_version()}
        )
    )
