"""Any causal language model of Hugging Face's kind as a generator of the lab: as it is, and trained further."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from conftest import QUICK, train_these
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RwkvConfig,
    RwkvForCausalLM,
)

from aigc_lab.cli import main
from aigc_lab.data.samples import Texts
from aigc_lab.data.tokens import byte_alphabet
from aigc_lab.decoding import Sampling, beam_search, write
from aigc_lab.errors import UserError
from aigc_lab.generators import PretrainedText, load
from aigc_lab.nets.pretrained import Pretrained

N = 300
"""Symbols of the models: the bytes, some for no text, and the one that begins and ends texts."""
SIZES = {"vocab_size": N, "bos_token_id": N - 1, "eos_token_id": N - 1, "pad_token_id": N - 2}
SMALL = {"hidden_size": 16, "num_hidden_layers": 2}


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=40, **SIZES))


def llama() -> PreTrainedModel:
    sizes = {"intermediate_size": 32, "num_attention_heads": 2, "max_position_embeddings": 40}
    return LlamaForCausalLM(LlamaConfig(**sizes, **SMALL, **SIZES))


def mistral() -> PreTrainedModel:
    """Every layer sees a window of 8."""
    sizes = {"intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    return MistralForCausalLM(MistralConfig(sliding_window=8, **sizes, **SMALL, **SIZES))


def gemma2() -> PreTrainedModel:
    """Every other layer does."""
    sizes = {"intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    return Gemma2ForCausalLM(Gemma2Config(sliding_window=8, **sizes, **SMALL, **SIZES))


def bloom() -> PreTrainedModel:
    """Takes no masks between texts."""
    return BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=2, n_head=2, **SIZES))


def mamba() -> PreTrainedModel:
    """Has a state, which no mask keeps a text out of."""
    return MambaForCausalLM(MambaConfig(state_size=4, **SMALL, **SIZES))


def rwkv() -> PreTrainedModel:
    """Has one of its own kind, and takes no cache."""
    return RwkvForCausalLM(RwkvConfig(context_length=48, **SMALL, **SIZES))


def saved(make: Callable[[], PreTrainedModel], folder: Path) -> Path:
    torch.manual_seed(0)
    model = make()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=[gpt2, llama])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random model of bytes with its tokenizer, as `save_pretrained` leaves them."""
    saved(request.param, tmp_path / "model")
    library = Tokenizer(models.BPE(vocab=dict(byte_alphabet()), merges=[]))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=library).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def options(folder: Path, *more: str) -> list[str]:
    tokenizer = ["data/tokenizer=hf", f"data.tokenizer.path={folder}"]
    data = ["data=pydoc", "data.batch_size=4", "data.context=32", "data.passage=64"]
    return ["model=hf", f"model.path={folder}", *tokenizer, *data, *more]


def test_a_model_as_it_is_becomes_a_generator(folder: Path, tmp_path: Path) -> None:
    run = train_these(tmp_path / "runs", options(folder, "trainer.max_steps=0"))
    ours, theirs = load(run), AutoModelForCausalLM.from_pretrained(folder).eval()
    assert isinstance(ours, PretrainedText) and ours.spec.vocab_size == 256
    text = b"The import statement combines two operations"
    begin = torch.tensor([[N - 1, *text[:31]]])
    with torch.no_grad():
        expected = theirs(begin).logits[0, :, :256].log_softmax(-1)
    nats = ours.log_likelihood(Texts([text[:32]]), rng=torch.Generator()).nats
    assert float(nats) == pytest.approx(
        float(expected.gather(1, torch.tensor([*text[:32]])[:, None]).sum()), rel=1e-4
    )

    network, prompts = ours.network, [torch.tensor([*text[:n]], dtype=torch.long) for n in (0, 3, 9)]
    suppressed = list(range(256, N))
    greedy = write(network, prompts, seeds=[0] * 3, sampling=Sampling(temperature=0), length=15)
    for prompt, written in zip(prompts, greedy, strict=True):
        begin = torch.cat([torch.tensor([N - 1]), prompt])[None]
        how: dict[str, Any] = {"do_sample": False, "max_new_tokens": 15, "suppress_tokens": suppressed}
        how["attention_mask"] = torch.ones_like(begin)
        assert theirs.generate(begin, **how)[0, begin.shape[1] :].tolist() == written
    assert len(beam_search(network, prompts[1], n_beams=3, length=15)) == 15
    assert main(["sample", str(run), "-n", "2", "--prompt", "import "]) == 0
    assert main(["compare", str(run), *QUICK]) == 0


