"""Fréchet distance at 2,048 dimensions: ours, scipy's matrix square root as clean-fid uses it, and torch-fidelity.

    python benchmarks/evaluation/frechet.py [--n 10000] [--d 2048] [--rounds 3]

Ours also gives an interval; theirs do not. The singular case has fewer generated samples than dimensions.
"""

import argparse
from functools import partial

import numpy as np
import scipy.linalg
import torch
from sides import finish, require, take_turns
from torch import Tensor

from aigc_lab.evaluation.metrics import frechet_distance


def ours(real: Tensor, generated: Tensor) -> float:
    return frechet_distance(real, generated).value


def scipy_sqrtm(real: Tensor, generated: Tensor) -> float:
    """clean-fid's frechet_distance, but for the arguments that scipy no longer takes."""
    (mean, covariance), (other_mean, other_covariance) = (
        (np.mean(x.numpy(), axis=0), np.cov(x.numpy(), rowvar=False)) for x in (real, generated)
    )
    root = scipy.linalg.sqrtm(covariance @ other_covariance)
    if not np.isfinite(root).all():
        offset = np.eye(len(covariance)) * 1e-6
        root = scipy.linalg.sqrtm((covariance + offset) @ (other_covariance + offset))
    difference = mean - other_mean
    traces = np.trace(covariance) + np.trace(other_covariance) - 2 * np.trace(root.real)
    return float(difference @ difference + traces)


def torch_fidelity(real: Tensor, generated: Tensor) -> float:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(x) for x in (real, generated)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


SIDES = {"ours": ours, "scipy_sqrtm": scipy_sqrtm, "torch_fidelity": torch_fidelity}


def inputs(n: int, *, d: int, n_generated: int | None = None) -> tuple[Tensor, Tensor]:
    """Correlated positive features, as a network's last layer has them, float32; generated ones are shifted."""
    rng = torch.Generator().manual_seed(0)
    mix = torch.randn(d, d, generator=rng) / d**0.5
    scales = torch.logspace(0, -1, d)
    real, generated = (
        (torch.randn(m, d, generator=rng) * scales) @ mix + 0.1 * i
        for i, m in enumerate((n, n if n_generated is None else min(n, n_generated)))
    )
    return real.relu(), (1.1 * generated).relu()


def largest_difference(values: dict[str, float]) -> dict[str, float]:
    return {name: abs(value / values["ours"] - 1) for name, value in values.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    require("torch-fidelity")

    turns = take_turns(SIDES, partial(inputs, d=arguments.d), arguments.n, arguments.rounds)
    few = arguments.d // 4
    singular = take_turns(SIDES, partial(inputs, d=arguments.d, n_generated=few), arguments.n, 1)
    singular_values = {name: own[0].value for name, own in singular.items()}
    finish(
        "frechet",
        turns,
        ("torch-fidelity",),
        n=arguments.n,
        d=arguments.d,
        relative_difference=largest_difference({name: own[0].value for name, own in turns.items()}),
        singular={
            "n_generated": few,
            "seconds": {name: round(own[0].seconds, 3) for name, own in singular.items()},
            "value": singular_values,
            "relative_difference": largest_difference(singular_values),
        },
    )
