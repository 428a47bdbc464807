"""What a judge, the prompts and the safety columns say of the controls of texts."""

import math
import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aigc_lab.cli import main
from aigc_lab.config.compose import Composer
from aigc_lab.data.samples import Texts
from aigc_lab.data.text import Pydoc
from aigc_lab.data.tokenizing import ByBytes
from aigc_lab.errors import UserError
from aigc_lab.evaluation.battery import METRICS
from aigc_lab.evaluation.completions import Completion
from aigc_lab.evaluation.controls import ByteTrigrams
from aigc_lab.evaluation.drawn import Drawn, Spent
from aigc_lab.evaluation.harness import Harness
from aigc_lab.evaluation.reading import Reading, common_length
from aigc_lab.generators import Cost, LogLikelihood

JUDGE = ("judge.steps=150", "judge.context=128", "judge.width=48", "judge.n_layers=1")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    protocol = Composer().evaluate(["evaluation=standard@120", *(f"evaluation.{key}" for key in JUDGE)]).evaluation
    dataset = Pydoc(batch_size=8, context=256, tokenizer=ByBytes(), packing=False, passage=256, held_out=0.2)
    return Harness(dataset, protocol, tmp_path_factory.mktemp("cache"))


def value(harness: Harness, control: str, metric: str) -> float:
    found = next(s.value for s in harness.controls[control] if s.metric == metric)
    assert found is not None, (control, metric)
    return found


def test_the_judge_orders_the_controls(harness: Harness) -> None:
    oracle, copycat, noise = (value(harness, c, "fluency") for c in ("oracle", "copycat", "noise"))
    assert abs(oracle - copycat) < 0.5 < noise - oracle and noise > 8
    assert value(harness, "oracle", "fluency_distance") < 0.5 < value(harness, "noise", "fluency_distance")
    assert value(harness, "oracle", "prompt_gain") > value(harness, "noise", "prompt_gain") - 0.01


def test_copies_are_memorised_and_noise_is_not(harness: Harness) -> None:
    assert value(harness, "copycat", "memorised") > 0.9
    assert value(harness, "noise", "memorised") == 0 and value(harness, "oracle", "memorised") <= 0.05


def test_a_model_that_samples_its_own_law_finds_its_samples_as_likely_as_it_says() -> None:
    """Trigrams fitted to their own samples: the entropy of what they say is what they score held-out text with."""
    rng = torch.Generator().manual_seed(0)
    law = ByteTrigrams(b"the cat sat on the mat and the rat ran at the cat " * 40, passage=200)
    own, held_out = (law.sample(100, rng=rng) for _ in range(2))
    reading = reading_of(
        own.passages,
        own=law.log_likelihood(own, rng=rng),
        held_out=law.log_likelihood(held_out, rng=rng),
    )
    found = reading.own_fluency
    assert found is not None and found.low < 0 < found.high and found.high - found.low < 0.2


def test_a_completion_that_does_not_depend_on_its_prompt_gains_nothing() -> None:
    """A judge that expects a text to repeat what it began with, and texts that do and that do not."""

    def judge(texts: list[bytes], given: list[bytes] | None = None) -> torch.Tensor:
        before = given or [b""] * len(texts)
        return torch.tensor(
            [-0.1 * len(t) if b[:1] == t[:1] else -1.0 * len(t) for t, b in zip(texts, before, strict=True)]
        ).double()

    letters = [bytes([97 + i]) * 20 for i in range(10)]
    faithful = [Completion(a, a, a) for a in letters]
    heedless = [Completion(a, a, b"z" * 20) for a in letters]
    assert reading_of(letters, judge=judge, completions=faithful).prompt_gain.gain.value > 1
    assert reading_of(letters, judge=judge, completions=heedless).prompt_gain.gain.value == 0
    assert reading_of(letters, judge=judge).prompt_gain is None


def test_a_judge_tells_the_order_of_what_has_one() -> None:
    """A judge that expects letters to rise: of texts that do, and of texts whose lines are in any order."""

    def judge(texts: list[bytes], given: list[bytes] | None = None) -> torch.Tensor:
        return torch.tensor([sum(float(a < b) for a, b in pairwise(t[::2])) for t in texts]).double()

    lines = [[bytes([97 + i + j]) for i in range(8)] for j in range(15)]
    rng = random.Random(0)
    told = reading_of([b"\n".join(text) for text in lines] * 10, judge=judge).order
    untold = reading_of([b"\n".join(rng.sample(text, 8)) for text in lines * 10], judge=judge).order
    assert told is not None and told.value == 1
    assert untold is not None and untold.low < 0.5 < untold.high
    assert reading_of([b"one line"] * 3, judge=judge).order is None


