"""What every metric of features, or of class probabilities, asks of them."""

import torch
from torch import Tensor


def checked(least: int = 1, **features: Tensor) -> list[Tensor]:
    """The sets of features, named for messages, in their order, in floating point.

    Raises:
        ValueError: one is no matrix of real numbers, has fewer than `least` items, holds NaN or infinite values,
            or has another number of features than the first.
    """
    found: list[Tensor] = []
    for name, points in features.items():
        if not isinstance(points, Tensor) or points.is_complex():
            raise ValueError(f"{name}: should be a tensor of real features [n, d], not {type(points).__name__}")
        if points.ndim != 2:
            raise ValueError(f"{name}: should be features [n, d], but its shape is {tuple(points.shape)}")
        n, d = points.shape
        if n < least or not d:
            raise ValueError(f"{name}: {n} items of {d} features; at least {least} items are needed")
        if found and d != found[0].shape[1]:
            first = next(iter(features))
            raise ValueError(f"{name}: {d} features an item, but {first} has {found[0].shape[1]}")
        if not points.isfinite().all():
            bad = int((~points.isfinite()).any(1).sum())
            raise ValueError(f"{name}: {bad} of {n} items hold NaN or infinite values")
        found.append(points if points.dtype in (torch.float32, torch.float64) else points.double())
    return found


def checked_probabilities(probabilities: Tensor) -> Tensor:
    """Float64 [n, K].

    Raises:
        ValueError: they are none: logits, say.
    """
    (p,) = checked(probabilities=probabilities)
    p = p.double()
    if p.min() < 0 or not torch.allclose(p.sum(1), p.new_ones(len(p)), atol=1e-3):
        raise ValueError(
            "probabilities: rows should be class probabilities that sum to 1; take the softmax of logits first"
        )
    return p
