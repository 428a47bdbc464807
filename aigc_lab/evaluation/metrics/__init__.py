"""Metrics: pure functions of features, tensors [n, d] in, estimates with an interval out; those of texts take
sequences of tokens.

Each module is one idea and can be lifted into a notebook. Distances are computed in float64 and in tiles, so
that no n x n matrix is held and a copy lies at distance zero. Intervals are 95 %, over the generated samples
given the real ones unless a docstring says otherwise. Where there is nothing to count, as in texts without a
word, the estimate is nan.
"""

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.classes import classifier_score
from aigc_lab.evaluation.metrics.copying import authenticity, data_copying
from aigc_lab.evaluation.metrics.distances import nearest_neighbours
from aigc_lab.evaluation.metrics.frechet import frechet_at_infinity, frechet_distance
from aigc_lab.evaluation.metrics.frontier import (
    Mauve,
    divergence_frontier,
    frontier_integral,
    mauve,
    mauve_of_histograms,
)
from aigc_lab.evaluation.metrics.judged import (
    Dependence,
    Halves,
    bits_per_byte,
    conditional_accuracy,
    dependence,
    fluency_distance,
    halves,
    reordered,
)
from aigc_lab.evaluation.metrics.kernels import Gaussian, cmmd, cubic, kernel_distance, median_distance, mmd
from aigc_lab.evaluation.metrics.likelihood import FeatureLikelihood, feature_likelihood_divergence
from aigc_lab.evaluation.metrics.manifold import (
    DensityCoverage,
    Manifold,
    PrecisionRecall,
    density_coverage,
    manifold,
    precision_recall,
)
from aigc_lab.evaluation.metrics.overlap import (
    SharedText,
    longest_shared,
    new_ngrams,
    novelty,
    shared_lengths,
)
from aigc_lab.evaluation.metrics.repetition import distinct, repetition, self_bleu
from aigc_lab.evaluation.metrics.sliced import sliced_wasserstein
from aigc_lab.evaluation.metrics.two_sample import ClassifierTest, classifier_test, two_sample_accuracy
from aigc_lab.evaluation.metrics.vendi import vendi_ratio, vendi_score

__all__ = [
    "ClassifierTest",
    "DensityCoverage",
    "Dependence",
    "Estimate",
    "FeatureLikelihood",
    "Gaussian",
    "Halves",
    "Manifold",
    "Mauve",
    "PrecisionRecall",
    "SharedText",
    "authenticity",
    "bits_per_byte",
    "classifier_score",
    "classifier_test",
    "cmmd",
    "conditional_accuracy",
    "cubic",
    "data_copying",
    "density_coverage",
    "dependence",
    "distinct",
    "divergence_frontier",
    "feature_likelihood_divergence",
    "fluency_distance",
    "frechet_at_infinity",
    "frechet_distance",
    "frontier_integral",
    "halves",
    "kernel_distance",
    "longest_shared",
    "manifold",
    "mauve",
    "mauve_of_histograms",
    "median_distance",
    "mmd",
    "nearest_neighbours",
    "new_ngrams",
    "novelty",
    "precision_recall",
    "reordered",
    "repetition",
    "self_bleu",
    "shared_lengths",
    "sliced_wasserstein",
    "two_sample_accuracy",
    "vendi_ratio",
    "vendi_score",
]
