"""What a classifier's class probabilities say of generated samples alone."""

import math

import torch
from torch import Tensor

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked_probabilities


def classifier_score(probabilities: Tensor) -> Estimate:
    """Inception score for any classifier (Salimans et al. 2016): exp E KL(p(y | x) || p(y)) of class probabilities
    [n, K], the exponential of the mutual information of sample and class.

    In [1, K]: 1 where every sample has the same prediction, K for certain and balanced ones. Not split into
    parts: a split of n / 10 samples adds a bias of its own. It never looks at real data: compare with its
    value there. Blind to all that happens within a class, and to copying.
    """
    p = checked_probabilities(probabilities)
    information = (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1)
    log = Estimate.mean_of(information)
    return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))
