"""z ~ N(0,1), x|z ~ N(z,1), q(z|x) = prior, x = 1: golden values of gan_theory section B."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from aigc_lab.objectives.variational import gaussian_kl, gaussian_log_density, importance_weighted_bound

N = 1_000_000


def log_weights(k: int) -> Tensor:
    z = torch.randn(k, N // k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Normal(z, torch.ones(1, dtype=torch.float64)).log_prob(torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize(("k", "bound"), [(1, -1.918938533), (2, -1.653473787), (3, -1.594066624)])
def test_importance_weighted_bounds(k: int, bound: float) -> None:
    estimate = importance_weighted_bound(log_weights(k))
    assert float(estimate.mean()) == pytest.approx(bound, abs=4 * float(estimate.std()) / (N // k) ** 0.5)


def test_many_samples_reach_the_exact_likelihood() -> None:
    assert float(importance_weighted_bound(log_weights(1000)).mean()) == pytest.approx(-1.515512123, abs=2e-3)


def test_the_gap_of_the_elbo_is_the_kl_to_the_posterior() -> None:
    """KL(N(0,1) || N(1/2, 1/2)) = 0.403426410 = log p - L_1."""
    assert (
        pytest.approx(float(kl_divergence(Normal(0.0, 1.0), Normal(0.5, 0.5**0.5))), abs=1e-6)
        == -1.515512123 + 1.918938533
    )


def test_gaussians_agree_with_torch_distributions() -> None:
    torch.manual_seed(0)
    mean, log_variance, z = torch.randn(3, 4, 5, dtype=torch.float64)
    law = Normal(mean, (log_variance / 2).exp())
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), kl_divergence(law, prior).sum(-1))
    torch.testing.assert_close(gaussian_log_density(z, mean, log_variance), law.log_prob(z).sum(-1))
