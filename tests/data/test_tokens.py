import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from aigc_lab.data.corpora import Corpus, InMemory
from aigc_lab.data.tokenizing import HuggingFace, TrainedBPE
from aigc_lab.data.tokens import (
    Bytes,
    Characters,
    Subwords,
    Tokenizer,
    byte_alphabet,
    tokenizer_from_json,
    whole,
)
from aigc_lab.errors import UserError

TEXTS = [
    "Bonjour, 世界! 春眠不覺曉，處處聞啼鳥。\n",
    "the cat sat on the mat; the other cat sat on the other mat\n",
] * 5


def corpus_of(*texts: str) -> Corpus:
    return Corpus.of("x", InMemory(texts), separator=b"\n", held_out=[False] * (len(texts) - 1) + [True])


CORPUS = corpus_of(*TEXTS, "held-out text: zyzzyva zyzzyva zyzzyva")
BPE = TrainedBPE(vocab_size=290).fit(CORPUS, None)


@given(st.binary(max_size=60))
@pytest.mark.parametrize("tokenizer", [Bytes(), BPE], ids=["byte", "bpe"])
def test_any_bytes_come_back(tokenizer: Tokenizer, text: bytes) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text(max_size=60))
@pytest.mark.parametrize("tokenizer", [Bytes(), BPE], ids=["byte", "bpe"])
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    symbols = tokenizer.encode(text.encode())
    assert tokenizer.decode(symbols).decode() == text
    assert int(tokenizer.sizes[symbols].sum()) == len(text.encode())


@given(st.text("".join(TEXTS), max_size=60))
def test_characters_are_numbered_by_the_alphabet(text: str) -> None:
    alphabet = "".join(sorted(set("".join(TEXTS))))
    tokenizer = Characters(alphabet)
    symbols = tokenizer.encode(text.encode())
    assert symbols.tolist() == [alphabet.index(c) for c in text]
    assert tokenizer.decode(symbols).decode() == text


def test_what_is_not_in_the_alphabet_is_named() -> None:
    with pytest.raises(ValueError, match="the character 'é' is not in the vocabulary"):
        Characters("abc").encode("aé".encode())
    with pytest.raises(ValueError, match="byte 1 is not UTF-8"):
        Characters("abc").encode(b"a\xff")


def test_the_byte_alphabet_is_gpt2s() -> None:
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))
    assert (byte_alphabet()["Ġ"], byte_alphabet()["Ċ"], byte_alphabet()["a"]) == (0x20, 0x0A, 0x61)
    library = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in (" ", "\n", "~", "é", "世", "🙂"):
        ((spelt, _),) = library.pre_tokenize_str(text)
        assert bytes(byte_alphabet()[c] for c in spelt) == text.encode()


def test_subwords_are_the_librarys_own(tmp_path: Path) -> None:
    library = tokenizers.Tokenizer.from_str(BPE.model)
    for text in (*TEXTS, "zyzzyva"):
        assert BPE.encode(text.encode()).tolist() == library.encode(text).ids
        assert BPE.decode(BPE.encode(text.encode())).decode() == library.decode(library.encode(text).ids)
    half = BPE.encode("鸟".encode())[:1]  # whose other bytes follow, or do not
    assert BPE.decode(half) == "鸟".encode()[:1] and library.decode(half.tolist()) == "\ufffd"


def test_pairs_are_learned_from_the_training_split_only() -> None:
    assert BPE.vocab_size == 290
    assert b" cat" in BPE.pieces and b" sat" in BPE.pieces
    assert not any(b"zy" in piece for piece in BPE.pieces)
    elsewhere = corpus_of(*TEXTS, "quite another text that is held out")
    assert TrainedBPE(vocab_size=290).fit(elsewhere, None) == BPE
    few = TrainedBPE(vocab_size=5000).fit(corpus_of("ab ab", "-"), None)
    assert few.vocab_size == 258, "no more pairs to merge"


def test_a_trained_tokenizer_is_kept(tmp_path: Path) -> None:
    recipe = TrainedBPE(vocab_size=290)
    assert recipe.fit(CORPUS, tmp_path) == BPE
    (kept,) = tmp_path.rglob("*.json")
    assert Subwords(kept.read_text()) == BPE
    kept.write_text("{")
    assert recipe.fit(CORPUS, tmp_path) == BPE == Subwords(kept.read_text()), "a damaged one is trained anew"


@pytest.mark.parametrize("tokenizer", [Bytes(), Characters("ab诗"), BPE], ids=lambda t: t.kind)
def test_a_tokenizer_travels_as_plain_data(tokenizer: Tokenizer) -> None:
    back = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert back == tokenizer and back.hash == tokenizer.hash
    assert back.hash != Characters("ab").hash


@pytest.mark.parametrize(
    "values",
    [
        3,
        {},
        {"kind": "words"},
        {"kind": "characters"},
        {"kind": "characters", "alphabet": 3},
        {"kind": "characters", "alphabet": "aa"},
        {"kind": "subwords", "model": "{}"},
        {"kind": "bytes", "size": "256"},
    ],
)
def test_a_damaged_tokenizer_is_one_line(values: Any) -> None:
    with pytest.raises(UserError, match=r"^the tokenizer of the data description is damaged.*$"):
        tokenizer_from_json(values)


