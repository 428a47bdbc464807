"""What the measures of texts count, on texts whose answer is known."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aigc_lab.data.samples import Texts
from aigc_lab.reproduce import texts
from aigc_lab.reproduce.texts import RegulatedVerse, is_regulated, regular_lines, share_parsed

QUATRAIN = "靜夜思\n李白\n床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。"
OCTAVE = "登高\n杜甫\n" + "\n".join(
    [
        "風急天高猿嘯哀，渚清沙白鳥飛回。",
        "無邊落木蕭蕭下，不盡長江滾滾來。",
        "萬里悲秋常作客，百年多病獨登臺。",
        "艱難苦恨繁霜鬢，潦倒新停濁酒杯。",
    ]
)


@pytest.mark.parametrize(
    ("poem", "regulated"),
    [
        (QUATRAIN, True),
        (OCTAVE + "\n", True),
        (QUATRAIN.replace("疑是", "疑"), False),
        (QUATRAIN + "\n舉頭望明月，低頭思故鄉。", False),
        (QUATRAIN + OCTAVE[OCTAVE.index("甫") + 1 :], False),
        ("靜夜思\n床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。", False),
        ("靜夜思\n李白", False),
        ("", False),
    ],
    ids=[
        "quatrain",
        "octave",
        "a short half",
        "three lines",
        "two lengths",
        "no poet",
        "no line",
        "nothing",
    ],
)
def test_the_form_of_regulated_verse(poem: str, regulated: bool) -> None:
    assert is_regulated(poem) == regulated


def test_the_share_of_regular_lines() -> None:
    assert regular_lines([QUATRAIN, QUATRAIN.replace("疑是", "疑")]) == 0.75
    assert regular_lines(["題\n人"]) == 0


def test_verse_is_judged_beside_that_of_real_poems(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of four written poems has the form, and two of three held-out ones."""
    written = [QUATRAIN + "\n\nanother", QUATRAIN[:-3], OCTAVE[:-3], ""]
    held_out = SimpleNamespace(likelihood_items=lambda _: Texts([p.encode() for p in (QUATRAIN, OCTAVE, "題")]))
    trial: Any = SimpleNamespace(dataset=held_out, rng=torch.Generator)
    monkeypatch.setattr(texts, "_continuations", lambda *_, **__: written)
    found = RegulatedVerse(n=3, length=400)(trial)
    assert (found["verse"], found["verse_real"]) == pytest.approx((1 / 4, 2 / 3))
    assert found["verse_of_real"] == pytest.approx(3 / 8)


def test_a_function_is_cut_where_it_ends() -> None:
    whole = "f(x):\n    return x\n\n\nclass is no more of it"
    assert share_parsed([whole, "f(x:\n    return x\n", "f(): pass", 'f():\n    """open', "f\0"]) == 2 / 5
