"""The Parzen window: exact where it can be, and the counter-examples that show what it is worth."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from aigc_lab.minimax import parzen


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_log_density_of_a_mixture_around_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parzen, "CHUNK", 100)  # chunks of two points, which change nothing
    samples, points = gaussian(50, 3, 0), 2 * gaussian(17, 3, 1)
    found = parzen.log_likelihood(samples, points, [0.1, 0.7])
    for row, sigma in zip(found, (0.1, 0.7), strict=True):
        kernel = Independent(Normal(samples, sigma), 1)
        torch.testing.assert_close(
            row, MixtureSameFamily(Categorical(torch.ones(50).double()), kernel).log_prob(points)
        )


def test_the_width_is_chosen_on_the_validation_set() -> None:
    samples, validation, test = gaussian(200, 2, 0), gaussian(100, 2, 1), gaussian(300, 2, 2)
    found = parzen.estimate(samples, validation, test)
    scores = [float(parzen.log_likelihood(samples, validation, [sigma]).mean()) for sigma in parzen.SIGMAS]
    assert found.sigma == parzen.SIGMAS[scores.index(max(scores))]
    log_likelihood = parzen.log_likelihood(samples, test, [found.sigma])[0]
    assert found.mean == pytest.approx(float(log_likelihood.mean()))
    assert found.standard_error == pytest.approx(float(log_likelihood.std()) / math.sqrt(300))


def test_the_widths_are_those_of_2014() -> None:
    torch.testing.assert_close(torch.tensor(parzen.SIGMAS), torch.logspace(-1, 0, 10))


def test_one_point_is_given_the_true_log_likelihood() -> None:
    """Data N(0, I): a generator collapsed to the point 0 has, at σ = 1, exactly the density of the data."""
    points = gaussian(100, 64, 1)
    truth = Independent(Normal(torch.zeros(64).double(), 1.0), 1).log_prob(points)
    torch.testing.assert_close(parzen.log_likelihood(torch.zeros(1, 64), points, [1.0])[0], truth)


@pytest.mark.parametrize(
    ("d", "true_samples", "half_scale", "one_point"),
    [(8, -11.67, -11.59, -11.51), (32, -48.82, -45.89, -45.41), (64, -99.77, -91.67, -90.78)],
)
def test_true_samples_lose_to_a_collapsed_generator(
    d: int, true_samples: float, half_scale: float, one_point: float
) -> None:
    """The reference's rows, of 300 test points each: compared by their distance from the single point's row."""
    validation, test, samples = gaussian(300, d, 1), gaussian(300, d, 2), gaussian(10_000, d, 3)
    true, half, point = (
        parzen.estimate(s, validation, test).mean for s in (samples, samples / 2, torch.zeros(1, d))
    )
    assert true < half < point
    assert true - point == pytest.approx(true_samples - one_point, abs=0.5)
    assert half - point == pytest.approx(half_scale - one_point, abs=0.5)
    assert point == pytest.approx(-d / 2 * math.log(2 * math.pi * math.e), abs=4 * math.sqrt(d / 2 / 300))


def test_k_means_ends_at_the_means_of_its_clusters_and_never_gets_worse() -> None:
    points = gaussian(200, 2, 0).float()

    def spread(rounds: int) -> tuple[Tensor, float]:
        centroids = parzen.k_means(points, 5, rounds=rounds, rng=torch.Generator().manual_seed(0))
        return centroids, float(torch.cdist(points, centroids).amin(1).square().mean())

    after = [spread(rounds)[1] for rounds in range(8)]
    assert after == sorted(after, reverse=True) and after[-1] < after[0]
    centroids, _ = spread(100)
    nearest = parzen.nearest_of(points, centroids)
    means = torch.stack([points[nearest == i].mean(0) for i in range(5)])
    torch.testing.assert_close(centroids, means)


def test_a_centroid_without_points_stays_and_too_many_are_refused() -> None:
    rng = torch.Generator().manual_seed(0)
    equal = torch.ones(4, 2)  # all go to the first of two equal centroids
    assert torch.equal(parzen.k_means(equal, 2, rounds=3, rng=rng), torch.ones(2, 2))
    with pytest.raises(ValueError, match="3 clusters of 2 points"):
        parzen.k_means(equal[:2], 3, rounds=1, rng=rng)


def test_centroids_beat_real_data_on_the_estimate() -> None:
    """Theis et al. 2016: means of the training data are better "samples" than the data."""
    rng = torch.Generator().manual_seed(0)
    train, validation, test = (torch.randn(n, 16, generator=rng) for n in (2000, 200, 500))
    real = parzen.estimate(train[:200], validation, test)
    centroids = parzen.estimate(parzen.k_means(train, 200, rounds=10, rng=rng), validation, test)
    assert centroids.mean > real.mean + 3 * real.standard_error


@pytest.mark.parametrize(
    ("n", "sigmas", "message"),
    [
        ((0, 3, 3), [1.0], "samples: at least 1, not 0"),
        ((3, 3, 3), [], "sigmas: at least 1, not 0"),
        ((3, 0, 3), [1.0], "validation: at least 1, not 0"),
        ((3, 3, 1), [1.0], "test: at least 2, not 1"),
    ],
)
def test_an_estimate_from_too_little_is_refused(
    n: tuple[int, int, int], sigmas: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parzen.estimate(*(torch.zeros(k, 2) for k in n), sigmas=sigmas)


@pytest.mark.parametrize(
    ("samples", "sigmas", "message"),
    [
        (torch.zeros(3, 2), [0.0], "sigmas: must be positive"),
        (torch.full((3, 2), math.nan), [1.0], "samples: a point is NaN"),
        (torch.zeros(3, 5), [1.0], r"validation: points \[n, 5\], not \[3, 2\]"),
    ],
)
def test_an_estimate_of_what_are_no_points_is_refused(samples: Tensor, sigmas: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parzen.estimate(samples, torch.zeros(3, 2), torch.zeros(3, 2), sigmas=sigmas)


def test_the_protocol_of_2014_needs_images_to_choose_the_width_on() -> None:
    with pytest.raises(ValueError, match="after the first 50,000"):
        parzen.protocol_2014(torch.zeros(5, 4), torch.zeros(100, 4), torch.zeros(5, 4))
