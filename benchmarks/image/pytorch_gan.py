"""Iterations per second beside eriklindernoren/PyTorch-GAN: its MLP GAN and its DCGAN on MNIST, in turn.

git clone (eriklindernoren/PyTorch-GAN) DIR
python benchmarks/image/pytorch_gan.py --peer DIR [--rounds 3] [--only gan]

The peer's scripts run as they are, their images from AIGC_DATA. Ours are runs of `aigc train` on the same networks
(`peer_networks.py`; that they are the same functions of the same weights is checked first), the same loss, batches
of 64, Adam and order of the two steps, without an average of weights: in float32, and with what pays added one at
a time. The second half of each run is timed. The last line is JSON.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from aigc_lab.nets.architecture import Architecture

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import peer_networks  # noqa: E402 (stands beside this file)

COMMON = [
    "model=gan",
    "model._target_=aigc_lab.modules.gan.SimultaneousGAN",  # the peer's order: both see the same samples
    "model/penalties=none",
    "model.latent_dim=100",
    "model.lr=2e-4",
    "model.ema_decay=0",  # the peer keeps no average
    "optimizer.betas=[0.5,0.999]",
    "callbacks.checkpoint.every_n_steps=100000",
    "callbacks.progress.every_n_seconds=1",
]
BF16 = ["trainer.precision=bf16-mixed"]
SCRIPTS: dict[str, dict[str, Any]] = {
    "gan": {
        "architectures": (peer_networks.GanMLP(), peer_networks.GanMLP()),
        "shape": (1, 28, 28),
        "batches": 900,
        "data": ["data=mnist"],
        "variants": {"float32": [], "+ bfloat16": BF16},
    },
    "dcgan": {
        "architectures": (peer_networks.GanDCGAN(folded=True), peer_networks.GanDCGAN(folded=True)),
        "shape": (1, 32, 32),
        "batches": 60,
        "data": ["data=mnist32"],
        "variants": {
            "float32": ["model.generator.folded=false"],
            "+ folded": [],
            "+ bfloat16": BF16,
        },
    },
}


def check(peer: Path, script: str, architectures: tuple[Architecture, Architecture], shape: Any) -> float:
    """Largest difference of outputs and of BatchNorm's buffers, on the peer's own weights, in training mode."""
    source = (peer / f"implementations/{script}/{script}.py").read_text().split("# Loss function")[0]
    source = source.replace('os.makedirs("images", exist_ok=True)', "")
    scope: dict[str, Any] = {"__name__": "peer"}
    argv, sys.argv = sys.argv, [script]
    exec(compile(source, script, "exec"), scope)  # the classes, which the script defines beside its training
    sys.argv = argv
    generator, discriminator = architectures
    z, images = torch.randn(64, 100), torch.randn(64, *shape).tanh()
    pairs: list[tuple[nn.Module, nn.Module, Tensor, Any]] = [
        (scope["Generator"](), generator.decoder(100, shape), z, torch.tanh),
        (scope["Discriminator"](), discriminator.encoder(shape, 1), images, torch.sigmoid),
    ]
    worst = 0.0
    for theirs, ours, x, last in pairs:
        ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
        outputs = []
        for network in (theirs, ours):
            torch.manual_seed(0)  # dropout
            outputs.append(network(x))
        worst = max(worst, float((outputs[0] - last(outputs[1])).detach().abs().max()))
        statistics = ([v for k, v in n.state_dict().items() if "running" in k] for n in (theirs, ours))
        for a, b in zip(*statistics, strict=True):
            worst = max(worst, float((a - b).abs().max()))
    return worst


def theirs(peer: Path, root: Path, script: str, batches: int) -> float:
    """Iterations per second over the second half of so many, from the lines that the script prints."""
    with TemporaryDirectory() as folder:
        home = Path(folder) / "implementations" / script
        home.mkdir(parents=True)
        (home / f"{script}.py").write_text((peer / f"implementations/{script}/{script}.py").read_text())
        (Path(folder) / "data/mnist").mkdir(parents=True)
        (Path(folder) / "data/mnist/MNIST").symlink_to(root / "MNIST")
        command = [sys.executable, "-u", f"{script}.py"]
        return second_half(command, r"\[Epoch 0/\d+\] \[Batch (\d+)/", batches, cwd=home)


def ours(root: Path, script: str, batches: int, overrides: list[str]) -> float:
    """The same of a run of ours, which says once a second where it is. It would go on for as long again: the
    checkpoint at its end is not in the time, for the peer has none."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "aigc_lab", "train", *COMMON, *overrides, f"paths.data_dir={root}"]
        command += [
            "--config-dir",
            str(HERE / "conf"),
            f"trainer.max_steps={2 * batches}",
            f"paths.runs_dir={folder}",
            "trainer.deterministic=false",
        ]
        environment = os.environ | {"AIGC_TRUST": "peer_networks", "PYTHONPATH": path()}
        return second_half(command, r"step (\d+)/", batches, env=environment)


def second_half(command: list[str], line: str, batches: int, **options: Any) -> float:
    """Iterations per second from the first line that speaks of half the batches or more to the first of all."""
    marks: list[tuple[int, float]] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    ) as process:
        assert process.stdout
        said: list[str] = []
        for now in process.stdout:
            said.append(now)
            if (found := re.match(line, now)) and int(found[1]) >= batches // 2:
                marks.append((int(found[1]), time.perf_counter()))
                if marks[-1][0] >= batches:
                    break
        process.send_signal(signal.SIGKILL)
    if not marks or marks[-1][0] < batches:
        sys.exit("".join(said))
    (first, began), (last, ended) = marks[0], marks[-1]
    return (last - first) / (ended - began)


def path() -> str:
    return os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of PyTorch-GAN")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SCRIPTS)
    arguments = parser.parse_args()
    root = Path(os.environ.get("AIGC_DATA", "../shared/data")).absolute()
    result: dict[str, Any] = {"benchmark": "pytorch_gan", "threads": torch.get_num_threads()}
    for script in [arguments.only] if arguments.only else SCRIPTS:
        about = SCRIPTS[script]
        difference = check(arguments.peer, script, about["architectures"], about["shape"])
        assert difference < 1e-4, f"{script}: another function of the same weights, {difference}"
        print(f"{script}: outputs differ by {difference:.1e} at most", flush=True)
        networks = [f"model/{player}=peer_{script}" for player in ("generator", "discriminator")]
        found: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            base = theirs(arguments.peer, root, script, about["batches"])
            found.setdefault("peer", []).append(base)
            for name, more in about["variants"].items():
                speed = ours(root, script, about["batches"], [*about["data"], *networks, *more])
                found.setdefault(name, []).append(speed)
            print({name: [round(x, 1) for x in values] for name, values in found.items()}, flush=True)
        result[script] = {
            name: {
                "per_second": statistics.median(values),
                "ratio": statistics.median(a / b for a, b in zip(values, found["peer"], strict=True)),
            }
            for name, values in found.items()
        }
    print(json.dumps(result))
