"""Likelihood of held-out features under a mixture that the generated samples make."""

import math
from functools import cached_property

import torch
from torch import Tensor

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked
from aigc_lab.evaluation.metrics.distances import neighbours, rough_squared_rows, squared_rows

MAX_STEPS = 50
CONVERGED = 5e-4
"""Nats per dimension."""
LOG_VARIANCE_LIMIT = 40.0
NOTHING = 80.0
"""Components that are less likely than the likeliest by so many nats take no part in a point."""
SOME_OF_OTHERS = 10_000
BACKGROUND_SHRINK = 0.81


def feature_likelihood_divergence(
    train: Tensor, held_out: Tensor, generated: Tensor, *, seed: int = 0
) -> Estimate:
    """FLD (Jiralerspong et al. 2023, section 3): 100 x the nats per dimension by which a mixture of Gaussians, one
    at each generated point with its own variance fitted to the training set, explains held-out points worse
    than one made of training points and fitted to the others. Features [n, d], standardised by the held-out set's
    moments.

    About 0 for identical laws, lower is better; copies of the training set collapse their variances and score far
    above 1,000; noise scores high, lost modes too. It leans on the extractor. The interval is over the held-out
    points.

    The mixture of training points has as many as were generated, at most half of them; the authors take half
    whatever was generated, and their value falls with the number of generated points.
    They take up to 50 steps of Adam on the log variances; here it is EM, which needs no step size. The two end at
    different variances of nearly equal likelihood: values agree to 2 in 32 dimensions, to 10 in 4. The seed splits
    train.
    A component never narrows below a variance of e^-40, which is what makes copies' values so large.
    """
    return FeatureLikelihood(train, held_out, len(generated), seed=seed).divergence(generated)


class FeatureLikelihood:
    """What generators of n points are measured against: see `feature_likelihood_divergence`."""

    def __init__(self, train: Tensor, held_out: Tensor, n: int, *, seed: int = 0) -> None:
        train, held_out = checked(2, train=train, held_out=held_out)
        self.mean, self.scale = held_out.double().mean(0), held_out.double().std(0)
        self.scale[self.scale == 0] = 1
        self.train, self.held_out = self._standardised(train), self._standardised(held_out)
        self.n, self.seed = n, seed

    def divergence(self, generated: Tensor) -> Estimate:
        """Of these points from the training points, [n, d]."""
        _, generated = checked(train=self.train[:1], generated=generated)
        generated = self._standardised(generated)
        log_variances = _fit_variances(generated, self.train, self.seed)
        ours = _negative_log_likelihood(self.held_out, generated, log_variances)
        return Estimate.mean_of(100 * (ours - self._of_training_points) / self.train.shape[1])

    @cached_property
    def _of_training_points(self) -> Tensor:
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(self.seed))
        n = min(self.n, len(self.train) // 2)
        centres, others = self.train[order[:n]], self.train[order[n:]]
        return _negative_log_likelihood(self.held_out, centres, _fit_variances(centres, others, self.seed))

    def _standardised(self, points: Tensor) -> Tensor:
        return (points.double() - self.mean) / self.scale


def _fit_variances(centres: Tensor, points: Tensor, seed: int) -> Tensor:
    """Log variances [m] of an even mixture at the centres that make the points likely, by EM.

    A background at the points' mean (distances shrunk by a tenth, weight that of the whole mixture, as in the
    authors' code) takes part in the fit alone, so that a point which nothing explains widens no component.

    Of many points, each centre's nearest (a copy must meet what it copies) and some of the others stand for all.
    """
    d = points.shape[1]
    nearest, index = neighbours(centres, points, 1)
    log_variances = ((nearest[:, 0] + 1e-3) / d).log()
    centre = points.mean(0)
    chosen, counts = _stratified(len(points), index[:, 0].unique(), seed)
    points = points[chosen]
    background_squared = BACKGROUND_SHRINK * (points - centre).square().sum(1)
    background = torch.zeros((), dtype=torch.float64)

    before = math.inf
    for _ in range(MAX_STEPS):
        own = _log_density(background_squared, background, d)
        log_evidence = torch.empty_like(own)
        weight, spread = torch.zeros_like(log_variances), torch.zeros_like(log_variances)
        for rows, squared in rough_squared_rows(points, centres):
            log_joint = _log_mixture(squared, log_variances.float(), d)
            peak = log_joint.amax(1)
            likely = log_joint.sub_(peak[:, None]).clamp_(min=-NOTHING)
            joint = likely.exp_()  # an underflow would take ten times as long
            log_evidence[rows] = torch.logaddexp((peak + joint.sum(1).log()).double(), own[rows])
            scale = (counts[rows] * (peak - log_evidence[rows]).exp()).to(joint.dtype)
            weight += scale @ joint
            spread += scale @ joint.mul_(squared)
        used = weight > 2 * float(counts.sum()) * math.exp(-NOTHING)
        fitted = (spread[used] / weight[used] / d).log()
        log_variances[used] = fitted.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        share = counts * (own - log_evidence).exp()
        background = ((share * background_squared).sum() / share.sum() / d).log()
        after = -float((counts * log_evidence).sum() / counts.sum()) / d
        if before - after < CONVERGED:
            break
        before = after
    return log_variances


def _stratified(n: int, always: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of some of n points, and how many points each stands for: these always, for themselves, and
    SOME_OF_OTHERS of the others."""
    others = torch.ones(n, dtype=torch.bool)
    others[always] = False
    others = others.nonzero()[:, 0]
    some = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:SOME_OF_OTHERS]]
    counts = torch.cat([torch.ones(len(always)), torch.full((len(some),), len(others) / max(1, len(some)))])
    return torch.cat([always, some]), counts.double()


def _negative_log_likelihood(points: Tensor, centres: Tensor, log_variances: Tensor) -> Tensor:
    """Of each point under an even mixture of isotropic Gaussians, nats [n]."""
    d = points.shape[1]
    return torch.cat([-_log_mixture(s, log_variances, d).logsumexp(1) for _, s in squared_rows(points, centres)])


def _log_mixture(squared: Tensor, log_variances: Tensor, d: int) -> Tensor:
    """log N(x; c, σ² I) / m of each of the m centres, from |x - c|² [n, m]."""
    at_centre = -0.5 * d * (log_variances + math.log(2 * math.pi)) - math.log(len(log_variances))
    return torch.addcmul(at_centre, squared, (-log_variances).exp(), value=-0.5)


def _log_density(squared: Tensor, log_variance: Tensor, d: int) -> Tensor:
    """log N(x; c, σ² I) from |x - c|²."""
    return -0.5 * (squared / log_variance.exp() + d * (log_variance + math.log(2 * math.pi)))
