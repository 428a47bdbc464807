"""The measure of feature extractors, on digits and on texts that one can count."""

from pathlib import Path

import pytest
import torch

from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data.images import Digits
from aigc_lab.data.samples import Texts
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features import ByteTransformer, HashedNgrams, Pixels, RandomConvolutions
from aigc_lab.reproduce.extractors import FAULTS, HeldOut, SeenFaults, incoherent, looping, misspelt, shuffled
from aigc_lab.reproduce.trial import Trial

DIGITS = Digits(batch_size=8, levels=None, held_out=0.25)
IMAGES = {"pixels": Pixels(size=8), "noisy": RandomConvolutions(width=2, dim=2, seed=0)}


def test_pixels_see_more_than_two_random_features(tmp_path: Path) -> None:
    measure = SeenFaults(data=DIGITS, extractors=IMAGES, chosen="pixels", n=200, cache_dir=str(tmp_path))
    found = measure(Trial(0, None))
    assert found == measure(Trial(0, None)) != measure(Trial(1, None))
    rises = [
        found[f"digits, pixels: {fault}"] for fault in FAULTS["image"] if fault not in ("noise", "noisy copycat")
    ]
    assert found["digits, pixels: median"] == sorted(rises)[2] / 2 + sorted(rises)[3] / 2
    assert found["digits, pixels: noise"] > 50 > 5 > abs(found["digits, pixels: noisy copycat"])
    lead = found["digits, pixels: blurred"] - found["digits, noisy: blurred"]
    assert found["digits: blurred, lead of pixels"] == pytest.approx(lead) and lead > 0
    with pytest.raises(UserError, match="chosen=inception should be one of several"):
        SeenFaults(data=DIGITS, extractors=IMAGES, chosen="inception", n=200, cache_dir=str(tmp_path))(
            Trial(0, None)
        )


def test_faults_of_texts_leave_what_they_say() -> None:
    passages = [bytes([65 + i]) * 7 + b" " + bytes([97 + i]) * 8 for i in range(20)]
    real, rng = HeldOut(DIGITS, Texts(passages), None), torch.Generator().manual_seed(0)
    assert [sorted(p) for p in shuffled(real, rng).passages] == [sorted(p) for p in passages]
    assert looping(real, rng).passages[0] == b"AAAAAAA AAAAAAA "
    pieces = incoherent(real, rng).passages
    assert all(len(p) == 16 for p in pieces) and sorted(b"".join(pieces)) == sorted(b"".join(passages))
    changed = sum(
        a != b
        for p, q in zip(passages, misspelt(real, rng).passages, strict=True)
        for a, b in zip(p, q, strict=True)
    )
    assert 0 < changed < 20, "one byte in fifty of 320"


def test_a_fault_of_images_without_a_class_keeps_the_others() -> None:
    real = HeldOut.of(DIGITS, 100, torch.Generator().manual_seed(0))
    assert len(FAULTS["image"]["a class missing"](real, torch.Generator())) == int((real.classes != 5).sum()) < 100


def test_the_experiments_measure_the_extractors_that_evaluations_use() -> None:
    composer = Composer()
    used = composer.evaluate([]).evaluation
    for name in ("evaluation/extractors", "evaluation/extractors_large"):
        measures = composer.reproduction([f"experiment={name}"]).claims.measures
        images, texts = (m["extractors"] for m in measures.values())
        assert images["classifier"] == used.features["image"]
        assert images["random_convolutions"] == used.features["unlabelled_image"]
        assert (texts["ngrams"], texts["byte_transformer"]) == (used.features["text"], used.judge)
    built = build(texts, path="extractors")
    assert isinstance(built["ngrams"], HashedNgrams) and isinstance(built["byte_transformer"], ByteTransformer)
