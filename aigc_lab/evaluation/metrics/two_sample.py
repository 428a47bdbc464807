"""Two-sample tests: can anything tell generated from real?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked
from aigc_lab.evaluation.metrics.distances import neighbours, squared_radii
from aigc_lab.evaluation.metrics.ranks import probability_greater

ENOUGH = 20
"""Items of each set that a classifier needs: half are for learning, and a tenth of these for stopping."""

N_SPLITS = 4
"""One network of a few hundred items is luck: it finds much or nothing."""


@dataclass(frozen=True)
class ClassifierTest:
    """Of trained classifiers on items they have not seen."""

    accuracy: Estimate
    auc: Estimate


def two_sample_accuracy(real: Tensor, generated: Tensor) -> Estimate:
    """Leave-one-out accuracy of a nearest neighbour that tells real from generated features [n, d] (Lopez-Paz &
    Oquab 2017).

    1/2 for identical laws, 1 for disjoint ones, 0 for copies. The larger set is cut to the smaller. Of the
    distance metrics it is the one that shows copies, but only of the real set given; with few dimensions
    dominating, it sees only those.
    """
    real, generated = checked(2, real=real, generated=generated)
    n = min(len(real), len(generated))
    real, generated = real[:n], generated[:n]
    found_real = squared_radii(real, 1) <= neighbours(real, generated, 1)[0]  # of two equally near the real one
    found_generated = squared_radii(generated, 1) < neighbours(generated, real, 1)[0]
    return Estimate.share_of(torch.cat([found_real, found_generated]).squeeze(1))


def classifier_test(real: Tensor, generated: Tensor, *, seed: int = 0) -> ClassifierTest:
    """A small network learns to tell half of the real from half of the generated features [n, d], and is asked
    about the other halves (Lopez-Paz & Oquab 2017, section 3); the mean over four splits, each with a network of
    its own.

    Identical laws: accuracy and AUC 1/2. The best possible accuracy is (1 + total variation) / 2; a network of
    finite size and data gives a lower bound. The larger set is cut to the smaller. Blind to copying. The interval
    is over the items asked about, and has what the mean over splits moves by.
    """
    real, generated = checked(ENOUGH, real=real, generated=generated)
    splits = [_one_split(real, generated, s) for s in range(seed * N_SPLITS, (seed + 1) * N_SPLITS)]
    accuracies, aucs = zip(*splits, strict=True)
    return ClassifierTest(accuracy=_mean_over_splits(accuracies), auc=_mean_over_splits(aucs))


def _one_split(real: Tensor, generated: Tensor, seed: int) -> tuple[Estimate, Estimate]:
    """Accuracy and AUC, given the network."""
    n = min(len(real), len(generated))
    rng = torch.Generator().manual_seed(seed)
    halves = [x[torch.randperm(len(x), generator=rng)[:n]].double().tensor_split(2) for x in (real, generated)]
    (learn_real, ask_real), (learn_generated, ask_generated) = halves
    learn = torch.cat([learn_real, learn_generated])
    mean, scale = learn.mean(0), learn.std(0).clamp(min=torch.finfo(torch.float32).tiny)
    labels = (torch.arange(len(learn)) >= len(learn_real)).numpy()
    network = MLPClassifier((64,), learning_rate_init=3e-3, early_stopping=True, random_state=seed)
    network.fit(((learn - mean) / scale).numpy(), labels)

    def says_generated(x: Tensor) -> Tensor:
        return torch.from_numpy(network.predict_proba(((x - mean) / scale).numpy())[:, 1])

    for_real, for_generated = says_generated(ask_real), says_generated(ask_generated)
    accuracy = Estimate.share_of(torch.cat([for_real <= 0.5, for_generated > 0.5]))
    return accuracy, probability_greater(for_generated, for_real)


def _mean_over_splits(estimates: Sequence[Estimate]) -> Estimate:
    """Two random halves share half of their items: half of the variance over items is common to all splits."""
    values = torch.tensor([e.value for e in estimates], dtype=torch.float64)
    of_items = sum(e.standard_error**2 for e in estimates) / len(estimates)
    error = math.sqrt(of_items / 2 + float(values.var()) / len(estimates))
    return Estimate.normal(float(values.mean()), error).within(0, 1)
