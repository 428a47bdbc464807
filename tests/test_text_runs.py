"""Texts through the command line: any tokenizer trains, samples, resumes and can be scored."""

import json
import math
from pathlib import Path

import pytest
import tokenizers
import torch
from conftest import train_these

from aigc_lab.cli import main
from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data.samples import Texts
from aigc_lab.data.text import TextFile
from aigc_lab.evaluation.completions import complete, prompts
from aigc_lab.generators import Autoregressive, load
from aigc_lab.run import Run

POEM = "春眠不覺曉，處處聞啼鳥。\n夜來風雨聲，花落知多少。\n\nSpring, and asleep: who noticed the morning?\n\n"
TOKENIZERS = {
    "byte": ["data/tokenizer=byte"],
    "char": ["data/tokenizer=char"],
    "bpe": ["data/tokenizer=bpe", "data.tokenizer.vocab_size=300"],
    "hf": ["data/tokenizer=hf", "data.tokenizer.path=${data.path}.tokenizer"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three steps with each tokenizer, and with packing."""
    here = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        Path("poem.txt").write_text(POEM * 60, encoding="utf-8")
        Path("poem.txt.tokenizer").mkdir()
        library = tokenizers.ByteLevelBPETokenizer()
        library.train_from_iterator([POEM], vocab_size=280)
        library.save("poem.txt.tokenizer/tokenizer.json")
        for name, chosen in TOKENIZERS.items():
            assert main(["train", *small(here), *chosen, f"run_id={name}"]) == 0
    return {name: here / "runs/text_file_transformer" / name for name in TOKENIZERS}


def small(folder: Path) -> list[str]:
    return [
        "data=text_file",
        f"data.path={folder / 'poem.txt'}",
        "data.context=32",
        "data.passage=64",
        "data.batch_size=4",
        "model.network.width=16",
        "model.network.n_layers=1",
        "model.network.n_heads=2",
        "trainer.max_steps=3",
        "trainer.num_threads=1",
        "logger=none",
    ]


def test_packed_documents_are_read_by_weights_in_bfloat16(runs: dict[str, Path], tmp_path: Path) -> None:
    """trainer=fsdp's precision: Lightning takes every batch apart for it."""
    more = ["data.packing=true", "trainer.precision=bf16-true"]
    run = train_these(tmp_path / "runs", [*small(runs["byte"].parents[2]), *more])
    assert {tensor.dtype for tensor in load(run).state_dict().values()} == {torch.float32}


def opened(path: Path) -> tuple[Autoregressive, TextFile]:
    generator, config = load(path), Run.open(path).config()
    assert isinstance(generator, Autoregressive)
    return generator, build(config.data, path="data")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_run_opens_without_its_data(runs: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextFile, "_read", lambda self: pytest.fail("the data was read"))
    tokenizer = load(runs[name]).spec.tokenizer
    assert tokenizer is not None
    assert tokenizer.decode(tokenizer.encode(POEM.encode())).decode() == POEM
    recorded = json.loads((runs[name] / "run.json").read_text())["data"]["tokenizer"]
    assert recorded == {"kind": tokenizer.kind, "hash": tokenizer.hash}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_prompt_is_continued(runs: dict[str, Path], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(runs[name]), "-n", "2", "--prompt", "春眠", "--length", "5"]) == 0
    texts = capsys.readouterr().out.split("\n" + "-" * 72 + "\n")
    assert len(texts) == 2 and all(text.startswith("春眠") for text in texts)


def test_an_option_that_is_no_finite_number_is_one_line(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--temperature", "nan"), ("--temperature", "inf"), ("--min-p", "nan")):
        assert main(["sample", str(runs["byte"]), option, value]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert option in line and line.endswith(f"{value} is no finite number")


def test_a_search_takes_the_room_that_a_prompt_leaves(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The context is 32, a passage 64 bytes; a file is called by how many texts are in it."""
    search = ["sample", str(runs["byte"]), "--beams", "2"]
    for prompt in ("春眠", "x" * 31):
        assert main([*search, "--prompt", prompt, "--output", str(tmp_path / "text")]) == 0
        written = (tmp_path / "text").read_text(encoding="utf-8").removesuffix("\n").encode()
        assert written.startswith(prompt.encode()) and len(written) >= 32
    assert main([*search, "--prompt", "x" * 32]) == 2
    assert capsys.readouterr().err.endswith("1 symbols exceed the context of 32\n")
    assert main(search) == 0
    assert capsys.readouterr().out.endswith("/samples/seed0-n1.txt\n")


def test_a_character_that_the_training_text_lacks_is_one_line(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(runs["char"]), "--prompt", "龍"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "aigc: --prompt: the character '龍' is not in the vocabulary of the training data"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_samples_are_passages_of_whole_characters(runs: dict[str, Path], name: str) -> None:
    generator, _ = opened(runs[name])
    samples = generator.sample(5, rng=torch.Generator().manual_seed(0))
    assert isinstance(samples, Texts)
    assert all(61 <= len(p) <= 64 for p in samples.passages), "64 but for a character cut in two"
    assert (generator.log_likelihood(samples, rng=torch.Generator()).nats < 0).all(), "they can be read again"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_bits_are_counted_by_bytes_of_the_text(runs: dict[str, Path], name: str) -> None:
    """By hand: the mean nats of a symbol times the symbols of the text, by its bytes. Where a text has several
    spellings, the likelihood of one is a bound."""
    generator, data = opened(runs[name])
    text = POEM.encode()[: 3 * 8].decode().encode()
    (symbols,) = generator.spec.encode(Texts([text]))
    assert len(symbols) <= generator.network.context
    with torch.inference_mode():
        log_p = generator.logits(symbols[None]).log_softmax(-1)[0].gather(1, symbols[:, None])
    likelihood = generator.log_likelihood(Texts([text]), rng=torch.Generator())
    by_hand = -float(log_p.sum()) / math.log(2) / len(text)
    assert likelihood.bits_per_byte() == pytest.approx(by_hand, rel=1e-5)
    assert likelihood.kind == ("lower bound" if name in ("bpe", "hf") else "exact")
    held_out = data.likelihood_items("held_out")
    assert generator.log_likelihood(held_out, rng=torch.Generator()).n_bytes.sum() == sum(
        map(len, held_out.passages)
    )


@pytest.mark.parametrize("name", TOKENIZERS)
def test_prompts_are_continued_for_as_many_bytes_as_the_real_text_has(runs: dict[str, Path], name: str) -> None:
    generator, data = opened(runs[name])
    asked = prompts(data.real("held_out"))
    assert len(asked) == len(data.real("held_out")), "every passage begins between characters"
    for completion in complete(generator, asked, torch.Generator().manual_seed(0)):
        assert 0 <= len(completion.real) - len(completion.generated) <= 3


def test_a_tokenizer_that_changed_stops_a_resumed_run(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs["hf"]
    recorded = json.loads((path / "run.json").read_text())
    recorded["status"] = "interrupted"
    recorded["data"]["tokenizer"]["hash"] = "0" * 64
    before = (path / "run.json").read_text()
    (path / "run.json").write_text(json.dumps(recorded))
    try:
        assert main(["resume", str(path)]) == 2
    finally:
        (path / "run.json").write_text(before)
    assert capsys.readouterr().err.endswith("the tokenizer has changed since the run began\n")


def test_a_run_of_an_earlier_version_is_one_line(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    description = runs["byte"] / "checkpoints/weights.json"
    before = description.read_text()
    values = json.loads(before)
    values["spec"] |= {"vocabulary": None}
    del values["spec"]["tokenizer"]
    description.write_text(json.dumps(values))
    try:
        assert main(["sample", str(runs["byte"])]) == 2
    finally:
        description.write_text(before)
    assert "or of another version of the lab: expected the" in capsys.readouterr().err.splitlines()[-1]


def test_the_order_of_training_windows_is_a_function_of_the_position(runs: dict[str, Path]) -> None:
    """Whether the symbols lie in memory or in a file."""
    from aigc_lab.data.stream import TrainingStream

    config = Composer().train([*small(runs["bpe"].parents[2]), *TOKENIZERS["bpe"]])
    on_disk = build(config.data, path="data", supplied={"cache_dir": config.paths.cache})
    in_memory = build(config.data, path="data")

    def batches(data: TextFile, position: int) -> list[torch.Tensor]:
        stream = TrainingStream(data.gather, n_items=data.n_items, batch_size=4, n_batches=12, seed=0)
        stream.load_state_dict({"position": position})
        return list(stream)

    assert torch.equal(torch.stack(batches(on_disk, 5)), torch.stack(batches(in_memory, 0)[5:]))