@given(st.text(min_size=1, max_size=9), st.integers(0, 40))
def test_a_text_is_cut_between_characters(text: str, size: int) -> None:
    cut = whole(text.encode()[:size])
    assert text.startswith(cut.decode())
    assert size - 3 <= len(cut) <= size or cut == text.encode()


# Hugging Face's


def saved(folder: Path, library: tokenizers.Tokenizer, **names: str) -> HuggingFace:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=library, **names).save_pretrained(folder)
    return HuggingFace(path=str(folder), download=False)


def test_a_byte_level_tokenizer_of_hugging_face(tmp_path: Path) -> None:
    """Its ids, without its special tokens, which a text may nevertheless spell."""
    library = tokenizers.Tokenizer.from_str(BPE.model)
    library.add_special_tokens(["<|endoftext|>"])
    found = saved(tmp_path, library, eos_token="<|endoftext|>", bos_token="<|endoftext|>").fit(CORPUS, None)
    assert found.vocab_size == 291 and found.pieces[290] == b"<|endoftext|>"
    for text in (*TEXTS, "a<|endoftext|>b"):
        assert found.encode(text.encode()).tolist() == BPE.encode(text.encode()).tolist()
        assert found.decode(found.encode(text.encode())).decode() == text


def sentencepiece() -> tokenizers.Tokenizer:
    """Of Llama 2's kind: spaces as ▁ and one before every text, bytes for what is not in the vocabulary."""
    pieces = ["<unk>", *(f"<0x{i:02X}>" for i in range(256)), *"▁abcehmnorst", "▁c", "at", "▁cat"]
    merges = [("▁", "c"), ("a", "t"), ("▁c", "at")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    library = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    library.decoder = decoders.Sequence(steps)
    return library


def test_a_sentencepiece_tokenizer_of_hugging_face(tmp_path: Path) -> None:
    found = saved(tmp_path, sentencepiece()).fit(CORPUS, None)
    symbols = found.encode(b"the cat")
    assert [found.pieces[i] for i in symbols.tolist()] == [b"t", b"h", b"e", b" cat"], "no space before the text"
    kept = tokenizers.Tokenizer.from_str(found.model)
    for text in (*TEXTS, " two  spaces "):
        assert found.decode(found.encode(text.encode())).decode() == text
        assert kept.decode(found.encode(text.encode()).tolist()) == text, "the library decodes it as the lab does"
    assert found.decode(found.encode(b"\xff\xfe cat")) == b"\xff\xfe cat"


def test_a_tokenizer_that_loses_text_is_refused_with_the_first_difference(tmp_path: Path) -> None:
    library = tokenizers.Tokenizer.from_str(BPE.model)
    library.normalizer = normalizers.Lowercase()
    found = saved(tmp_path, library).fit(CORPUS, None)
    assert found.encode(b"small letters").tolist() == BPE.encode(b"small letters").tolist()
    with pytest.raises(
        ValueError, match=r"loses text: 'by a friend Called Ishma' comes back as 'by a friend called ishma'$"
    ):
        found.encode(b"written by a friend Called Ishmael, perhaps")

    words = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "hello": 1, "##s": 2}, unk_token="[UNK]"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    with pytest.raises(ValueError, match="'hellos there' comes back as 'hello##s"):
        saved(tmp_path / "words", words).fit(CORPUS, None).encode(b"hellos there")


@pytest.mark.parametrize("content", [None, {}, {"tokenizer.json": "{"}, {"config.json": "{}"}])
def test_a_folder_without_a_tokenizer_is_one_line(content: dict[str, str] | None, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name, text in (content or {}).items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    if content == {}:
        folder.mkdir()
    with pytest.raises(UserError) as caught:
        HuggingFace(path=str(folder), download=False).fit(CORPUS, None)
    assert str(caught.value).startswith(f"data.tokenizer.path={folder}: no tokenizer can be loaded from there (")
    assert "\n" not in str(caught.value)


def test_a_unigram_tokenizer_reads_what_it_can_spell(tmp_path: Path) -> None:
    """Metaspace with a space before every text, no bytes for the rest: known letters round trip, others do not."""
    library = tokenizers.Tokenizer(
        models.Unigram([("<unk>", -9.0), *((c, -3.0) for c in "▁aehtc"), ("▁the", -1.0)], 0)
    )
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    found = saved(tmp_path, library).fit(CORPUS, None)
    assert found.decode(found.encode(b"the cat the")) == b"the cat the"
    with pytest.raises(ValueError, match="the tokenizer loses text"):
        found.encode(b"the dog")


def test_added_tokens_keep_their_letters(tmp_path: Path) -> None:
    library = tokenizers.Tokenizer.from_str(BPE.model)
    library.add_tokens([AddedToken("zyzzyva", special=False), AddedToken("世 界", special=False)])
    found = saved(tmp_path, library).fit(CORPUS, None)
    text = "a zyzzyva, 世 界!".encode()
    assert found.decode(found.encode(text)) == text and 290 in found.encode(text)


def test_training_is_deterministic() -> None:
    models_of = {TrainedBPE(vocab_size=400).fit(CORPUS, None).model for _ in range(3)}
    assert len(models_of) == 1
