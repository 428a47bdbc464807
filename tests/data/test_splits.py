import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lab.data.corpora import Corpus, InMemory
from aigc_lab.data.splits import blocks, by_hash, content_hash, without_repeats

documents = st.lists(st.text("ab \n", min_size=1, max_size=30), min_size=2, max_size=20)


def split(texts: list[str], held_out: float) -> tuple[list[str], list[str]]:
    corpus = Corpus.of("x", InMemory(texts), separator=b"", held_out=held_out)
    train, held = ([texts[i] for i in corpus.numbers(split)] for split in ("train", "held_out"))
    return train, held


@given(documents, st.floats(0.05, 0.9))
def test_documents_are_split_whole_and_completely(texts: list[str], held_out: float) -> None:
    train, held = split(texts, held_out)
    assert sorted(train + held) == sorted(texts)
    assert train and held
    longest = max(len(t) for t in texts)
    assert sum(map(len, held)) <= held_out * sum(map(len, texts)) + longest


def test_the_split_depends_on_contents_only() -> None:
    texts = [f"document {i}" for i in range(50)]
    assert sorted(split(texts, 0.2)[1]) == sorted(split(texts[::-1], 0.2)[1])
    assert by_hash([b"b", b"a", b"c"]) == [2, 0, 1], "fixed for ever: SHA-256 of the contents"


def test_repeated_paragraphs_are_dropped_where_they_come_again() -> None:
    long = "a paragraph that is long enough to be recognised again"
    kept = without_repeats([f"one\n\n{long}", f"two\n\n{long}\n\nSee also", f"  {long}  ", "three\n\nSee also"])
    assert kept == [f"one\n\n{long}", "two\n\nSee also", "three\n\nSee also"]


@given(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=12), st.integers(1, 30))
def test_blocks_cut_between_paragraphs_and_lose_nothing(paragraphs: list[str], at_least: int) -> None:
    cut = blocks(["\n\n".join(paragraphs)], at_least)
    assert "".join(cut) == "".join(p + "\n\n" for p in paragraphs)
    assert all(len(block) >= at_least for block in cut[:-1])


def test_content_hashes_tell_parts_apart() -> None:
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash(torch.arange(3)) != content_hash(torch.arange(3).int())
    assert content_hash(b"x") == content_hash("x")
