"""Likelihood of held-out features under a mixture that the generated samples make."""

import math

import torch
from torch import Tensor

from aigc_lab.evaluation.metrics.distances import neighbours, squared_rows
from aigc_lab.evaluation.metrics.estimate import Estimate

MAX_STEPS = 50
CONVERGED = 5e-4
"""Nats per dimension."""
LOG_VARIANCE_LIMIT = 40.0
BACKGROUND_SHRINK = 0.81


def feature_likelihood_divergence(
    train: Tensor, held_out: Tensor, generated: Tensor, *, seed: int = 0
) -> Estimate:
    """FLD (Jiralerspong et al. 2023, section 3): 100 x the nats per dimension by which a mixture of Gaussians, one
    at each generated point with its own variance fitted to the training set, explains held-out points worse
    than one made of half of the training set and fitted to the other half. Features [n, d], standardised by
    the held-out set's moments.

    About 0 for identical laws at n = half of train, lower is better; copies of the training set collapse their
    variances and score far above 1,000; noise scores high, lost modes too. It leans on the extractor, and
    falls with the number of generated points: compare at equal n. The interval is over the held-out points.

    The authors take up to 50 steps of Adam on the log variances; here it is EM, which needs no step size.
    The two end at different variances of equal likelihood, so values agree to a few units. The seed splits train.
    A component never narrows below a variance of e^-40, which is what makes copies' values so large.
    """
    mean, scale = held_out.double().mean(0), held_out.double().std(0)
    scale[scale == 0] = 1
    train, held_out, generated = ((x.double() - mean) / scale for x in (train, held_out, generated))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    centres, rest = train[order[: len(train) // 2]], train[order[len(train) // 2 :]]
    ours = _negative_log_likelihood(held_out, generated, _fit_variances(generated, train))
    theirs = _negative_log_likelihood(held_out, centres, _fit_variances(centres, rest))
    return Estimate.mean_of(100 * (ours - theirs) / train.shape[1])


def _fit_variances(centres: Tensor, points: Tensor) -> Tensor:
    """Log variances [m] of an even mixture at the centres that make the points likely, by EM.

    A background at the points' mean (distances shrunk by a tenth, weight that of the whole mixture, as in the
    authors' code) takes part in the fit alone, so that a point which nothing explains widens no component.
    """
    d = points.shape[1]
    background_squared = BACKGROUND_SHRINK * (points - points.mean(0)).square().sum(1)
    background = torch.zeros((), dtype=torch.float64)
    nearest, _ = neighbours(centres, points, 1)
    log_variances = ((nearest[:, 0] + 1e-3) / d).log()

    before = math.inf
    for _ in range(MAX_STEPS):
        own = _log_density(background_squared, background, d)
        log_evidence = torch.empty_like(own)
        weight, spread = torch.zeros_like(log_variances), torch.zeros_like(log_variances)
        for rows, squared in squared_rows(points, centres):
            log_joint = _log_mixture(squared, log_variances, d)
            peak = log_joint.amax(1)
            joint = log_joint.sub_(peak[:, None]).exp_()
            log_evidence[rows] = torch.logaddexp(peak + joint.sum(1).log(), own[rows])
            scale = (peak - log_evidence[rows]).exp()
            weight += scale @ joint
            spread += scale @ joint.mul_(squared)
        used = weight > torch.finfo(torch.float64).tiny
        fitted = (spread[used] / weight[used] / d).log()
        log_variances[used] = fitted.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        share = (own - log_evidence).exp()
        background = ((share * background_squared).sum() / share.sum() / d).log()
        after = -float(log_evidence.mean()) / d
        if before - after < CONVERGED:
            break
        before = after
    return log_variances


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
