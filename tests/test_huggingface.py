"""A run as a folder of transformers: the same symbols, the same logits, the same texts."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

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
    found, start = to_tokenizers(own)
    assert start == "<|start|>" and found.token_to_id(start) == own.vocab_size
    assert found.encode("a b").ids == [own.vocab_size, *own.encode(b"a b").tolist()]


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
