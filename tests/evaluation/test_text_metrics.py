"""Repetition, diversity and copying of token sequences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lab.evaluation.metrics import (
    bits_per_byte,
    dependence,
    distinct,
    fluency_distance,
    longest_shared,
    novelty,
    repetition,
    self_bleu,
    shared_lengths,
)
from aigc_lab.generators import LogLikelihood

SENTENCE = [0, 1, 2, 0, 3, 4]
NOTHING = torch.zeros(2)
tokens = st.lists(st.integers(0, 3), min_size=0, max_size=12)


def test_distinct() -> None:
    """Three copies of six tokens of five types: 5/18 and 5/15."""
    assert distinct([SENTENCE] * 3, n=1).value == pytest.approx(5 / 18)
    assert distinct([SENTENCE] * 3, n=2).value == pytest.approx(5 / 15)
    assert distinct([b"abc", b"def"], n=2).value == 1


def test_repetition() -> None:
    found = repetition([b"abababab", b"abcdefgh", b"a"], n=2)
    assert found.value == pytest.approx((5 / 7 + 0) / 2), "the text that is too short has no share"
    assert repetition([b"ab" * 500], n=4).value == pytest.approx(1, abs=0.01)


def test_self_bleu_of_copies_and_of_strangers() -> None:
    assert self_bleu([SENTENCE] * 4).value == pytest.approx(1)
    assert self_bleu([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]).value == 0


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=12), min_size=2, max_size=6), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_self_bleu_agrees_with_nltk(texts: list[list[int]], n: int) -> None:
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smooth, weights = bleu.SmoothingFunction().method1, [1 / n] * n
    theirs = [
        bleu.sentence_bleu(texts[:i] + texts[i + 1 :], text, weights, smoothing_function=smooth)
        for i, text in enumerate(texts)
    ]
    assert self_bleu(texts, n=n).value == pytest.approx(sum(theirs) / len(theirs), rel=1e-9)


@pytest.mark.parametrize("texts", [[], [b""], [b"", b"", b""]])
def test_where_nothing_can_be_counted_the_value_is_unknown(texts: list[bytes]) -> None:
    for found in (distinct(texts), repetition(texts), self_bleu(texts), novelty(texts, [b"a"], n=2)):
        assert math.isnan(found.value)
    assert longest_shared(texts, [b"a"]).longest == longest_shared([b"a"], []).longest == 0
    assert math.isnan(distinct([b"a", b"b"], n=2).value) and math.isnan(self_bleu([b"abc", b""]).value)
    for judged in (bits_per_byte(NOTHING, NOTHING), dependence(NOTHING, NOTHING, NOTHING).preferred):
        assert math.isnan(judged.value)
    assert math.isnan(fluency_distance(torch.ones(3), torch.zeros(0)).value)


def longest_by_hand(text: list[int], training: list[list[int]]) -> list[int]:
    """At each place, the longest run that some training text holds."""
    runs = {tuple(t[i:j]) for t in training for i in range(len(t)) for j in range(i + 1, len(t) + 1)}
    return [
        max((j - i for j in range(i + 1, len(text) + 1) if tuple(text[i:j]) in runs), default=0)
        for i in range(len(text))
    ]


@given(st.lists(tokens, min_size=1, max_size=5), st.lists(tokens, min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_shared_lengths_are_the_longest(texts: list[list[int]], training: list[list[int]]) -> None:
    found = shared_lengths(texts, training)
    assert [f.tolist() for f in found] == [longest_by_hand(text, training) for text in texts]


def test_longest_shared_and_novelty() -> None:
    training, texts = [b"say hello", b"ab", b"c"], [b"xxhelloyy", b"abc"]
    found = longest_shared(texts, training)
    assert (found.longest, found.mean.value) == (5, 3.5), "no match goes from one training text into the next"
    assert novelty(texts, training, n=2).value == 5 / 10
    assert novelty(training, training, n=2).value == 0
    assert novelty([b"zzzz"], training, n=1).value == 1
    assert math.isnan(novelty([b"ab"], training, n=3).value), "no text is so long"


def test_a_copied_passage_is_found_in_a_long_text() -> None:
    training = bytes((i * i // 7 + i // 3) % 251 for i in range(50_000))
    text = b"\xff" * 100 + training[31_234:31_734] + b"\xff" * 100
    assert longest_shared([text], [training]).longest == 500


def test_bits_per_byte_agree_with_lm_eval() -> None:
    peer = pytest.importorskip("lm_eval.api.metrics", reason="lm_eval is not installed")
    nats = -torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 100
    sizes = torch.arange(1, 51)
    expected = peer.bits_per_byte(list(zip(nats.tolist(), sizes.tolist(), strict=True)))
    assert bits_per_byte(nats, sizes).value == pytest.approx(expected, rel=1e-12)
    assert LogLikelihood(nats, sizes, "exact").bits_per_byte() == pytest.approx(expected, rel=1e-12)
