import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data.samples import Texts
from aigc_lab.data.spec import DataSpec, Split
from aigc_lab.data.text import Pydoc, StdlibCode, TextFile
from aigc_lab.data.tokenizing import ByBytes, ByCharacters, Tokenizing, TrainedBPE
from aigc_lab.data.tokens import whole
from aigc_lab.errors import UserError

COMMON: dict[str, Any] = {
    "batch_size": 2,
    "context": 16,
    "tokenizer": ByBytes(),
    "packing": False,
    "passage": 32,
    "held_out": 0.1,
}
TOKENIZERS = {"byte": ByBytes(), "char": ByCharacters(), "bpe": TrainedBPE(vocab_size=300)}
CHINESE = "春眠不覺曉,處處聞啼鳥。\n夜來風雨聲,花落知多少。\n" * 20


def text_file(path: Path, **changes: Any) -> TextFile:
    own = {"path": str(path), "name": None, "pattern": "*", "separator": None}
    return TextFile(**COMMON | own | changes)


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


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_encoding_loses_nothing(tmp_path: Path, tokenizer: Tokenizing) -> None:
    path = tmp_path / "poems.txt"
    path.write_text(CHINESE, encoding="utf-8")
    spec = text_file(path, tokenizer=tokenizer, held_out=0.2).spec
    (symbols,) = spec.encode(Texts([CHINESE.encode()]))
    assert spec.decode(symbols[None]).to_strings() == [CHINESE]
    assert DataSpec.from_json(spec.to_json()) == spec
    assert spec.summary()["tokenizer"] == {"kind": spec.tokenizer.kind, "hash": spec.tokenizer.hash}


def test_passages_and_windows_are_cut_between_characters(tmp_path: Path) -> None:
    path = tmp_path / "poems.txt"
    path.write_text(CHINESE, encoding="utf-8")
    data = text_file(path, held_out=0.2)
    passages = data.real("train").passages
    assert {len(p) for p in passages} <= {30, 31, 32} and all(p.decode() for p in passages)
    assert b"".join(passages) == b"".join(data.likelihood_items("train").passages)[: sum(map(len, passages))]
    epoch = torch.arange(60)
    for row in data.gather(epoch, epoch % data.n_items):
        assert whole(bytes(row.tolist())).decode()


def test_a_file_is_split_at_its_end_and_a_folder_by_files(tmp_path: Path) -> None:
    text = "".join(f"line {i} of the file\n" for i in range(100))
    (tmp_path / "one.txt").write_text(text)
    data = text_file(tmp_path / "one.txt")
    train, held_out = (data.likelihood_items(split).to_strings()[0] for split in ("train", "held_out"))
    assert train + held_out == text and len(held_out) == len(text) // 10

    for i in range(10):
        (tmp_path / f"chapter{i}.txt").write_text(text.replace("file", f"chapter {i}"))
    folder = text_file(tmp_path, pattern="chapter*.txt")
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
    def spec_of(text: str, **changes: Any) -> DataSpec:
        (tmp_path / "x.txt").write_text(text)
        return text_file(tmp_path / "x.txt", **changes).spec

    text = "some words. " * 100
    same, other = spec_of(text), spec_of(text + "more")
    assert same.content_hash != other.content_hash
    assert same.content_hash == spec_of(text, context=8, batch_size=9, tokenizer=ByCharacters()).content_hash
    assert same.content_hash != spec_of(text, held_out=0.5).content_hash


def test_documents_of_a_file_are_held_out_whole(tmp_path: Path) -> None:
    poems = [f"poem {i}\nline after line, {i * 7 % 13}" for i in range(200)]
    (tmp_path / "poems.txt").write_text("\n\n".join([*poems, "", " "]))
    data = text_file(tmp_path / "poems.txt", separator=r"\n\n")  # as a shell passes it
    assert data.spec == text_file(tmp_path / "poems.txt", separator="\n\n").spec
    train, held_out = (data.likelihood_items(split).to_strings() for split in ("train", "held_out"))
    assert sorted(train + held_out) == sorted(poems)
    assert 18 <= len(held_out) <= 24
    assert b"".join(data.real("train").passages) in "\n\n".join(train).encode()


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_symbols_on_disk_are_those_in_memory_and_are_written_once(tmp_path: Path, tokenizer: Tokenizing) -> None:
    path, cache = tmp_path / "poems.txt", tmp_path / "cache"
    path.write_text(CHINESE, encoding="utf-8")
    position = torch.arange(9)

    def batch(**changes: Any) -> torch.Tensor:
        return text_file(path, tokenizer=tokenizer, context=8, held_out=0.3, **changes).gather(position, position)

    kept = batch(cache_dir=cache)
    torch.testing.assert_close(kept, batch())
    written = {p: p.stat().st_mtime_ns for p in cache.rglob("*.*")}
    torch.testing.assert_close(kept, batch(cache_dir=cache))
    assert written == {p: p.stat().st_mtime_ns for p in cache.rglob("*.*")}

    (damaged,) = cache.glob("symbols/*-train-*.bin")
    damaged.write_bytes(damaged.read_bytes()[:-8])
    torch.testing.assert_close(kept, batch(cache_dir=cache))


