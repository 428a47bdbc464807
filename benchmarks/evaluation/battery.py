"""Every metric of the battery on made-up features: seconds each, and the peak memory of all.

python benchmarks/evaluation/battery.py [--n 10000] [--train 60000] [--d 64]

The defaults are MNIST's sizes under `standard@10k`. With `--n 100000 --train 100000` it shows that a hundred
thousand samples fit into 8 GB. The last line is JSON.
"""

import argparse
import json
import resource
import time

import torch

from aigc_lab.evaluation.battery import METRICS, Evidence
from aigc_lab.evaluation.metrics import FeatureLikelihood

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--d", type=int, default=64)
    arguments = parser.parse_args()

    rng = torch.Generator().manual_seed(0)
    mix = torch.randn(arguments.d // 4, arguments.d, generator=rng)

    def features(n: int) -> torch.Tensor:
        """Of low rank with noise."""
        low = torch.randn(n, arguments.d // 4, generator=rng) @ mix
        return (low + 0.3 * torch.randn(n, arguments.d, generator=rng)).double()

    train, fresh, generated = (features(n) for n in (arguments.train, arguments.n, arguments.n))
    evidence = Evidence(
        reference=train[: arguments.n],
        generated=generated,
        train=train,
        known=train,
        fresh=fresh,
        feature_likelihood=FeatureLikelihood(train, fresh, arguments.n),
        classify=None,
        asked=None,
        likelihood=None,
        reading=None,
    )
    seconds = {}
    for metric in METRICS.values():
        began = time.perf_counter()
        estimate = metric.measure(evidence)
        if estimate is not None:
            seconds[metric.name] = round(time.perf_counter() - began, 2)
            print(f"{metric.name:20} {seconds[metric.name]:8.2f} s  {estimate.value:.4g}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"total_s": round(sum(seconds.values()), 1), "peak_gb": round(peak, 2), "seconds": seconds}
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"benchmark": "battery", **vars(arguments), **found, **machine}))
