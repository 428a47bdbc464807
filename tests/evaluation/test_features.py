from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aigc_lab.config.compose import Composer
from aigc_lab.data.images import Digits, ImageFolder
from aigc_lab.data.samples import Texts
from aigc_lab.data.text import Pydoc
from aigc_lab.data.tokenizing import ByBytes
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features import ByteTransformer, HashedNgrams, ImageClassifier, RandomConvolutions

NGRAMS = HashedNgrams(lengths=[1, 3], buckets=512, dim=8, fit_on=500, seed=0)
TRANSFORMER = ByteTransformer(
    context=8, width=4, n_layers=1, n_heads=1, steps=1, batch_size=1, lr=1e-3, dim=5, fit_on=50, seed=0
)
CLASSIFIER = ImageClassifier(width=8, dim=16, steps=80, batch_size=64, lr=3e-3, seed=0)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits(batch_size=8, levels=None, held_out=0.25)


def test_the_classifiers_features_separate_the_classes(digits: Digits, tmp_path: Path) -> None:
    features = CLASSIFIER.fit(digits, tmp_path)
    held_out, labels = features(digits.real("held_out")), digits.labels("held_out")
    train = features(digits.real("train"))
    nearest = torch.cdist(held_out, train).argmin(1)
    accuracy = (digits.labels("train")[nearest] == labels).double().mean()
    assert held_out.shape == (450, 16) and held_out.dtype == torch.float64
    assert accuracy > 0.85


def test_the_classifier_is_trained_once_and_then_cached(digits: Digits, tmp_path: Path) -> None:
    first = CLASSIFIER.fit(digits, tmp_path)
    (cached,) = tmp_path.rglob("*.safetensors")
    before = cached.stat().st_mtime_ns
    again = CLASSIFIER.fit(digits, tmp_path)
    assert cached.stat().st_mtime_ns == before
    assert first.content_hash == again.content_hash
    images = digits.real("held_out")[:20]
    assert torch.equal(first(images), again(images))
    other = ImageClassifier(width=8, dim=16, steps=80, batch_size=64, lr=3e-3, seed=1).fit(digits, tmp_path)
    assert other.content_hash != first.content_hash


def test_the_same_data_give_the_same_classifier_whatever_the_number_of_threads(
    digits: Digits, tmp_path: Path
) -> None:
    hashes, before = set(), torch.get_num_threads()
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            short = ImageClassifier(width=8, dim=16, steps=5, batch_size=128, lr=3e-3, seed=0)
            hashes.add(short.fit(digits, tmp_path / str(n_threads)).content_hash)
            assert torch.get_num_threads() == n_threads, "put back"
    finally:
        torch.set_num_threads(before)
    assert len(hashes) == 1


def test_random_convolutions_need_no_labels(digits: Digits, tmp_path: Path) -> None:
    extractor = RandomConvolutions(width=4, dim=12, seed=0)
    features = extractor.fit(digits, tmp_path)
    assert features(digits.real("held_out")).shape == (450, 12)
    assert features.content_hash == extractor.fit(digits, tmp_path).content_hash


def test_a_classifier_needs_classes(tmp_path: Path) -> None:
    from PIL import Image

    for i in range(4):
        Image.fromarray(np.full((8, 8), 40 * i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    data = ImageFolder(path=str(tmp_path), size=8, channels=1, held_out=0.5, batch_size=2, levels=None)
    with pytest.raises(UserError, match="has no classes"):
        CLASSIFIER.fit(data, tmp_path)


def test_ngram_frequencies_by_hand() -> None:
    """Each length counts alike and rows sum to one; n-grams never span two passages."""
    found = NGRAMS.frequencies([b"abab", b"ab"]).toarray()
    assert found.sum(1) == pytest.approx([1, 0.5]), "the second has no trigram"
    assert sorted(found[0][found[0] > 0]) == pytest.approx([0.25, 0.25, 0.25, 0.25])
    alone = NGRAMS.frequencies([b"ab"]).toarray()
    assert np.array_equal(alone[0], found[1])


@pytest.fixture(scope="module")
def manual() -> Pydoc:
    return Pydoc(batch_size=8, context=32, tokenizer=ByBytes(), packing=False, passage=128, held_out=0.2)


@pytest.mark.parametrize("extractor", [replace(NGRAMS, dim=513), replace(NGRAMS, fit_on=7), TRANSFORMER])
def test_more_features_than_there_are_get_one_line(
    extractor: HashedNgrams | ByteTransformer, manual: Pydoc, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"^dim=\d+: .* have at most \d+ components$"):
        extractor.fit(manual, tmp_path)


def test_ngrams_need_a_length() -> None:
    with pytest.raises(UserError, match=r"^evaluation.features.text.lengths=\[\]: .* at least 1 item"):
        Composer().evaluate(["evaluation.features.text.lengths=[]"])


def test_ngrams_tell_text_from_noise(manual: Pydoc) -> None:
    features = NGRAMS.fit(manual, Path())
    real, held_out = features(manual.real("train")), features(manual.real("held_out"))
    rng = np.random.default_rng(0)
    noise = features(Texts([rng.integers(0, 256, 128, dtype=np.uint8).tobytes() for _ in range(100)]))
    distance = (real.mean(0) - held_out.mean(0)).norm(), (real.mean(0) - noise.mean(0)).norm()
    assert distance[0] * 10 < distance[1]
    assert features.content_hash == NGRAMS.fit(manual, Path()).content_hash
