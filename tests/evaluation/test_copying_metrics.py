"""What sees copies: C_T and the likelihood of held-out points."""

import math

import numpy as np
import pytest
import torch
from laws import gaussian
from torch import Tensor

from aigc_lab.evaluation.metrics import data_copying, feature_likelihood_divergence


def test_data_copying_of_copies() -> None:
    """-(n m / 2 - 1/2) / √(n m (n + m + 1) / 12) at n = m = 1,000, one cell."""
    train, held_out = gaussian(1000, 4), gaussian(1000, 4, 1)
    assert data_copying(train, held_out, train, n_cells=1).value == pytest.approx(-38.7201, abs=5e-5)
    assert data_copying(train, held_out, train).value < -15


def test_data_copying_of_fresh_samples_is_a_normal_variable() -> None:
    train = gaussian(500, 4)
    found = [
        data_copying(train, gaussian(300, 4, 2 * i + 1), gaussian(300, 4, 2 * i + 2), n_cells=1)
        for i in range(150)
    ]
    values = np.array([f.value for f in found])
    assert abs(values.mean()) < 0.3
    assert values.std() == pytest.approx(1, abs=0.15)
    assert np.mean([f.low < 0 < f.high for f in found]) > 0.9
    assert found[0].standard_error == pytest.approx(1, abs=0.1)


def test_data_copying_grows_from_copies_to_noise() -> None:
    """d = 16, one cell of 500: a tenth copies -2.3, all -27, scale 1.2 +11.9 (text.md, section 6)."""
    train, held_out, fresh = (gaussian(500, 16, i) for i in range(3))
    part = torch.cat([train[:50], fresh[50:]])
    values = [data_copying(train, held_out, x, n_cells=1).value for x in (train, part, fresh, 1.2 * fresh)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(-27.4, abs=0.1)
    assert values[3] > 8


def test_data_copying_agrees_with_scipy() -> None:
    from scipy.spatial.distance import cdist
    from scipy.stats import mannwhitneyu

    train, held_out, generated = gaussian(80, 3), gaussian(60, 3, 1), gaussian(70, 3, 2)
    nearest = [cdist(x, train).min(1) for x in (generated, held_out)]
    u = mannwhitneyu(*nearest, alternative="less").statistic
    expected = (u - 60 * 70 / 2 + 0.5) / np.sqrt(60 * 70 * 131 / 12)
    assert data_copying(train, held_out, generated, n_cells=1).value == pytest.approx(expected, rel=1e-9)


def test_data_copying_without_a_cell_that_counts_has_no_value() -> None:
    train = torch.cat([gaussian(50, 2), gaussian(50, 2, 1, shift=100)])
    found = data_copying(train, gaussian(30, 2, 2), gaussian(30, 2, 3, shift=100), n_cells=2)
    assert np.isnan(found.value)


def test_feature_likelihood_divergence_orders_generators() -> None:
    """About 0 for fresh samples, above it for shifted, wider and partly copied ones, over 1,000 for copies."""
    train, held_out, fresh = (gaussian(600, 8, i) for i in range(3))
    ideal = feature_likelihood_divergence(train, held_out, fresh[:300])
    assert ideal.value == pytest.approx(0, abs=2)
    damaged = {
        "shifted": fresh[:300] + 0.7,
        "wider": 2 * fresh[:300],
        "lost half": fresh[:300].abs(),
        "two in three copied": torch.cat([train[:200], fresh[:100]]),
    }
    for name, generated in damaged.items():
        assert feature_likelihood_divergence(train, held_out, generated).low > ideal.high, name
    assert feature_likelihood_divergence(train, held_out, train).value > 1000


def test_feature_likelihood_divergence_does_not_depend_on_units() -> None:
    train, held_out, generated = (gaussian(200, 3, i, shift=0.1 * i) for i in range(3))
    scale = torch.tensor([1, 10, 0.1])
    moved = [x * scale + 5 for x in (train, held_out, generated)]
    ours, theirs = feature_likelihood_divergence(train, held_out, generated), feature_likelihood_divergence(*moved)
    assert theirs.value == pytest.approx(ours.value, rel=1e-6)


def divergence_by_adam(train: Tensor, held_out: Tensor, generated: Tensor) -> float:
    """FLD as its authors compute it: 50 steps of Adam on the log variances, and on the background's."""
    mean, scale, d = held_out.mean(0), held_out.std(0), train.shape[1]
    train, held_out, generated = ((x - mean) / scale for x in (train, held_out, generated))

    def log_p(points: Tensor, centres: Tensor, log_variances: Tensor) -> Tensor:
        squared = torch.cdist(points, centres).square() / log_variances.exp()
        return (-0.5 * (squared + d * (log_variances + math.log(2 * math.pi)))).logsumexp(1) - math.log(
            len(centres)
        )

    def unexplained(centres: Tensor, points: Tensor) -> float:
        log_variances = (torch.cdist(centres, points).square().amin(1) / d).log().requires_grad_()
        wide = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([log_variances, wide], lr=0.5)
        for _ in range(50):
            background = log_p(0.9 * (points - points.mean(0)), points.new_zeros(1, d), wide)
            loss = -torch.logaddexp(log_p(points, centres, log_variances), background).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return -float(log_p(held_out, centres, log_variances.detach()).mean())

    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    centres, others = train[order[: len(generated)]], train[order[len(generated) :]]
    return 100 / d * (unexplained(generated, train) - unexplained(centres, others))


@pytest.mark.parametrize(("scale", "shift"), [(2, 0), (1, 0.5)])
def test_feature_likelihood_divergence_agrees_with_the_authors_way(scale: float, shift: float) -> None:
    """To two units; the wide and the shifted have 33 and 7."""
    mix = gaussian(8, 32, 9)

    def features(n: int, seed: int, scale: float = 1, shift: float = 0) -> Tensor:
        return (scale * gaussian(n, 8, seed) + shift) @ mix + 0.3 * gaussian(n, 32, seed + 100)

    laws = features(600, 0), features(200, 1), features(200, 2, scale, shift)
    found = feature_likelihood_divergence(*laws).value
    assert found == pytest.approx(divergence_by_adam(*laws), abs=2) and found > 5