@pytest.mark.parametrize("make", [mistral, gemma2, bloom, mamba, rwkv])
def test_every_kind_of_model_writes_and_reads_texts_beside_others_as_alone(
    make: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    network = Pretrained(str(saved(make, tmp_path)), context=48, vocab_size=256).eval()
    prompts = [torch.arange(n) * 7 % 256 for n in (0, 3, 9, 30)]
    how: dict[str, Any] = {"sampling": Sampling(temperature=0), "length": 12}
    alone = [write(network, [prompt], seeds=[0], **how)[0] for prompt in prompts]
    assert write(network, prompts, seeds=[0] * 4, **how) == alone
    with torch.no_grad():
        for prompt, written in zip(
            prompts, alone, strict=True
        ):  # symbol by symbol what the model says of the whole
            read = torch.tensor([[N - 1, *prompt.tolist(), *written]])
            likeliest = network.model(input_ids=read).logits[0, len(prompt) : -1, :256].argmax(-1)
            assert likeliest.tolist() == written
        first, second = torch.cat([prompts[3][:9], prompts[3]]).split([9, 30])
        both = network(torch.cat([first, second])[None], documents_BL=torch.tensor([[3] * 9 + [4] * 30]))
        each = torch.cat([network(first[None]), network(second[None])], 1)
    torch.testing.assert_close(both, each, rtol=1e-4, atol=1e-4)


def test_it_is_trained_further_and_opened_again(folder: Path, tmp_path: Path) -> None:
    more = ["trainer.max_steps=6", "model.lr=1e-2", "optimizer=muon", "trainer.log_every_n_steps=1"]
    run = train_these(tmp_path / "runs", options(folder, *more))
    losses = [
        float(line.split(",")[2]) for line in (run / "metrics.csv").read_text().splitlines()[1:] if "train" in line
    ]
    assert losses[-1] < losses[0] - 0.1
    before, after = AutoModelForCausalLM.from_pretrained(folder).state_dict(), load(run).state_dict()
    assert any(not torch.equal(before[name], after[f"network.model.{name}"]) for name in before)


def test_what_does_not_fit_is_one_line(folder: Path, tmp_path: Path) -> None:
    bpe = ["data/tokenizer=bpe", "data.tokenizer.vocab_size=400"]
    for overrides, says in (
        (options(folder, "data.context=64"), "data.context=64: .* knows 40 positions"),
        (
            [o for o in options(folder, *bpe) if "path=" not in o or o.startswith("model")],
            "has 400 symbols and .* 300",
        ),
        (options(folder, f"model.path={tmp_path / 'none'}"), "model.path=.*none: cannot be loaded"),
    ):
        with pytest.raises(UserError, match=says):
            train_these(tmp_path / "runs", overrides)


@pytest.mark.parametrize("folder", [llama], indirect=True)
def test_an_id_is_a_folder_in_the_cache_and_fetched_when_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked as a folder is, and whoever opens the run asks nothing of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    there = tmp_path / "hub/models--lab--tiny"
    fetched: list[list[str]] = []

    def fetch(repo_id: str, *, allow_patterns: list[str]) -> str:
        assert repo_id == "lab/tiny"
        fetched.append(allow_patterns)
        (there / "refs").mkdir(parents=True, exist_ok=True)
        (there / "refs/main").write_text("0" * 40)
        return str(shutil.copytree(folder, there / "snapshots" / ("0" * 40), dirs_exist_ok=True))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    chosen = [option.replace(str(folder), "lab/tiny") for option in options(folder, "trainer.max_steps=0")]
    with pytest.raises(
        UserError, match=r"data.tokenizer.path=lab/tiny: .*no such id in the local cache.*download"
    ):
        train_these(tmp_path / "runs", chosen)
    byte = [option for option in chosen if "tokenizer" not in option]
    with pytest.raises(UserError, match=r"model.path=lab/tiny: .*no such id in the local cache.*model\.download"):
        train_these(tmp_path / "runs", byte)
    assert not fetched
    run = train_these(tmp_path / "runs", [*chosen, "model.download=true", "data.tokenizer.download=true"])
    assert sorted("model*.safetensors" in patterns for patterns in fetched) == [False, True]
    monkeypatch.delattr(huggingface_hub, "snapshot_download")
    ours, theirs = load(run).state_dict(), AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(ours[f"network.model.{name}"], theirs[name]) for name in theirs)
    settings = there / "snapshots" / ("0" * 40) / "tokenizer.json"
    settings.write_text(settings.read_text().replace('"a":', '"\\u0100":'))
    with pytest.raises(UserError, match="has learnt other symbols; take its own: data/tokenizer=hf"):
        train_these(tmp_path / "runs", byte)


def test_a_model_is_not_trained_on_symbols_that_it_has_not_learnt(folder: Path, tmp_path: Path) -> None:
    byte = [option for option in options(folder) if "tokenizer" not in option]
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace('"a":', '"\\u0100":'))
    with pytest.raises(UserError, match="has learnt other symbols; take its own: data/tokenizer=hf"):
        train_these(tmp_path / "runs", [*byte, "trainer.max_steps=0"])
