"""What the measures of texts count, on texts whose answer is known."""

import pytest

from aigc_lab.reproduce.texts import is_regulated, regular_lines, share_parsed

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


def test_a_function_is_cut_where_it_ends() -> None:
    whole = "f(x):\n    return x\n\n\nclass is no more of it"
    assert share_parsed([whole, "f(x:\n    return x\n", "f(): pass", 'f():\n    """open', "f\0"]) == 2 / 5
