"""Feature extractors: what turns images and texts into the vectors that metrics compare.

An extractor is configured without data, fitted once to a training split, and then a pure function with a
content hash that stands in every score. All work offline; pretrained ones need their weights on the disk, and
fetch them where `download` asks for it.
"""

from aigc_lab.evaluation.features.base import Extractor, Features, Judge
from aigc_lab.evaluation.features.images import ImageClassifier, Pixels, RandomConvolutions
from aigc_lab.evaluation.features.language import ByteTransformer, CausalLM
from aigc_lab.evaluation.features.ngrams import HashedNgrams
from aigc_lab.evaluation.features.pretrained import CLIP, DINOv2, InceptionV3

__all__ = [
    "CLIP",
    "ByteTransformer",
    "CausalLM",
    "DINOv2",
    "Extractor",
    "Features",
    "HashedNgrams",
    "ImageClassifier",
    "InceptionV3",
    "Judge",
    "Pixels",
    "RandomConvolutions",
]
