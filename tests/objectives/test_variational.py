"""z ~ N(0,1), x|z ~ N(z,1), q(z|x) = prior, x = 1: golden values of gan_theory section B. And linear decoders with
Gaussian noise, whose likelihood is exact: log N(x; b, W Wᵀ + σ² I)."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from aigc_lab.objectives.variational import (
    ELBO,
    Beta,
    DoublyReparameterised,
    Draws,
    FreeBits,
    ImportanceWeighted,
    WeightSums,
    gaussian_kl,
    gaussian_kl_terms,
    gaussian_log_density,
    importance_weighted_bound,
)

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


class Linear:
    """z ~ N(0, I_2), x = W z + b + σ ε in three dimensions; W has orthogonal columns, so the posterior of z is
    N(M⁻¹ Wᵀ (x - b), σ² M⁻¹) with a diagonal M = WᵀW + σ² I, and an encoder can have it."""

    sigma = 0.5
    W = torch.tensor([[1.0, 0.5], [1.0, -0.5], [0.5, 0.0]], dtype=torch.float64)
    b = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    x = torch.tensor([[0.5, 1.0, -1.0], [0.3, -0.2, 0.1], [-2.0, 0.4, 0.0], [2.5, 2.0, 1.0]], dtype=torch.float64)

    def __init__(self) -> None:
        covariance = self.W @ self.W.T + self.sigma**2 * torch.eye(3)
        self.exact = MultivariateNormal(self.b, covariance).log_prob(self.x)
        moment = self.W.T @ self.W + self.sigma**2 * torch.eye(2)
        assert moment[0, 1] == 0
        self.mean = (self.x - self.b) @ self.W / moment.diagonal()
        self.log_variance = (self.sigma**2 / moment.diagonal()).log().expand_as(self.mean)

    def draws(self, k: int, mean: Tensor, log_variance: Tensor, *, seed: int = 0) -> Draws:
        noise = torch.randn(k, *mean.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        z = mean + noise * (log_variance / 2).exp()
        return Draws(z, mean, log_variance, Normal(z @ self.W.T + self.b, self.sigma).log_prob(self.x).sum(-1))


def test_with_the_exact_posterior_every_bound_is_the_likelihood() -> None:
    linear = Linear()
    draws = linear.draws(5, linear.mean, linear.log_variance)
    for log_weight in draws.log_weights():  # each draw by itself: the weights do not vary
        torch.testing.assert_close(log_weight, linear.exact)
    assert float(WeightSums.of(draws.log_weights()).draw_error().max()) < 1e-6
    n = 40_000
    elbo = linear.draws(n, linear.mean, linear.log_variance).elbo()
    torch.testing.assert_close(elbo, linear.exact, rtol=0, atol=5 * 2.0 / n**0.5)


def test_with_another_encoder_the_bound_is_below_and_the_gap_shrinks_with_k() -> None:
    """log p - L_1 is KL(q || posterior); with more draws the gap follows `draw_error`."""
    linear, n = Linear(), 200_000
    mean, log_variance = linear.mean + 0.2, linear.log_variance + 0.5
    weights = linear.draws(n, mean, log_variance).log_weights()
    gaps, errors = [], []
    for k in (1, 10, 100):
        bounds = importance_weighted_bound(weights.view(k, n // k, -1))
        gaps.append(linear.exact - bounds.mean(0))
        errors.append(5 * bounds.std(0) / (n / k) ** 0.5)
        of_sums = [WeightSums.of(part) for part in weights.view(k, n // k, -1).flatten(1).split(max(1, k // 3))]
        summed = sum(of_sums[1:], of_sums[0])
        torch.testing.assert_close(summed.bound(), bounds.flatten())
    posterior = Normal(linear.mean, (linear.log_variance / 2).exp())
    kl = kl_divergence(Normal(mean, (log_variance / 2).exp()), posterior).sum(-1)
    assert ((gaps[0] - kl).abs() < errors[0]).all()
    assert (gaps[0] > gaps[1]).all() and (gaps[1] > gaps[2]).all() and (gaps[2] > -errors[2]).all()
    predicted, spread = summed.draw_error().view(n // 100, -1), bounds.std(0)
    torch.testing.assert_close(predicted.square().mean(0).sqrt(), spread, rtol=0.1, atol=0)
    torch.testing.assert_close(gaps[2], spread.square() / 2, rtol=0.25, atol=float(errors[2].max()))


def test_relatives_of_the_elbo() -> None:
    linear = Linear()
    mean = linear.mean.clone().requires_grad_()
    draws = linear.draws(1, mean, linear.log_variance)
    elbo, kl = ELBO().loss(draws), gaussian_kl(mean, linear.log_variance).mean()
    torch.testing.assert_close(
        elbo, ImportanceWeighted(samples=1).loss(draws) + (elbo + draws.log_weights().mean())
    )
    torch.testing.assert_close(Beta(beta=1.0).loss(draws), elbo)
    torch.testing.assert_close(Beta(beta=4.0).loss(draws), elbo + 3 * kl)
    torch.testing.assert_close(FreeBits(nats=0.0).loss(draws), elbo)
    terms = gaussian_kl_terms(linear.mean, linear.log_variance).mean(0)
    threshold = float(terms.mean())  # one dimension pays more than it, the other less
    freed = FreeBits(nats=threshold).loss(draws)
    torch.testing.assert_close(freed, elbo + (threshold - terms).clamp(min=0).sum())
    (gradient,) = torch.autograd.grad(freed + draws.log_p_x.mean(), mean)
    assert torch.equal(gradient.abs().sum(0) > 0, terms > threshold)


def gradients(bound: ImportanceWeighted | DoublyReparameterised, shift: float, n: int) -> Tensor:
    """Of n steps, with respect to the encoder's means: [n, 4, 2]."""
    linear = Linear()
    found = []
    for seed in range(n):
        mean = (linear.mean + shift).requires_grad_()
        loss = bound.loss(linear.draws(bound.samples, mean, linear.log_variance, seed=seed))
        found.append(torch.autograd.grad(loss, mean)[0])
    return torch.stack(found)


def test_the_doubly_reparameterised_gradient_is_the_same_with_less_noise() -> None:
    n = 300
    plain, doubly = (gradients(kind(samples=8), 0.3, n) for kind in (ImportanceWeighted, DoublyReparameterised))
    error = 5 * ((plain.var(0) + doubly.var(0)) / n).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() < error).all()
    assert (doubly.var(0) < plain.var(0) / 3).all()
    assert float(gradients(DoublyReparameterised(samples=8), 0.0, 3).abs().max()) < 1e-6, "none at the posterior"
    assert float(gradients(ImportanceWeighted(samples=8), 0.0, 3).abs().max()) > 1e-2


def test_both_train_the_decoder_by_the_same_gradient() -> None:
    linear = Linear()
    found = []
    for bound in (ImportanceWeighted(samples=4), DoublyReparameterised(samples=4)):
        offset = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        draws = linear.draws(4, linear.mean + 0.3, linear.log_variance)
        log_p_x = Normal(draws.z @ linear.W.T + linear.b + offset, linear.sigma).log_prob(linear.x).sum(-1)
        loss = bound.loss(Draws(draws.z, draws.mean, draws.log_variance, log_p_x))
        found.append(torch.autograd.grad(loss, offset)[0])
    torch.testing.assert_close(*found)
