"""Pairs of texts: what stands in a file, in which part, and how mistakes in it are answered."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lab.data.dates import DIGITS, FORMS, WEEKDAYS, TranslatedDates, chinese, english
from aigc_lab.data.packing import PADDING
from aigc_lab.data.pairs import PairFile
from aigc_lab.data.tokenizing import ByBytes, ByCharacters, HuggingFace, Tokenizing
from aigc_lab.errors import UserError


def pair_file(path: Path, **changes: Any) -> PairFile:
    common: dict[str, Any] = {"batch_size": 4, "context": 16, "tokenizer": ByBytes()}
    return PairFile(**common | {"path": str(path), "validation": 0.1, "test": 0.2} | changes)


def dates(**changes: Any) -> TranslatedDates:
    common: dict[str, Any] = {"batch_size": 4, "context": 64, "tokenizer": ByCharacters()}
    return TranslatedDates(**common | {"n_train": 3000, "n_validation": 300, "n_test": 500} | changes)


@pytest.mark.parametrize(
    ("when", "form", "source", "target"),
    [
        (date(1905, 3, 23), 0, "the twenty-third of March, nineteen oh five", "一九〇五年三月二十三日"),
        (date(2006, 12, 10), 1, "December the tenth, two thousand six", "二〇〇六年十二月十日"),
        (date(1900, 1, 12), 2, "Friday, January 12, 1900", "一九〇〇年一月十二日星期五"),
        (date(2019, 11, 3), 3, "3 November 2019, a Sunday", "二〇一九年十一月三日星期日"),
        (date(2000, 5, 31), 0, "the thirty-first of May, two thousand", "二〇〇〇年五月三十一日"),
        (date(1880, 8, 20), 4, "Friday the twentieth of August eighteen eighty", "一八八〇年八月二十日星期五"),
    ],
)
def test_dates_by_hand(when: date, form: int, source: str, target: str) -> None:
    assert english(when, FORMS[form]) == source
    assert chinese(when, weekday="{weekday}" in FORMS[form]) == target


@given(st.dates(date(1800, 1, 1), date(2099, 12, 31)))
def test_the_chinese_date_says_which_day_it_is(when: date) -> None:
    """Read back by another rule: digits by their places in the alphabet of numerals, 十 as a ten."""
    year, rest = chinese(when, weekday=True).split("年")
    month, rest = rest.split("月")
    day, weekday = rest.split("日星期")

    def value(numeral: str) -> int:
        tens, ten, ones = numeral.rpartition("十")
        return (DIGITS.index(tens) if tens else 1) * 10 * bool(ten) + (DIGITS.index(ones) if ones else 0)

    assert (int("".join(str(DIGITS.index(c)) for c in year)), value(month), value(day)) == when.timetuple()[:3]
    assert "一二三四五六日".index(weekday) == when.weekday() == WEEKDAYS.index(english(when, "{weekday}"))


def test_no_date_stands_in_two_parts() -> None:
    """Nor does a smaller training part change what is tested on."""
    data = dates()
    targets = [set(data.real(split).targets.passages) for split in ("train", "held_out")]
    validation = {p.target.encode() for p in data._pairs["validation"]}
    days = [{t[: t.index("日".encode())] for t in part} for part in (*targets, validation)]
    assert [len(part) for part in days] == [3000, 500, 300]
    assert not days[0] & days[1] and not days[0] & days[2] and not days[1] & days[2]
    assert dates(n_train=10).real("held_out") == data.real("held_out")


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
def test_a_file_of_pairs(tmp_path: Path, suffix: str) -> None:
    """Every pair stands in one part, all pairs of one source in the same, whatever the order of the lines."""
    written = [(f"source {i}", f"目 {i % 7}") for i in range(40)] + [("source 3", "another"), ("source 3", "目 3")]
    lines = [
        json.dumps({"source": a, "target": b, "more": 1}) if suffix == ".jsonl" else f"{a}\t{b}"
        for a, b in written
    ]
    path = tmp_path / f"pairs{suffix}"
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    data = pair_file(path)
    parts = {name: [(p.source, p.target) for p in part] for name, part in data._pairs.items()}
    assert sorted(pair for part in parts.values() for pair in part) == sorted({*written})
    sources = {name: {source for source, _ in part} for name, part in parts.items()}
    assert [len(sources[name]) for name in ("train", "validation", "test")] == [28, 4, 8]
    assert sum(map(len, sources.values())) == len(set.union(*sources.values()))
    path.write_text("\n".join(reversed(lines)), encoding="utf-8")
    again = {name: {p.source for p in part} for name, part in pair_file(path)._pairs.items()}
    assert again == sources

    batch = data.gather(torch.zeros(3, dtype=torch.long), torch.arange(3))
    assert batch.shape[:2] == (3, 2)
    tokenizer = data.spec.tokenizer
    assert tokenizer is not None
    for row, pair in zip(batch, data._pairs["train"], strict=False):
        assert [tokenizer.decode(side[side != PADDING]).decode() for side in row] == [pair.source, pair.target]


GOOD = '{"source": "a", "target": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "data.path={path}: no such file"),
        ("pairs.csv", GOOD, "data.path={path}: should end in .jsonl or .tsv"),
        ("empty.jsonl", " \n", "data: {path} is empty"),
        ("latin.tsv", b"caf\xe9\tx", "data: {path} is not UTF-8 text"),
        ("a.jsonl", GOOD + '{"source": "a"}', "data: {path}, line 2: the field 'target' is missing"),
        ("b.jsonl", '{"source": "a", "target": 3}', "data: {path}, line 1: the field 'target' is no text"),
        ("c.jsonl", "\n" + GOOD + "[1]", "data: {path}, line 3: is no JSON object with the fields"),
        ("d.jsonl", "{", "data: {path}, line 1: is not JSON (Expecting property name"),
        (
            "h.jsonl",
            GOOD + '{"source": "a", "target": "\\ud83d."}',
            'data: {path}, line 2: is no text: "\\ud83d" is',
        ),
        ("e.tsv", "a\tb\na b", "data: {path}, line 2: has 1 columns, and a pair has 2, with a tab in between"),
        ("f.tsv", "a\tb\nc\td", "data: {path} has 2 different sources, too few for data.test=0.2"),
        (
            "g.tsv",
            "a\tb\nc\td\ne\t" + "long " * 4,
            "data: {path}, line 3: the target has 20 symbols and an end, but data.context=16",
        ),
    ],
)
def test_a_mistake_in_a_file_is_one_line(
    tmp_path: Path, name: str, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        _ = pair_file(path).spec
    assert str(error.value).startswith(message.format(path=path)) and "\n" not in str(error.value)


def test_characters_that_a_tokenizer_lacks_are_one_line(tmp_path: Path) -> None:
    import tokenizers

    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    library.save(str(tmp_path / "tokenizer.json"))
    chosen: Tokenizing = HuggingFace(path=str(tmp_path), download=False)
    path = tmp_path / "pairs.tsv"
    path.write_text("a\ta\n" * 3 + "a\tä\na \ta\n  a\ta\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"pairs.tsv, line \d: the (source|target): the tokenizer loses text: "):
        _ = pair_file(path, tokenizer=chosen).spec
