"""Runs that begin as other runs, or as models of Hugging Face's: fine-tuned, with adapters, by preferences."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import train_these
from test_pretrained import folder as folder  # a fixture
from test_pretrained import options
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from aigc_lab import training
from aigc_lab.callbacks import AtomicCheckpointIO
from aigc_lab.cli import main
from aigc_lab.errors import UserError
from aigc_lab.generators import Autoregressive, load
from aigc_lab.modules.language_model import FineTuning
from aigc_lab.modules.tuning import DPO
from aigc_lab.nets.pretrained import Pretrained
from aigc_lab.run import Run

STEPS = ["trainer.max_steps=6", "trainer.log_every_n_steps=1", "callbacks.checkpoint.every_n_steps=3"]
LORA = ["model/adapters=lora", "model.adapters.rank=2"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with conversations and pairs."""
    path = tmp_path_factory.mktemp("tuning")
    talk = [{"prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(30)]
    pairs = [{"prompt": f"What is {i}?", "chosen": "aaaa", "rejected": "zzzz"} for i in range(30)]
    for name, lines in (("talk", talk), ("pairs", pairs)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def tuned(here: Path, base: Path, tmp_path: Path, *overrides: str) -> Path:
    data = ["data=instructions", f"data.path={here / 'talk.jsonl'}", "data.passage=8", "data.context=64"]
    chosen = [*data, "data/tokenizer=run", "data.batch_size=4", "model=finetune", f"model.run={base}"]
    return train_these(tmp_path / "runs", [*chosen, *STEPS, *overrides])


def network(run: Path) -> torch.nn.Module:
    generator = load(run)
    assert isinstance(generator, Autoregressive)
    return generator.network


def logged(run: Path, name: str) -> list[float]:
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    return [float(value) for _, metric, value in rows if metric == name]


def test_a_run_goes_on_from_another_and_opens_without_it(
    here: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("config.yaml", "run.json"):
        (base / name).write_bytes((trained["text"] / name).read_bytes())
    (base / "checkpoints").mkdir()
    for name in ("weights.safetensors", "weights.json"):
        (base / "checkpoints" / name).write_bytes((trained["text"] / "checkpoints" / name).read_bytes())

    same = tuned(here, base, tmp_path, "trainer.max_steps=0", "run_id=same")
    more = tuned(here, base, tmp_path, "model.lr=1e-2", "run_id=more")
    base.rename(tmp_path / "gone")
    before, after = network(trained["text"]).state_dict(), network(more).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network(same).state_dict().items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in after.items())
    losses = logged(more, "train/loss")
    assert losses[-1] < losses[0] - 0.1
    again = tuned(here, more, tmp_path, "trainer.max_steps=0", "run_id=again")
    assert load(again).spec.chat == load(more).spec.chat, "and the next one from this one"


def adapted(run: Path) -> FineTuning:
    """The module with its adapters, from the run's checkpoint."""
    _, module = training.restore(Run.open(run))
    assert isinstance(module, FineTuning) and module.adapters is not None
    return module


READ = torch.tensor([[256, *b"What is 3?\n"]])


def test_adapters_are_merged_into_what_is_opened_and_exported(here: Path, tmp_path: Path) -> None:
    """Of the lab's own Transformer: only they are trained, and the merged weights are the same function."""
    tiny = ["data=pydoc", "model=llama", "data.context=64", "data.passage=64", "data.batch_size=2"]
    size = ["model.network.width=16", "model.network.n_layers=1", "model.network.n_heads=2", "trainer.max_steps=2"]
    base = train_these(tmp_path / "runs", [*tiny, *size])
    run = tuned(here, base, tmp_path, *LORA, "model.lr=3e-2")
    module, merged = adapted(run), network(run)
    trained_names = {name for name, p in module.generator.named_parameters() if p.requires_grad}
    assert trained_names and all("lora_" in name for name in trained_names)
    untouched = {name: tensor for name, tensor in network(base).state_dict().items() if "blocks" not in name}
    assert all(torch.equal(tensor, merged.state_dict()[name]) for name, tensor in untouched.items())
    with torch.no_grad():
        expected = module.generator.network(READ)
        assert (expected - network(base)(READ)).abs().max() > 1e-2, "they have learnt something"
        torch.testing.assert_close(merged(READ), expected, atol=1e-4, rtol=0)
        assert main(["export", str(run), "--to", str(tmp_path / "exported")]) == 0
        exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
        torch.testing.assert_close(exported(READ).logits, expected, atol=1e-4, rtol=0)


def test_adapters_of_a_model_of_hugging_faces(
    folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Of GPT-2, whose matrices stand transposed, and of Llama."""
    run = train_these(tmp_path / "runs", options(folder, *STEPS, *LORA, "model.lr=3e-2", "optimizer=muon"))
    assert not [w for w in recwarn if "fan_in_fan_out" in str(w.message)], "which peft sees by itself"
    onwards = ["data=pydoc", "data.context=32", "data.passage=64", "data/tokenizer=run", "model=finetune"]
    again = train_these(tmp_path / "runs", [*onwards, f"model.run={run}", "trainer.max_steps=0"])
    assert all(torch.equal(a, b) for a, b in zip(load(again).parameters(), load(run).parameters(), strict=True))
    with torch.no_grad():
        expected = adapted(run).generator.network(READ)
        torch.testing.assert_close(network(run)(READ), expected, atol=1e-4, rtol=0)
        assert main(["export", str(run), "--to", str(tmp_path / "exported")]) == 0
        exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")(READ.clamp(max=255)).logits
        torch.testing.assert_close(
            exported[0, -1, :256], network(run)(READ.clamp(max=255))[0, -1, :256], atol=1e-4, rtol=0
        )
        as_it_is = train_these(tmp_path / "runs", options(folder, "trainer.max_steps=0"))
        assert (expected - network(as_it_is)(READ)).abs().max() > 1e-2


def test_an_interrupted_run_with_adapters_ends_as_an_unbroken_one(
    here: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    run = tuned(here, trained["text"], tmp_path, *LORA, "model.adapters.dropout=0.1")
    weights = run / "checkpoints/weights.safetensors"
    unbroken = weights.read_bytes()
    weights.unlink()
    (run / "checkpoints/step_00000006.ckpt").unlink()
    Run.open(run).update(status="interrupted")
    training.resume(Run.open(run))
    assert weights.read_bytes() == unbroken
    assert AtomicCheckpointIO().load_checkpoint(run / "checkpoints/step_00000006.ckpt")["state_dict"]


@pytest.mark.parametrize("adapters", [[], LORA], ids=["whole", "lora"])
def test_preferences_are_learnt_against_a_frozen_start(
    here: Path, trained: dict[str, Path], tmp_path: Path, adapters: list[str]
) -> None:
    pairs = ["data=preferences", f"data.path={here / 'pairs.jsonl'}", "data.passage=8", "data.context=64"]
    chosen = [*pairs, "data/tokenizer=run", "data.batch_size=4", "model=dpo", f"model.run={trained['text']}"]
    run = train_these(tmp_path / "runs", [*chosen, *STEPS, *adapters, "model.lr=3e-2"])
    assert logged(run, "train/loss")[0] == pytest.approx(math.log(2), abs=0.02)  # but for dropout
    assert logged(run, "train/preferred")[-1] == 1 and logged(run, "train/margin")[-1] > 0.1
    _, module = training.restore(Run.open(run))
    assert isinstance(module, DPO)
    start = network(trained["text"]).state_dict()
    assert all(torch.equal(tensor, start[name]) for name, tensor in module.reference.state_dict().items())
    assert set(network(run).state_dict()) == set(start)


SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
KINDS: dict[str, Callable[..., PreTrainedModel]] = {
    "gpt2": lambda **sizes: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, **sizes)),
    "a window": lambda **sizes: MistralForCausalLM(
        MistralConfig(sliding_window=3, num_key_value_heads=2, **SMALL, **sizes)
    ),
    "a window in some layers": lambda **sizes: Qwen2ForCausalLM(
        Qwen2Config(
            use_sliding_window=True, sliding_window=3, max_window_layers=1, num_key_value_heads=2, **SMALL, **sizes
        )
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_do_not_see_each_other_in_a_model_of_hugging_faces(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    KINDS[kind](vocab_size=300, bos_token_id=299, eos_token_id=298).save_pretrained(tmp_path)
    model = Pretrained(str(tmp_path), context=32, vocab_size=256).eval()
    first, second = torch.tensor([[256, *b"import"]]), torch.tensor([[256, *b"class x"]])
    documents = torch.tensor([[0] * first.shape[1] + [1] * second.shape[1]])
    with torch.no_grad():
        together = model(torch.cat([first, second], 1), documents_BL=documents)
        alone = torch.cat([model(first), model(second)], 1)
        end = model(torch.tensor([[256, 65, 256, 66]]))
        expected = model.model(torch.tensor([[299, 65, 298, 66]])).logits
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end[..., :256], expected[..., :256])
    torch.testing.assert_close(end[..., 256], expected[..., 298])


def test_what_does_not_fit_is_one_line(here: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    text, gan = trained["text"], trained["gan"]
    pairs = ["data=preferences", f"data.path={here / 'pairs.jsonl'}"]
    for base, overrides, says in (
        (text, ["data/tokenizer=char"], "was trained on other symbols; take its own with data/tokenizer=run"),
        (gan, [], "is no run on texts"),
        (gan, ["data/tokenizer=byte"], "this model is for images and points"),
        (text, [*LORA, "model.adapters.targets=[qvk]"], "no layer is called qvk; there are: expand, project, qkv"),
        (text, pairs, "holds pairs of responses; pairs .* are for model=dpo"),
        (text, ["model=dpo"], "holds no pairs of responses"),
        (tmp_path, [], "config.yaml: cannot be read|no such run directory"),
    ):
        with pytest.raises(UserError, match=says):
            tuned(here, base, tmp_path, *overrides)
    talk = ["data=instructions", f"data.path={here / 'talk.jsonl'}", "data.passage=8"]
    with pytest.raises(UserError, match="and MaskedLanguageModel cannot learn responses alone; use model=transf"):
        train_these(tmp_path / "runs", [*talk, "model=masked"])
    assert not (tmp_path / "runs").exists()