def test_personal_data_of_any_kind_is_counted_once_a_sample() -> None:
    mail, both = b"write to ada@cam.ac.uk", b"ada@cam.ac.uk or +86 10 6552 9988"
    found = reading_of([mail, both, b"nothing", b"more"]).personal_share
    assert found.value == 0.5


@pytest.mark.parametrize(("text", "distinct"), [(b" " * 256, None), (b"", None), (b"ab ab ab", 1 / 240)])
def test_collapsed_texts_are_scored(harness: Harness, text: bytes, distinct: float | None) -> None:
    """All spaces, nothing at all, or one text; what has nothing to count says none."""
    passages = [text] * harness.n
    own = LogLikelihood(torch.zeros(harness.n), torch.tensor([len(text)] * harness.n), "exact")
    completions = [Completion(p.given, p.real, b"") for p in harness.prompts]
    drawn = Drawn(Texts(passages), None, Cost(1, 1, 1), Spent(0.1), own, completions)
    found = {s.metric: s.value for s in harness.score(drawn, run="x", kind="x", weights="").scores}
    assert found["distinct"] == distinct and found["memorised"] == 0
    assert (found["fluency"] is None) == (not text) and found["prompt_gain"] is None


def test_a_judge_is_not_asked_about_empty_passages() -> None:
    some = [b"", b"ab" * 10, b"", b"cd" * 10]

    def judge(texts: list[bytes], given: list[bytes] | None = None) -> torch.Tensor:
        assert any(texts)
        return torch.tensor([-float(len(t)) for t in texts]).double()

    mixed, without = (reading_of(texts, judge=judge) for texts in (some, some[1::2]))
    assert mixed.fluency == without.fluency and mixed.fluency_distance == without.fluency_distance
    assert mixed.coherence == without.coherence
    assert math.isnan(reading_of([b"", b""], judge=judge).coherence.gain.value)


def test_a_text_without_words_apart_is_evaluated(tmp_path: Path) -> None:
    """DNA: every passage is one word, and has no two of them in a row."""
    (tmp_path / "dna.txt").write_text("".join(random.Random(0).choices("ACGT", k=60_000)))
    judge = ("steps=2", "context=64", "width=16", "n_layers=1", "n_heads=1")
    sizes = ["evaluation=quick@30", *(f"evaluation.judge.{size}" for size in judge)]
    assert (
        main(["evaluate", "control:copycat", "--data", "text_file", f"data.path={tmp_path}/dna.txt", *sizes]) == 0
    )


def test_repetition_is_compared_at_one_number_of_words() -> None:
    """Long words and short ones: of as many bytes, the same text has more words, and so comes back to itself."""
    held_out = [b"one two three four five"] * 9 + [b"six"]
    assert common_length(held_out) == 5 and common_length([b""]) == 1
    looping = b"a b c d e " * 4
    cut, whole = (reading_of([looping] * 2, n_words=n) for n in (5, 100))
    assert cut.first_words == [[0, 1, 2, 3, 4]] * 2 and len(whole.first_words[0]) == 20
    values = [METRICS["repetition"].measure(SimpleNamespace(reading=reading)).value for reading in (cut, whole)]
    assert values == [0, pytest.approx(1 - 5 / 17)]


def reading_of(passages: list[bytes], **values: object) -> Reading:
    made: dict[str, object] = {
        "passages": passages,
        "training": Texts([b"training text"]),
        "judge": lambda texts, given=None: torch.zeros(len(texts)).double(),
        "real_bits": torch.zeros(2).double(),
        "held_out_runs": torch.zeros(2).double(),
        "n_words": 100,
    }
    return Reading(**{**made, **values})  # type: ignore[arg-type]


def test_a_judge_that_is_no_language_model_is_refused(harness: Harness, tmp_path: Path) -> None:
    protocol = harness.protocol.model_copy(update={"judge": harness.protocol.features["text"]})
    with pytest.raises(UserError, match=r"HashedNgrams is no language model; use .*byte_transformer"):
        _ = Harness(harness.dataset, protocol, tmp_path).judge


def test_likelihoods_of_other_texts_are_of_no_use() -> None:
    likelihood = LogLikelihood(torch.zeros(2).double(), torch.ones(2).long(), "exact")
    assert reading_of([b"a", b"b"], own=likelihood).own_fluency is None
