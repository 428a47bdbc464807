from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aigc_lab.data.samples import Images, Texts
from aigc_lab.data.spec import DataSpec
from aigc_lab.data.tokens import Bytes
from aigc_lab.evaluation.completions import Prompt, complete, prompts
from aigc_lab.evaluation.exhibit import Continuation, Exhibit, TextPair
from aigc_lab.evaluation.safety import Finding, Safety

SPEC = DataSpec(
    name="prose",
    modality="text",
    shape=(8,),
    vocab_size=256,
    tokenizer=Bytes(),
    passage=16,
    n_classes=0,
    n_train=1,
    n_held_out=1,
    content_hash="",
)


@dataclass
class Parrot:
    """Goes on with random capitals."""

    spec: DataSpec = SPEC

    def continue_bytes(self, prompt_BP: Tensor, n_bytes: int, *, rng: torch.Generator) -> Tensor:
        return torch.cat([prompt_BP, torch.randint(65, 91, (len(prompt_BP), n_bytes), generator=rng)], 1)


def seeded(i: int) -> torch.Generator:
    return torch.Generator().manual_seed(i)


def test_an_exhibit_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    for i, exhibit in enumerate(
        [
            Exhibit(sheet=b"png", neighbours=b"png too", frontier=[(0.0, 1.0), (1.0, 0.0)]),
            Exhibit(
                texts=[TextPair("a", "b", 1)],
                continuations=[Continuation("好", "b", "c\ufffd")],
                safety=Safety(0.1, 0.01, [Finding("e-mail", 0.5, 0.0, 2, 1, ["a…b"])], ["nurse"], ["pilot"]),
            ),
        ]
    ):
        exhibit.save(tmp_path / str(i), key="raw@6#0")
        again = Exhibit.load(tmp_path / str(i), key="raw@6#0")
        for part in ("sheet", "neighbours", "texts", "continuations", "frontier", "safety"):
            mine, theirs = getattr(exhibit, part), getattr(again, part)
            assert mine == theirs or not (mine or theirs)


def test_an_exhibit_of_something_else_is_recognised(tmp_path: Path) -> None:
    exhibit = Exhibit(sheet=b"png", frontier=[(0.0, 1.0)])
    exhibit.save(tmp_path, key="raw@6#0")
    with pytest.raises(ValueError, match="not the samples of raw@9#1"):
        Exhibit.load(tmp_path, key="raw@9#1")
    (tmp_path / "sheet.png").write_bytes(b"another")
    with pytest.raises(ValueError, match="not the samples of raw@6#0"):
        Exhibit.load(tmp_path, key="raw@6#0")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"key": "raw@6#0", "pictures": {"sheet": ""}, '
        '"texts": [], "continuations": [], "frontier": [], "safety": null}',
        '{"key": "raw@6#0", "pictures": {"../x": ""}, '
        '"texts": [{"a": 1}], "continuations": [], "frontier": [1], "safety": null}',
    ],
)
def test_a_damaged_exhibit_is_recognised(content: str, tmp_path: Path) -> None:
    (tmp_path / "exhibit.json").write_text(content)
    with pytest.raises((OSError, ValueError, TypeError)):
        Exhibit.load(tmp_path, key="raw@6#0")


def test_prompts_are_cut_between_characters() -> None:
    (first, broken) = prompts(Texts(["一二三四".encode(), b"\xff" * 8]))
    assert first == Prompt("一".encode(), "二三四".encode())
    assert broken == Prompt(b"", b"\xff" * 8), "an invalid passage has no beginning that can be read"
    assert prompts(Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), 2)) == []


def test_prompts_are_continued_together_where_their_lengths_agree() -> None:
    asked = [Prompt(b"once ", b"upon a time"), Prompt(b"twice ", b"then"), Prompt(b"there ", b"here")]
    seen = []

    @dataclass
    class Counted(Parrot):
        def continue_bytes(self, prompt_BP: Tensor, n_bytes: int, *, rng: torch.Generator) -> Tensor:
            seen.append(len(prompt_BP))
            return super().continue_bytes(prompt_BP, n_bytes, rng=rng)

    found = complete(Counted(), asked, torch.Generator().manual_seed(0))
    assert seen == [1, 2] and [len(c.generated) for c in found] == [11, 4, 4]
    assert [(c.given, c.real) for c in found] == [(p.given, p.real) for p in asked], "in their order"
    assert all(c.generated.isupper() for c in found), "without the prompt"
    assert found[1].generated != found[2].generated, "with noise of its own"
    assert complete(Counted(), asked, torch.Generator().manual_seed(0)) == found
    assert complete(object(), asked, torch.Generator()) == []
    pixels = Parrot(replace(SPEC, modality="image", tokenizer=None))
    assert complete(pixels, [], torch.Generator()) == [], "images have no prompts"
