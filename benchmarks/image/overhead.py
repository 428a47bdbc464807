"""What Lightning and the lab add to a GAN's step: `aigc train` against a bare loop on the same networks.

python benchmarks/image/overhead.py [--rounds 5] [--steps 60] [--size 32] [--device cpu] [--precision 32-true]

The lab's DCGAN pair, the hinge game, batches of 64 images of MNIST resized to squares, Adam. The bare loop has its
images in memory, too, keeps no average, logs nothing and saves nothing. Rounds in turn, medians over the
steps of a round; images a second are the lab's. With --device cuda the share of the peak is of dense bfloat16
(--peak, in TFLOP/s; 989 for an H100). Needs AIGC_DATA. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ["AIGC_TRUST"] = "peer_networks"

from peer_networks import Resized  # noqa: E402 (stands beside this file)

from aigc_lab.config.compose import Composer  # noqa: E402
from aigc_lab.modules.gan import GAN  # noqa: E402
from aigc_lab.nets.dcgan import DCGAN  # noqa: E402
from aigc_lab.training import train  # noqa: E402

BATCH, LATENT, WARM = 64, 64, 10


def lab(root: Path, options: argparse.Namespace) -> list[float]:
    """Milliseconds between the beginnings of the steps of a run."""
    began: list[float] = []
    start = GAN.on_train_batch_start

    def timed(self: GAN, *arguments: Any) -> None:
        began.append(clock(options.device))
        start(self, *arguments)

    with TemporaryDirectory() as folder:
        overrides = ["data=mnist32", f"data.size={options.size}", "model=gan", "model/objective=hinge"]
        overrides += ["model/generator=dcgan", "model/discriminator=dcgan", "model/penalties=none"]
        overrides += [f"model.latent_dim={LATENT}", "optimizer.betas=[0.5,0.999]", f"paths.data_dir={root}"]
        overrides += [f"trainer.max_steps={options.steps}", f"trainer.precision={options.precision}"]
        overrides += ["trainer.accelerator=gpu"] if options.device == "cuda" else []
        config = Composer(str(HERE / "conf")).train([*overrides, f"paths.runs_dir={folder}"])
        GAN.on_train_batch_start = timed  # type: ignore[method-assign, assignment]
        try:
            train(config, [])
        finally:
            GAN.on_train_batch_start = start  # type: ignore[method-assign]
    return [1000 * (b - a) for a, b in pairwise(began)][WARM:]


def bare(root: Path, options: argparse.Namespace) -> list[float]:
    """The same of a loop with nothing in it but the two steps."""
    data = Resized(
        dataset="MNIST", root=str(root), download=False, batch_size=BATCH, levels=None, size=options.size
    )
    images = data.real("train").pixels.to(options.device)
    networks = pair(options)
    optimizers = [
        torch.optim.AdamW(n.parameters(), lr=1e-3, betas=(0.5, 0.999), weight_decay=0.0, fused=True)
        for n in networks
    ]
    began = []
    for _ in range(options.steps):
        began.append(clock(options.device))
        real = images[torch.randint(len(images), (BATCH,), device=options.device)].float() / 127.5 - 1
        step(networks, optimizers, real, options)
    return [1000 * (b - a) for a, b in pairwise(began)][WARM:]


def pair(options: argparse.Namespace) -> list[torch.nn.Module]:
    """The networks of model/generator=dcgan and model/discriminator=dcgan."""
    architecture, shape = DCGAN(width=64, max_width=256, encoder_norm=False), (1, options.size, options.size)
    networks = [architecture.decoder(LATENT, shape), architecture.encoder(shape, 1)]
    return [network.to(options.device) for network in networks]


def step(networks: list[Any], optimizers: list[Any], real: Tensor, options: argparse.Namespace) -> None:
    generator, discriminator = networks
    mixed = torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16-mixed")
    z = torch.randn(2, len(real), LATENT, device=options.device)
    with mixed:
        with torch.no_grad():
            fake = generator(z[0]).tanh()
        loss = F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake)).mean()
    optimizers[1].zero_grad()
    loss.backward()
    optimizers[1].step()
    discriminator.requires_grad_(False)
    with mixed:
        loss = -discriminator(generator(z[1]).tanh()).mean()
    optimizers[0].zero_grad()
    loss.backward()
    optimizers[0].step()
    discriminator.requires_grad_(True)


def flops(options: argparse.Namespace) -> int:
    """Of one step of both players."""
    networks = pair(options)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.0) for n in networks]
    real = torch.zeros(BATCH, 1, options.size, options.size, device=options.device)
    with FlopCounterMode(display=False) as counter:
        step(networks, optimizers, real, options)
    return counter.get_total_flops()


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--peak", type=float, default=989.0)
    options = parser.parse_args()
    root = Path(os.environ.get("AIGC_DATA", "../shared/data")).absolute()
    rounds = []
    for number in range(options.rounds):
        a, b = (statistics.median(side(root, options)) for side in (lab, bare))
        print(f"round {number}: lab {a:.2f} ms, bare loop {b:.2f} ms a step, ratio {a / b:.3f}", flush=True)
        rounds.append((a, b))
    ms = statistics.median(a for a, _ in rounds)
    found: dict[str, Any] = {
        "lab_ms": ms,
        "bare_ms": statistics.median(b for _, b in rounds),
        "ratio": statistics.median(a / b for a, b in rounds),
        "images_per_second": 1000 * BATCH / ms,
    }
    if options.device == "cuda":
        found |= {"share_of_peak": flops(options) / (ms / 1000) / (options.peak * 1e12)}
        found |= {"device": torch.cuda.get_device_name()}
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"benchmark": "image_overhead", **vars(options), **found, **machine}))
