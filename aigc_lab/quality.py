"""The one number that stands for quality across data sets and modalities. No torch: `aigc runs` reads it too."""

from collections.abc import Mapping

QUALITY = ("frechet", "precision", "recall", "density", "coverage", "nn_accuracy")
"""Distance, fidelity and diversity. Likelihood has no floor, and metrics of copying ask another question."""


def mean_gap(gaps: Mapping[str, float | None]) -> float | None:
    """Mean gap closed over `QUALITY`, in [0, 1]; `gaps` by metric."""
    found = [gap for metric in QUALITY if (gap := gaps.get(metric)) is not None]
    return sum(found) / len(found) if found else None
