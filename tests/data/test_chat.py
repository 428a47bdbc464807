"""Conversations as symbols: what `transformers` makes of a template, and which symbols are learnt."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data.chat import Chat, ChatFormat, Message
from aigc_lab.data.corpora import Corpus, InMemory
from aigc_lab.data.instructions import Conversations, Instructions, Preferences
from aigc_lab.data.jsonl import records
from aigc_lab.data.packing import IGNORED, Windows
from aigc_lab.data.questions import WORDINGS, PydocQuestions
from aigc_lab.data.spec import Split
from aigc_lab.data.tokenizing import HuggingFace
from aigc_lab.data.tokens import Bytes, byte_alphabet
from aigc_lab.errors import UserError

CHATML = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] | trim + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "春眠 <|im_end|> and  spaces\n"},
    {"role": "assistant", "content": "不覺曉"},
    {"role": "user", "content": "And then?"},
    {"role": "assistant", "content": "鳥 <|im_start|>"},
]


EMPTY = Corpus.of("empty", InMemory([]), separator=b"", held_out=[])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer of bytes with ChatML's template, as `save_pretrained` leaves it."""
    library = Tokenizer(models.BPE(vocab=dict(byte_alphabet()), merges=[]))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    library.add_special_tokens(["<|im_start|>", "<|im_end|>", "<s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=library, bos_token="<s>", eos_token="<|im_end|>")
    fast.chat_template = CHATML
    fast.save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_a_tokenizers_own_template_gives_the_symbols_that_transformers_gives(folder: Path) -> None:
    """But for the end, which is the lab's start symbol, the beginning, which the lab puts there itself, and
    special symbols that a message spells out: there they are text."""
    tokenizing = HuggingFace(path=str(folder), download=False)
    form, tokenizer = tokenizing.chat(), tokenizing.fit(EMPTY, None)
    assert form is not None and (form.begin, form.end) == ("<s>", "<|im_end|>")
    chat, theirs = Chat(tokenizer, form), PreTrainedTokenizerFast.from_pretrained(folder)
    start, (im_start, im_end) = tokenizer.vocab_size, theirs.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    harmless = [{**m, "content": m["content"].replace("<|", "<").replace("|>", ">")} for m in TALK]
    for messages, prompt in ((harmless, False), (harmless[:2], True), (harmless[:4], True)):
        expected = theirs.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
        found = chat.encode(messages, prompt=prompt).symbols.tolist()
        expected = [start if i == im_end else i for i in expected[1:]]
        assert found == (expected if prompt else expected[:-1]), "the line break behind the last end is left out"

    symbols, learnt = chat.encode(TALK)
    marks = [i for i in symbols.tolist() if i in (im_start, im_end, start)]
    assert marks == [im_start, start] * 5, "only the template writes special symbols"
    responses = [tokenizer.encode(m["content"].encode()).tolist() for m in TALK if m["role"] == "assistant"]
    assert symbols[learnt].tolist() == [*responses[0], start, *responses[1], start]


PLAIN = (
    "{% for m in messages %}{{ m.role[0] + ': ' + m.content }}"
    "{{ (eos_token if m.role == 'assistant' else '') + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'a: ' }}{% endif %}"
)
CHAT = Chat(Bytes(), ChatFormat(PLAIN))
contents = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["<|endoftext|>", "a: ", "\ufdd0"])


@given(st.lists(st.tuples(contents, contents), min_size=1, max_size=3))
def test_what_is_learnt_are_the_responses_and_their_ends(turns: list[tuple[str, str]]) -> None:
    """Also where a message looks like the template, and a response is written behind the symbols it is learnt
    behind."""
    chat = CHAT
    messages: list[Message] = []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    symbols, learnt = chat.encode(messages)
    answers = [[*answer.replace("\ufdd0", "").encode(), 256] for _, answer in turns]
    assert symbols[learnt].tolist() == [symbol for answer in answers for symbol in answer]
    prompt = chat.encode(messages[:-1], prompt=True).symbols
    assert symbols.tolist() == [*prompt.tolist(), *answers[-1]]


@cache
def composed(kind: str, *overrides: str) -> dict[str, Any]:
    return Composer().train([f"data={kind}", "data.path=x", "data.passage=4", *overrides]).data


def data(kind: str, path: Path, *overrides: str) -> Conversations:
    found = build(composed(kind, *overrides) | {"path": str(path)}, path="data")
    assert isinstance(found, Conversations)
    return found


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_windows_hold_conversations_of_which_only_responses_are_targets(tmp_path: Path) -> None:
    lines = [{"prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(20)]
    lines[7] = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "It is 7."}]}
    path = write(tmp_path / "talk.jsonl", *lines)
    for packing in ("true", "false"):
        found = data("instructions", path, "data.context=128", f"data.packing={packing}")
        assert isinstance(found, Instructions)
        windows = found.gather(torch.zeros(found.n_items), torch.arange(found.n_items))
        assert isinstance(windows, Windows)
        targets = windows.targets[windows.targets != IGNORED]
        responses = bytes(targets.masked_fill(targets == 256, ord("\n")).tolist()).decode().splitlines()
        assert sorted(responses) == sorted(messages[-1]["content"] for messages, _ in found.split("train"))
        assert (len(windows) < len(responses)) == (packing == "true")
    assert found.spec.chat is not None and "User: " in found.spec.chat.template


