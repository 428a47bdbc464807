import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lab.data.samples import Texts
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.data.text import Pydoc, StdlibCode, TextData, TextFile

COMMON = {"batch_size": 2, "context": 16, "tokenizer": "byte", "passage": 32, "held_out": 0.1}
CHINESE = "春眠不覺曉,處處聞啼鳥。\n夜來風雨聲,花落知多少。\n" * 20


@pytest.fixture(scope="module")
def pydoc() -> Pydoc:
    return Pydoc(**COMMON | {"held_out": 0.2, "passage": 256})


def test_the_embedded_corpora_are_real_text(pydoc: Pydoc) -> None:
    train = b"".join(pydoc.real("train").passages)
    assert len(train) > 200_000
    assert b"The following" in train and b"__init__" in train
    code = StdlibCode(**COMMON)
    assert code.spec.n_train > 3_000_000
    assert any(b"def __init__(self" in passage for passage in code.real("held_out").passages)


def test_no_long_paragraph_stands_in_both_splits(pydoc: Pydoc) -> None:
    def paragraphs(split: Split) -> set[str]:
        found = re.split(r"\n\s*\n", "\n\n".join(pydoc.likelihood_items(split).to_strings()))
        return {words for p in found if len(words := " ".join(p.split())) >= 40}

    assert len(paragraphs("held_out")) > 300
    assert not paragraphs("train") & paragraphs("held_out")


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_encoding_loses_nothing(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "poems.txt"
    path.write_text(CHINESE, encoding="utf-8")
    data = TextFile(**COMMON | {"tokenizer": tokenizer, "held_out": 0.2}, path=str(path), pattern="*")
    (symbols,) = data.spec.encode(Texts([CHINESE.encode()]))
    assert len(symbols) == (len(CHINESE) if tokenizer == "char" else len(CHINESE.encode()))
    assert data.spec.decode(symbols[None]).to_strings() == [CHINESE]
    assert data.spec.vocab_size == (len(set(CHINESE)) if tokenizer == "char" else 256)


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_bytes_come_back_as_they_were(passages: list[bytes]) -> None:
    spec = DataSpec(
        name="x",
        modality="text",
        shape=(4,),
        vocab_size=256,
        vocabulary=None,
        passage=4,
        n_classes=0,
        n_train=1,
        n_held_out=1,
        content_hash="",
    )
    back = [spec.decode(symbols[None]) for symbols in spec.encode(Texts(passages))]
    assert [b.passages[0] for b in back] == passages


def test_a_file_is_split_at_its_end_and_a_folder_by_files(tmp_path: Path) -> None:
    text = "".join(f"line {i} of the file\n" for i in range(100))
    (tmp_path / "one.txt").write_text(text)
    data = TextFile(**COMMON, path=str(tmp_path / "one.txt"), pattern="*")
    train, held_out = (data.likelihood_items(split).to_strings()[0] for split in ("train", "held_out"))
    assert train + held_out == text and len(held_out) == len(text) // 10

    for i in range(10):
        (tmp_path / f"chapter{i}.txt").write_text(text.replace("file", f"chapter {i}"))
    folder = TextFile(**COMMON, path=str(tmp_path), pattern="chapter*.txt")
    assert [len(folder.likelihood_items(split)) for split in ("train", "held_out")] == [9, 1]


def test_windows_come_from_anywhere_in_the_corpus_and_from_one_split_only(pydoc: Pydoc) -> None:
    train = torch.tensor(list(b"\n\n".join(pydoc.likelihood_items("train").passages)))
    windows = train.unfold(0, pydoc.context, 1)
    starts = {tuple(w) for w in windows[::97].tolist()}
    batch = pydoc.gather(torch.arange(50), torch.randint(pydoc.n_items, (50,)))
    assert batch.shape == (50, pydoc.context)
    everything = train.numpy().astype("uint8").tobytes()
    assert all(bytes(row) in everything for row in batch.tolist())
    assert not {tuple(w) for w in batch.tolist()} <= starts, "offsets move from epoch to epoch"


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    def spec_of(text: str, **changes: object) -> DataSpec:
        (tmp_path / "x.txt").write_text(text)
        data: TextData = TextFile(**COMMON | changes, path=str(tmp_path / "x.txt"), pattern="*")
        return data.spec

    text = "some words. " * 100
    same, other = spec_of(text), spec_of(text + "more")
    assert same.content_hash != other.content_hash
    assert same.content_hash == spec_of(text, context=8, batch_size=9, tokenizer="char").content_hash
    assert same.content_hash != spec_of(text, held_out=0.5).content_hash
    assert DataSpec.from_json(same.to_json()) == same


def test_tiny_shakespeare(data_dir: Path) -> None:
    """nanoGPT's split: 1,003,854 and 111,540 characters, 65 symbols."""
    path = data_dir / "tinyshakespeare/input.txt"
    data = TextFile(**COMMON | {"tokenizer": "char"}, path=str(path), pattern="*")
    assert data.spec.vocab_size == 65
    assert (data.spec.n_train, data.spec.n_held_out) == (1_003_855, 111_539)
