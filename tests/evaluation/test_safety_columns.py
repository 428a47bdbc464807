"""Memorised samples, personal data in samples, and the probe for bias."""

import math

import pytest
import torch

from aigc_lab.data.samples import Texts
from aigc_lab.evaluation.reading import longest_runs
from aigc_lab.evaluation.safety import (
    OCCUPATIONS,
    Memorised,
    Pair,
    beyond,
    bias,
    memorised_points,
    personal_data,
    pronoun_pairs,
)


def texts(n: int, seed: int, length: int = 40) -> list[bytes]:
    rng = torch.Generator().manual_seed(seed)
    return [bytes(row) for row in torch.randint(97, 101, (n, length), generator=rng, dtype=torch.uint8).numpy()]


def memorised_texts(samples: list[bytes], training: list[bytes], held_out: list[bytes]) -> Memorised:
    return beyond(*(longest_runs(passages, Texts(training)) for passages in (samples, held_out)))


def test_copied_texts_are_counted_and_named() -> None:
    training, held_out, samples = texts(60, 0), texts(50, 1), texts(48, 2)
    samples = [*samples, training[3], b"cccc" + training[5][:32] + b"dddd"]
    found = memorised_texts(samples, training, held_out)
    assert found.which == [48, 49]
    assert found.share.value == pytest.approx(2 / 50) and found.share.low > 0
    assert found.null == 1 / 51 and 5 < found.threshold < 20


def test_a_copy_may_begin_anywhere_in_the_training_text() -> None:
    training, held_out = texts(60, 0), texts(50, 1)
    whole = b"".join(training)
    shifted = [whole[at : at + 40] for at in range(20, 420, 40)]
    assert memorised_texts(shifted, training, held_out).share.value == 1
    assert longest_runs(shifted, Texts(training)).tolist() == [40] * 10


def test_fresh_samples_exceed_the_threshold_as_rarely_as_stated() -> None:
    """k / (m + 1), whatever the law: here 3 / 301 of 60,000."""
    rng = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(30):
        train, held_out, fresh = (torch.rand(n, 2, generator=rng).double() for n in (100, 300, 2000))
        found = memorised_points(fresh, train, held_out)
        shares.append(found.share.value)
    assert found.null == pytest.approx(3 / 301)
    assert sum(shares) / 30 == pytest.approx(found.null, abs=0.004)


def test_copies_are_seen_although_a_held_out_item_is_one_too() -> None:
    rng = torch.Generator().manual_seed(0)
    train, held_out, fresh = (torch.randn(n, 8, generator=rng).double() for n in (100, 300, 20))
    held_out[0] = train[0]
    found = memorised_points(torch.cat([train[:10], fresh]), train, held_out)
    assert sorted(found.which)[:10] == list(range(10)) and found.share.value < 0.4


def test_personal_data_that_is_made_up_and_that_is_leaked() -> None:
    training = [b"write to ada.lovelace@cam", b".ac.uk, or", b"do not"]  # passages cut the address
    samples = [b"mail ada.lovelace@cam.ac.uk", b"or bob@cam.ac.uk", b"\xff\xfe version 1.2.3.4", b"nothing"]
    found = personal_data(samples, training)
    mail = found["e-mail"]
    assert mail.share.value == 0.5 and mail.training_share.value == 0
    assert mail.found == ["ada.lovelace@cam.ac.uk", "bob@cam.ac.uk"]
    assert mail.leaked == ["ada.lovelace@cam.ac.uk"]
    assert all(report.share.value == 0 for kind, report in found.items() if kind != "e-mail")


def test_bias_by_hand() -> None:
    """A model with log odds of 1, 2 and 6 for the first word: preference 3, association √7."""
    odds = {b"a": 1.0, b"b": 2.0, b"c": 6.0}
    pairs = [Pair(g.decode(), g, b" he", b" she") for g in odds]
    found = bias(
        lambda passages, given: torch.tensor(
            [odds[g] if t == b" he" else 0.0 for t, g in zip(passages, given, strict=True)]
        ),
        pairs,
    )
    assert found.preference.value == pytest.approx(3) and found.association.value == pytest.approx(math.sqrt(7))
    assert (found.n, found.most_first[0], found.most_second[0]) == (3, "c", "a")
    assert found.preference.low < 3 < found.preference.high


def test_the_pairs_differ_in_the_pronoun_only() -> None:
    pairs = pronoun_pairs()
    assert len(pairs) == 3 * len(OCCUPATIONS) and len(set(OCCUPATIONS)) == len(OCCUPATIONS)
    assert {(p.first, p.second) for p in pairs} == {(b" he ", b" she ")}
