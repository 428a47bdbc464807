"""`aigc chat` and `aigc write` on a run that has learnt to answer."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import train_these
from transformers import AutoModelForCausalLM, AutoTokenizer

from aigc_lab.chatting import Conversation, Speaker
from aigc_lab.cli import main
from aigc_lab.config.compose import Composer
from aigc_lab.decoding import Sampling
from aigc_lab.generators import load
from aigc_lab.tasks import prompt

QUESTIONS = {"What is red?": "a colour", "What is two?": "a number", "春?": "眠"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte Transformer, of Qwen3's kind, that knows three answers by heart."""
    here = tmp_path_factory.mktemp("chat")
    lines = [{"prompt": q, "response": a, **s} for q, a in QUESTIONS.items() for s in ({}, {"system": "Hm."})]
    (here / "talk.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines * 10))
    data = ["data=instructions", f"data.path={here / 'talk.jsonl'}", "data.context=64", "data.passage=8"]
    size = ["model.network.width=32", "model.network.n_layers=2", "model.network.n_heads=2", "data.batch_size=8"]
    return train_these(
        here / "runs", [*data, *size, "model.network.feed_forward=swiglu", "model.lr=1e-2", "trainer.max_steps=80"]
    )


Chat = Callable[..., tuple[str, str]]


@pytest.fixture
def chat(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Chat:
    """chat("a line", "--temperature", "0") -> what it printed on stdout and on stderr."""

    def talk(said: str, *options: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        assert main(["chat", str(run), *options]) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    return talk


def test_each_line_is_answered_until_quit(chat: Chat) -> None:
    said = "What is red?\n\n/reset\n春?\n/reset\nWhat is two?\n/quit\nWhat is red?\n"
    out, err = chat(said, "--temperature", "0", "--length", "20")
    assert out == "a colour\n眠\na number\n"
    assert err.count("begins anew") == 2
    assert chat("What is two?", "--temperature", "0", "--system", "Hm.")[0] == "a number\n"
    drawn = ["--temperature", "3", "--seed", "1", "--length", "9"]
    assert chat("What is red?", *drawn) == chat("What is red?", *drawn)


def test_what_was_said_is_remembered_as_far_as_the_context_goes(run: Path) -> None:
    """The oldest question goes with its answer, the system message stays, and the user hears of it."""
    told: list[str] = []
    speaker = Speaker.of(load(run), "run")
    talk = Conversation(speaker, "Hm.", 0, Sampling(temperature=0), 16, lambda _: None, told.append)
    talk.read(["What is red?", "春?", "What is two?"])
    contents = [message["content"] for message in talk.history]
    assert contents[0] == "Hm." and contents[-2] == "What is two?" and "What is red?" not in contents
    assert len(contents) % 2 == 1 and len(speaker.prompt(talk.history[:-1])) + 16 < 64
    assert told and all("the context of 64 symbols is full: the oldest" in line for line in told)


def test_a_stream_is_the_response_in_whole_characters(run: Path) -> None:
    speaker = Speaker.of(load(run), "run")
    how = {"sampling": Sampling(temperature=2.0), "length": 30}
    for seed in range(5):
        messages = [{"role": "user", "content": "春?"}]
        pieces = list(speaker.streamed(messages, seed=seed, **how))
        (whole,) = speaker.respond([messages], seeds=[seed], **how)
        assert "".join(pieces) == whole
    assert torch.is_inference_mode_enabled() is False


def test_samples_end_where_those_of_the_exported_run_end(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Greedy and by a search, what `generate` writes; an answer that is not by heart may be of any length."""
    assert main(["export", str(run), "--to", str(tmp_path / "out")]) == 0
    model, tokenizer = (auto.from_pretrained(tmp_path / "out") for auto in (AutoModelForCausalLM, AutoTokenizer))
    for question, answer in {**QUESTIONS, "What is it?": None}.items():
        asked = f"User: {question}\nAssistant: "
        for options, theirs in ((["-n", "1", "--temperature", "0"], {}), (["--beams", "3"], {"num_beams": 3})):
            capsys.readouterr()
            assert main(["sample", str(run), "--prompt", asked, "--length", "20", *options]) == 0
            written = capsys.readouterr().out.removesuffix(f"samples: {run}/samples/seed0-n1.txt\n")
            read = tokenizer(asked, return_tensors="pt")
            (found,) = model.generate(**read, do_sample=False, max_new_tokens=20, **theirs)
            assert written == tokenizer.decode(found, skip_special_tokens=True) + "\n"
            assert answer is None or written == f"{asked}{answer}\n"


def test_a_task_fills_in_its_template(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "write").mkdir()
    (tmp_path / "write/guess.jinja").write_text("What is {{ thing }}?\n")
    mine = ["write", str(run), "--config-dir", str(tmp_path), "--task", "guess", "--temperature", "0"]
    assert main([*mine, "--field", "thing=red"]) == 0
    assert capsys.readouterr().out == "a colour\n"
    for task, given in (
        ("summary", ["text=x"]),
        ("article", ["topic=x", "style=y"]),
        ("ad", ["product=x"]),
        ("code", ["task=x"]),
        ("qa", ["question=x", "text=y"]),
        ("translate", ["to=French", "text=x"]),
    ):
        fields = [option for field in given for option in ("--field", field)]
        asked = prompt(task, dict(field.split("=") for field in given), [Composer().conf])
        fits = not Speaker.of(load(run), "run").unread([{"role": "user", "content": asked}])
        assert main(["write", str(run), "--task", task, *fields, "--length", "2"]) == (0 if fits else 2)
        assert fits or "longer than the model can read at once" in capsys.readouterr().err


@pytest.mark.parametrize(
    "template", ["What is {{ thing }?", "{{ 1 / 0 }}{{ thing }}", "{{ thing|nofilter }}", "{{ thing.foo.bar }}"]
)
def test_a_wrong_template_is_one_line(
    run: Path, tmp_path: Path, template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "write").mkdir()
    (tmp_path / "write/guess.jinja").write_text(template)
    mine = ["write", str(run), "--config-dir", str(tmp_path), "--task", "guess", "--field", "thing=red"]
    assert main(mine) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"aigc: {tmp_path}/write/guess.jinja: ")


def test_a_question_longer_than_the_context_is_told(chat: Chat) -> None:
    _, told = chat("x" * 100 + "\n", "--length", "2")
    assert "its first " in told and "symbols are not seen" in told


def test_a_line_that_is_no_text_is_told(chat: Chat) -> None:
    _, told = chat("\udcff\n", "--length", "2")
    assert "this line is not UTF-8 text" in told


def test_what_cannot_be_asked_is_one_line(
    run: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for command, says in (
        (["chat", str(trained["text"])], "has learnt no chat template; train it further on conversations"),
        (["chat", str(trained["gan"])], "is no language model of texts"),
        (["write", str(trained["text"]), "--task", "qa", "--field", "question=x"], "has learnt no chat template"),
    ):
        capsys.readouterr()
        assert main(command) == 2
        assert says in capsys.readouterr().err.splitlines()[-1]
