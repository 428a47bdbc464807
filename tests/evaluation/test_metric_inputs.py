"""What metrics of features do with sets that nobody hopes for: collapsed, damaged, tiny, of another kind."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_lab.evaluation import metrics
from aigc_lab.evaluation.metrics import Estimate

METRICS: dict[str, Callable[..., Any]] = {
    name: getattr(metrics, name)
    for name in (
        "authenticity",
        "classifier_test",
        "cmmd",
        "data_copying",
        "density_coverage",
        "feature_likelihood_divergence",
        "frechet_at_infinity",
        "frechet_distance",
        "kernel_distance",
        "mauve",
        "mmd",
        "nearest_neighbours",
        "precision_recall",
        "sliced_wasserstein",
        "two_sample_accuracy",
        "vendi_ratio",
        "vendi_score",
    )
}


def normal(n: int = 60, d: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def fresh(name: str) -> list[Tensor]:
    """As many sets as the metric takes."""
    wanted = [p for p in inspect.signature(METRICS[name]).parameters.values() if p.default is p.empty]
    return [normal(seed=seed) for seed in range(len(wanted))]


def estimates(found: Any) -> list[Estimate]:
    parts = [found] if isinstance(found, Estimate) else list(vars(found).values())
    return [part for part in parts if isinstance(part, Estimate)]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: torch.where(torch.arange(60)[:, None] == 7, math.nan, x), "1 of 60 items hold NaN or infinite"),
        (lambda x: x[:0], "0 items of 4 features; at least"),
        (lambda x: x[:, 0], r"should be features \[n, d\], but its shape is \(60,\)"),
        (lambda x: x.numpy(), "should be a tensor of real features .*, not ndarray"),
        (lambda x: x[:, :3], "3 features an item, but .* has 4"),
    ],
)
def test_what_is_no_set_of_features_is_answered_in_one_line(
    name: str, spoil: Callable[[Tensor], Any], message: str
) -> None:
    *others, last = fresh(name)
    if not others and "has 4" in message:
        return  # one set agrees with itself
    with pytest.raises(ValueError, match=message) as caught:
        METRICS[name](*others, spoil(last))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("kind", ["collapsed", "alike", "integers", "half precision"])
def test_any_set_of_numbers_has_a_value_inside_its_interval(name: str, kind: str) -> None:
    """A generator that collapsed is the commonest of failures: it must be scored, not crash the scoring."""
    *others, last = fresh(name)
    sets = {
        "collapsed": [*others, torch.ones_like(last)],
        "alike": [torch.ones_like(x) for x in (*others, last)],
        "integers": [(10 * x).long() for x in (*others, last)],
        "half precision": [x.half() for x in (*others, last)],
    }[kind]
    for estimate in estimates(METRICS[name](*sets)) if name != "nearest_neighbours" else []:
        assert math.isfinite(estimate.value) and estimate.low <= estimate.value <= estimate.high


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (normal(), None, "class probabilities that sum to 1; take the softmax of logits first"),
        (torch.ones(60, 4), None, "class probabilities that sum to 1"),
        (torch.full((60, 4), math.nan), None, "60 of 60 items hold NaN"),
        (torch.ones(60), None, r"its shape is \(60,\)"),
        (normal().softmax(1), torch.zeros(59), r"labels: should be 60 whole numbers, one a sample, not .*\(59,\)"),
        (normal().softmax(1), torch.zeros(60, 1), "labels: should be 60 whole numbers"),
    ],
)
def test_what_are_no_classes_is_answered_in_one_line(
    probabilities: Tensor, labels: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.conditional_accuracy(probabilities, torch.zeros(60).long() if labels is None else labels)
    if labels is None:
        with pytest.raises(ValueError, match=message):
            metrics.classifier_score(probabilities)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_shares_and_areas_stay_in_their_range(factor: float) -> None:
    """A normal interval would leave it near the ends."""
    real, generated, train = normal(200), factor * normal(200, seed=1), normal(200, seed=2)
    found = [
        *estimates(metrics.precision_recall(real, generated)),
        *estimates(metrics.mauve(real, generated)),
        *estimates(metrics.classifier_test(real, generated)),
        metrics.density_coverage(real, generated).coverage,
        metrics.authenticity(train, generated),
        metrics.authenticity(train, train),
        metrics.two_sample_accuracy(real, generated),
    ]
    for estimate in found:
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high, "no share of a sample is known exactly"


def test_frechet_of_points_that_are_all_the_same() -> None:
    ones = torch.ones(50, 3)
    assert float(metrics.frechet_distance(ones, ones + 1)) == pytest.approx(3)
    spread = normal(200, 3)
    expected = float((spread.mean(0) - 1).square().sum() + spread.var(0).sum())
    assert float(metrics.frechet_distance(spread, ones)) == pytest.approx(expected, rel=1e-6)
    assert float(metrics.frechet_distance(ones, spread)) == pytest.approx(expected, rel=1e-6)