def test_a_corpus_on_disk_is_never_in_memory(tmp_path: Path) -> None:
    """Twenty megabytes in two files, read, hashed, written in symbols and gathered; see also benchmarks/text."""
    line = "".join(f"{i} bottles of beer on the wall, " for i in range(1000))
    for name in ("a.txt", "b.txt"):
        with (tmp_path / name).open("w") as file:
            for i in range(330):
                file.write(f"{name} {i} {line}\n")
    size = sum(path.stat().st_size for path in tmp_path.glob("*.txt"))
    data = text_file(
        tmp_path, pattern="*.txt", cache_dir=tmp_path / "cache", tokenizer=ByCharacters(), context=256
    )
    tracemalloc.start()
    try:
        for position in torch.arange(data.n_items)[:2000].split(64):
            data.gather(torch.zeros_like(position), position)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 20e6 and data.spec.n_train + data.spec.n_held_out == size
    assert peak < 12e6, "the table of characters, and a few pieces"


def test_a_corpus_of_which_nothing_is_held_out_is_one_line(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("some words. " * 100)
    for path, changes, says in (
        (tmp_path, {"held_out": 0}, "data: nothing of .* is held out: data.held_out=0"),
        (tmp_path / "a.txt", {"held_out": 0}, "data: nothing of a is held out: data.held_out=0"),
        (tmp_path / "a.txt", {"separator": "%%"}, "data.separator='%%': parts .*a.txt in no two documents, and"),
        (
            tmp_path / "a.txt",
            {"held_out": 0.01},
            "data: the held-out text of a has 12 bytes, but data.passage=32 needs",
        ),
    ):
        with pytest.raises(UserError, match=f"^{says}"):
            _ = text_file(path, **changes).spec


def test_zeros_are_no_text(tmp_path: Path) -> None:
    """They are ASCII, and what binary files have most of."""
    (tmp_path / "x.txt").write_bytes(b"some words. " * 6000 + bytes(20_000))
    with pytest.raises(
        UserError, match=r"x.txt is not UTF-8 text \(byte 72000: a zero byte, which stands in no text\)"
    ):
        _ = text_file(tmp_path / "x.txt").spec


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("some words. " * 100)
    for tokenizer in TOKENIZERS.values():
        with pytest.raises(UserError, match=r"paths.cache_dir: cannot write .*: Not a directory"):
            _ = text_file(tmp_path / "x.txt", tokenizer=tokenizer, cache_dir=tmp_path / "x.txt").spec


def of_config(*overrides: str) -> TextFile:
    return build(Composer().train(list(overrides)).data, path="data")


def test_tiny_shakespeare(data_dir: Path) -> None:
    """nanoGPT's split: 1,003,854 and 111,540 characters, 65 symbols."""
    spec = of_config("data=shakespeare", f"paths.data_dir={data_dir}").spec
    assert spec.vocab_size == 65
    assert (spec.n_train, spec.n_held_out) == (1_003_854, 111_540)


def test_tang_poetry(data_dir: Path) -> None:
    """A document is a poem: title, poet, lines."""
    data = of_config("data=tang_poetry", f"paths.data_dir={data_dir}")
    poems = [poem for split in ("train", "held_out") for poem in data.likelihood_items(split).to_strings()]
    assert len(poems) == 20_011 and data.spec.vocab_size == 7377
    assert all(len(poem.strip().split("\n")) >= 3 for poem in poems[:100])
    assert data.spec.n_held_out / (data.spec.n_held_out + data.spec.n_train) == pytest.approx(0.1, abs=1e-3)