def test_pairs_stand_behind_the_same_prompt_even_where_it_is_clipped(tmp_path: Path) -> None:
    lines = [{"prompt": "p" * 40 + str(i), "chosen": "yes", "rejected": "oh no"} for i in range(6)]
    found = data("preferences", write(tmp_path / "pairs.jsonl", *lines), "data.context=32")
    assert isinstance(found, Preferences)
    with pytest.warns(UserWarning, match="5 of 5 conversations are longer than data.context=32"):
        windows = found.gather(torch.zeros(2, dtype=torch.long), torch.tensor([0, 1]))
    assert isinstance(windows, Windows) and windows.learnt is not None and len(windows) == 4
    for i in (0, 2):
        chosen, rejected = (
            windows.symbols[j][~windows.learnt[j] & (windows.documents[j] == 0)] for j in (i, i + 1)
        )
        assert torch.equal(chosen, rejected) and len(chosen) == 32 - len("oh no") - 1
        assert bytes(windows.targets[i][windows.learnt[i]][:-1].tolist()) == b"yes"


WRONG = {
    "": "data.path=.*: no such file",
    "empty": "is empty",
    "notjson": "line 2 is not JSON",
    "list": "line 1 should be a JSON object",
    "missing": r"line 2 has no field 'response'; it has: prompt$",
    "number": "line 1: 'response' should be a text, not 3",
    "role": r"line 1: message 1 should have a role \(system, user, assistant\)",
    "question": "line 1: the last of its messages should be the assistant's",
    "half": r'line 2 is no text: "\\ude00" is one half of a character, and the other is missing',
    "long": "the response has 601 symbols with its end, more than data.context=256",
}


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    """U+2028 and its like may stand inside a JSON string."""
    lines = [{"prompt": f"a\u2028b{i}", "response": "c\u0085d"} for i in range(8)]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "talk.jsonl").write_text(text, encoding="utf-8", newline="")
    assert len(list(records(str(tmp_path / "talk.jsonl")))) == 8


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_in_a_file_is_one_line(tmp_path: Path, mistake: str) -> None:
    good = {"prompt": "a question", "response": "an answer"}
    lines: dict[str, list[object]] = {
        "empty": [" "],
        "notjson": [good, "{prompt: x}"],
        "list": [[1, 2]],
        "missing": [good, {"prompt": "x"}],
        "number": [{"prompt": "x", "response": 3}],
        "role": [{"messages": [{"role": "robot", "content": "x"}]}],
        "question": [{"messages": [{"role": "user", "content": "x"}]}],
        "half": [{"prompt": "\U0001f600", "response": "x"}, {"prompt": "x", "response": "\ude00"}],
        "long": [{"prompt": str(i), "response": "y" * 600} for i in range(3)],
    }
    path = write(tmp_path / "talk.jsonl", *lines[mistake]) if mistake else tmp_path / "talk.jsonl"
    with pytest.raises(UserError, match=WRONG[mistake]):
        found = data("instructions", path, "data.held_out=0.1")
        _ = found.n_items


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_template_that_leaves_out_what_is_said_is_one_line(tmp_path: Path, role: str) -> None:
    """What jinja2 does not find in a message is empty."""
    misnamed = f"{{{{ m.content if m.role != '{role}' else m.contents }}}}"
    template = f"{{% for m in messages %}}{misnamed}{{{{ eos_token }}}}{{% endfor %}}"
    path = write(tmp_path / "talk.jsonl", *[{"prompt": "What is red?", "response": "a colour"}] * 20)
    with pytest.raises(
        UserError, match=f"^data.template: the chat template leaves out what the {role} says; a mes"
    ):
        data("instructions", path, f"data.template.text={json.dumps(template)}")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/chat_template.jinja").write_text(template)
    Tokenizer(models.BPE(vocab=dict(byte_alphabet()), merges=[])).save(str(tmp_path / "own/tokenizer.json"))
    found = data("instructions", path, "data/tokenizer=hf", f"data.tokenizer.path={tmp_path / 'own'}")
    with pytest.raises(UserError, match=f"^data/template: the chat template leaves out what the {role} says"):
        _ = found.spec


def test_a_pair_of_equals_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", {"prompt": "x", "chosen": "y", "rejected": "y"})
    with pytest.raises(UserError, match="line 1: chosen and rejected are the same"):
        _ = data("preferences", path).spec


SPLITS: tuple[Split, ...] = ("train", "held_out")


def test_every_held_out_question_asks_for_a_known_fact_in_words_used_for_others() -> None:
    found = build(Composer().train(["data=pydoc_questions"]).data, path="data")
    assert isinstance(found, PydocQuestions)
    train, held_out = ({m[0]["content"]: (m[1]["content"], where) for m, where in found.split(s)} for s in SPLITS)
    assert len(train) > 1000 and len(held_out) == len(train) / 7 and not train.keys() & held_out.keys()
    assert set(held_out.values()) <= set(train.values())
    assert ({**train, **held_out})["What is the base class of KeyError?"] == ("LookupError", "KeyError")
    for wordings in WORDINGS.values():
        for wording in wordings:
            before, after = wording.split("{}")
            for questions in (train, held_out):
                assert any(q.startswith(before) and q.endswith(after) for q in questions)
