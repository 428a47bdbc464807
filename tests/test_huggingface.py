"""A run as a folder of transformers: the same symbols, the same logits, the same texts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
import torch
from conftest import train_these
from tokenizers import decoders, models, normalizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from aigc_lab.chatting import Speaker
from aigc_lab.cli import main
from aigc_lab.data.tokens import Subwords, byte_alphabet
from aigc_lab.generators import Autoregressive, behind_start, load
from aigc_lab.huggingface import to_tokenizers

Train = Callable[..., Path]

GPT2 = ["norm=layer", "feed_forward=gelu", "qk_norm=false", "rotary=false", "position_embedding=true", "bias=true"]
LAYOUTS = {"gpt2": GPT2, "llama": ["feed_forward=swiglu", "qk_norm=false", "n_kv_heads=1", "tied=true"]}
TOKENIZERS = {"byte": [], "char": [], "bpe": ["data.tokenizer.vocab_size=300"]}
TEXT = "The statement for x in y: a loop.\n\n  Two  spaces, a < b."


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_an_exported_run_is_the_same_model(train: Train, tmp_path: Path, layout: str, tokenizer: str) -> None:
    options = [f"model.network.{option}" for option in LAYOUTS[layout]]
    run = train("text", *options, f"data/tokenizer={tokenizer}", *TOKENIZERS[tokenizer], "trainer.max_steps=3")
    folder = tmp_path / "out/model"
    assert main(["export", str(run), "--to", str(folder)]) == 0
    assert [path.name for path in folder.parent.iterdir()] == ["model"]

    ours = load(run)
    assert isinstance(ours, Autoregressive) and ours.spec.tokenizer is not None
    model, theirs = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    symbols = ours.spec.tokenizer.encode(TEXT.encode())
    assert theirs(TEXT).input_ids == [ours.network.start, *symbols.tolist()]
    assert theirs.decode(symbols) == TEXT
    if tokenizer == "char":
        with pytest.raises(Exception, match="UNK"):
            theirs("a snow man: \u2603")
    read = behind_start(symbols[None, : ours.network.context], ours.network.start)
    with torch.no_grad():
        torch.testing.assert_close(model(read).logits, ours.network(read), rtol=0, atol=1e-4)


def test_the_start_symbol_has_a_name_of_its_own() -> None:
    """A tokenizer of Hugging Face's may call a symbol of the text <|endoftext|>; the start is another one."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=dict(byte_alphabet()), merges=[]))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.add_special_tokens(["<|endoftext|>"])
    own = Subwords(theirs.to_str())
    found, start, end = to_tokenizers(own, begin=own.vocab_size, end=own.vocab_size)
    assert start == end == "<|start|>" and found.token_to_id(start) == own.vocab_size
    assert found.encode("a b").ids == [own.vocab_size, *own.encode(b"a b").tolist()]


TALK = [
    {"role": "user", "content": " What is 3?"},
    {"role": "assistant", "content": "It is 3."},
    {"role": "user", "content": "And 4?"},
]


def conversing(tmp_path: Path, *overrides: str) -> tuple[Speaker, Path]:
    """A run on conversations, and the folder that it is exported to."""
    lines = [{"prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(9)]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = ["data=instructions", f"data.path={tmp_path}/talk.jsonl", "data.context=64", "data.passage=8"]
    run = train_these(tmp_path / "runs", [*data, "data.batch_size=2", *overrides])
    assert main(["export", str(run), "--to", str(tmp_path / "exported")]) == 0
    return Speaker.of(load(run), "run"), tmp_path / "exported"


def test_conversations_of_an_exported_run_begin_as_the_runs_own(tmp_path: Path) -> None:
    size = ["model=llama", "model.network.width=16", "model.network.n_layers=1", "model.network.n_heads=2"]
    speaker, folder = conversing(tmp_path, *size, "trainer.max_steps=1")
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        TALK, add_generation_prompt=True, return_dict=False
    )
    assert ids == [speaker.generator.network.start, *speaker.prompt(TALK).tolist()]


def llama2(folder: Path) -> None:
    """A random model with a tokenizer of Llama 2's kind: a space before every text, which decoding takes away."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "t", "at", "▁at"]
    merges = [("a", "t"), ("▁", "at")]
    library = tokenizers.Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    library.decoder = decoders.Sequence(steps)
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=library, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + ']' + m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(
        LlamaConfig(vocab_size=len(pieces), bos_token_id=1, eos_token_id=2, max_position_embeddings=64, **sizes)
    ).save_pretrained(folder)


def test_a_model_of_hugging_faces_is_exported_with_what_it_has_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llama2(tmp_path / "theirs")
    capsys.readouterr()
    own = [f"model.path={tmp_path}/theirs", "data/tokenizer=hf", f"data.tokenizer.path={tmp_path}/theirs"]
    speaker, folder = conversing(tmp_path, "model=hf", *own, "trainer.max_steps=0")
    assert len(capsys.readouterr().err.splitlines()) == 1, "the lab's own line, and no bars of the library's"
    exported, tokenizer = AutoTokenizer.from_pretrained(folder), speaker.generator.spec.tokenizer
    assert tokenizer is not None
    for text in ("at a cat", "  at  two <s> spaces "):
        symbols = tokenizer.encode(text.encode())
        assert exported.decode(symbols) == text
        if "<s>" not in text:  # which the library reads as its own
            assert exported(text).input_ids == [1, *symbols.tolist()]
    ids = exported.apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
    said = speaker.prompt(TALK)
    assert ids == [1, *said.masked_fill(said == tokenizer.vocab_size, 2).tolist()] and 2 in ids


def test_what_cannot_be_exported(
    train: Train, trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, folder, says in (
        (trained["text"], tmp_path / "new", "no layout of transformers has these options"),
        (trained["gan"], tmp_path / "new", "is no language model of texts"),
        (trained["pixels"], tmp_path / "new", "is no language model of texts"),
        (trained["text"], tmp_path, "exists already; name a new folder"),
    ):
        assert main(["export", str(run), "--to", str(folder)]) == 2
        assert says in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()
