"""What every family relies on: a step is a batch."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import TINY

from aigc_lab.config.compose import Composer
from aigc_lab.data.packing import PADDING, Windows
from aigc_lab.errors import UserError
from aigc_lab.metrics_file import read_metrics
from aigc_lab.modules.base import GenerativeModule
from aigc_lab.modules.language_model import LanguageModel
from aigc_lab.optimizers import Adam, WarmupCosine
from aigc_lab.run import Run
from aigc_lab.training import restore

Train = Callable[..., Path]


@pytest.mark.parametrize("family", TINY)
def test_max_steps_counts_batches_and_so_does_everything_else(
    train: Train, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []
    on_start = GenerativeModule.on_train_batch_start

    def spy(self: GenerativeModule, batch: torch.Tensor, batch_idx: int) -> None:
        on_start(self, batch, batch_idx)
        seen.append((batch_idx, self.each_optimizer()[-1].param_groups[0]["lr"]))

    monkeypatch.setattr(GenerativeModule, "on_train_batch_start", spy)
    run = train(
        family,
        "trainer.max_steps=10",
        "trainer.log_every_n_steps=2",
        "trainer.val_check_interval=5",
        "callbacks.checkpoint.every_n_steps=4",
        "callbacks.checkpoint.keep=9",
        "model.lr=0.01",
        "optimizer.schedule.warmup=4",
        "optimizer.schedule.final=0.2",
    )
    assert [step for step, _ in seen] == list(range(10))
    factors = [lr / 0.01 for _, lr in seen]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert factors[-1] == pytest.approx(0.2) and factors[4:] == sorted(factors[4:], reverse=True)
    steps = {name: [s for s, n, _ in read_metrics(run / "metrics.csv") if n == name] for name in ("val/loss",)}
    logged = sorted({s for s, n, _ in read_metrics(run / "metrics.csv") if n.startswith("train/")})
    assert logged == [1, 3, 5, 7, 9]
    assert steps["val/loss"] == ([] if family == "gan" else [4, 9])
    checkpoints = sorted(p.stem for p in run.glob("checkpoints/*.ckpt"))
    assert checkpoints == ["step_00000004", "step_00000008", "step_00000010"]
    assert Run.open(run).weights().step == 10
    state = torch.load(run / "checkpoints/step_00000010.ckpt", weights_only=True)
    for optimizer in state["optimizer_states"]:
        assert {int(s["step"]) for s in optimizer["state"].values()} == {10}


WHOLE = ["model.network.dropout=0", "data.batch_size=6", "trainer.max_steps=4", "trainer.gradient_clip_val=0.5"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "checkpoints/weights.safetensors")


@pytest.mark.parametrize("packing", [[], ["data.packing=true"]])
def test_a_batch_in_pieces_takes_the_step_of_the_whole_batch(train: Train, packing: list[str]) -> None:
    """Also where the pieces hold different numbers of symbols."""
    whole = weights(train("text", *WHOLE, *packing))
    pieces = weights(train("text", *WHOLE, *packing, "trainer.micro_batches=4"))
    assert whole.keys() == pieces.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[name], tensor, rtol=0, atol=2e-6)


def test_other_families_take_a_batch_as_a_whole(train: Train) -> None:
    with pytest.raises(UserError, match=r"trainer.micro_batches=2: GAN takes a batch as a whole"):
        train("gan", "trainer.micro_batches=2")


def test_packed_documents_are_learnt_as_if_alone(train: Train) -> None:
    """The loss of a packed batch is that of its documents, each behind the start symbol."""
    dataset, module = restore(Run.open(train("text", "data.packing=true", "trainer.max_steps=2")))
    assert isinstance(module, LanguageModel)
    batch = dataset.gather(torch.zeros(3, dtype=torch.long), torch.arange(3))
    assert isinstance(batch, Windows)
    nats, n = 0.0, 0
    for symbols, documents in zip(batch.symbols, batch.documents, strict=True):
        for document in documents[documents != PADDING].unique():
            alone = symbols[documents == document][None]
            nats += float(module.loss(alone)) * alone.numel()
            n += alone.numel()
    assert float(module.loss(batch)) == pytest.approx(nats / n, rel=1e-5)


@pytest.mark.slow
def test_a_compiled_run_ends_at_the_same_weights_under_the_same_names(train: Train) -> None:
    eager, compiled = (weights(train("text", *WHOLE, *more)) for more in ([], ["trainer.compile=true"]))
    assert eager.keys() == compiled.keys()
    for name, tensor in eager.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=0, atol=1e-4)


def test_compiling_on_the_cpu_needs_a_compiler(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"trainer.compile=true: needs a C\+\+ compiler"):
        train("text", "trainer.compile=true")


def test_tensorboard_counts_batches_too(train: Train) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train("gan", "trainer.max_steps=6", "trainer.log_every_n_steps=3", "logger=default")
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/generator_loss")] == [2, 5]


def test_a_run_says_how_it_came_about(train: Train) -> None:
    run = Run.open(train("gan", "trainer.max_steps=3", "seed=7"))
    record = run.record()
    assert (record["status"], record["seed"], record["command"]) == ("finished", 7, ["pytest"])
    assert record["data"]["content_hash"].startswith("2bc96d98e0")
    assert torch.__version__.startswith(record["packages"]["torch"])
    assert "CPU" in record["device"] and record["wall_seconds"] > 0
    assert run.status() == "finished"
    assert run.config() == Composer().train(config_as_overrides(run))
    assert len(list(run.path.rglob("*.safetensors"))) == 1
    description = json.loads((run.path / "checkpoints/weights.json").read_text())
    assert (description["kind"], description["weights"], description["step"]) == ("Implicit", "ema", 3)


def config_as_overrides(run: Run) -> list[str]:
    config = run.config()
    paths = [f"paths.{key}={value}" for key, value in config.paths.model_dump().items()]
    return [*TINY["gan"], *paths, "trainer.max_steps=3", "seed=7", "logger=none", "trainer.num_threads=1"]


def test_only_the_generators_average_is_exported(train: Train) -> None:
    run = train("gan", "trainer.max_steps=5", "model.ema_decay=0.9")
    state = torch.load(run / "checkpoints/step_00000005.ckpt", weights_only=True)["state_dict"]
    exported = safetensors.torch.load_file(run / "checkpoints/weights.safetensors")
    assert {f"generator_ema.{key}" for key in exported} == {k for k in state if k.startswith("generator_ema.")}
    for key, value in exported.items():
        assert torch.equal(value, state[f"generator_ema.{key}"])
        assert not torch.equal(value, state[f"generator.{key}"])


def test_the_average_is_over_batches(train: Train) -> None:
    """Decay 0 follows the generator exactly; the ramp (1 + t) / (10 + t) holds high decays back at first."""
    run = train("gan", "trainer.max_steps=4", "model.ema_decay=0.0")
    state = torch.load(run / "checkpoints/step_00000004.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(v, state[k.replace("_ema", "")]) for k, v in state.items() if "_ema" in k)


def test_the_same_seed_gives_the_same_run_and_another_another(train: Train) -> None:
    def weights(*overrides: str) -> bytes:
        run = train("text", "trainer.max_steps=3", *overrides)
        return (run / "checkpoints/weights.safetensors").read_bytes()

    assert weights("seed=1", "run_id=a") == weights("seed=1", "run_id=b") != weights("seed=2", "run_id=c")


@pytest.mark.parametrize("debug", ["fast", "overfit", "profile", "limit"])
def test_debug_configs(train: Train, debug: str) -> None:
    run = train("vae", f"debug={debug}", "trainer.max_steps=6", "trainer.val_check_interval=6")
    assert run.parent.name == "debug"
    if debug == "profile":
        assert "run_training_batch" in (run / "fit-profile.txt").read_text()


def test_overfitting_one_batch_drives_its_loss_down(train: Train) -> None:
    run = train("text", "debug=overfit", "trainer.max_steps=150", "model.network.dropout=0.0", "model.lr=1e-2")
    losses = [value for _, name, value in read_metrics(run / "metrics.csv") if name == "train/loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_a_failed_run_says_why(train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(self: GenerativeModule, batch: torch.Tensor, batch_idx: int) -> None:
        raise FloatingPointError("the loss is not a number")

    monkeypatch.setattr("aigc_lab.modules.vae.VAE.training_step", broken)
    with pytest.raises(FloatingPointError):
        train("vae", "trainer.max_steps=3", "name=broken", "run_id=x")
    run = Run.open(tmp_path / "runs/broken/x")
    assert run.status() == "failed"
    assert run.record()["error"] == "FloatingPointError: the loss is not a number"


def test_the_schedule() -> None:
    schedule = WarmupCosine(warmup=10, final=0.1)
    adam = Adam(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.5, schedule=schedule)
    factors = [adam.lr_factor(step, 110) for step in range(110)]
    assert factors[0] == 0.1 and factors[9] == factors[10] == 1.0
    assert factors[-1] == pytest.approx(0.1)
    assert factors[60] == pytest.approx(0.55, abs=0.01), "half-way down the cosine"
    assert WarmupCosine(warmup=0, final=1.0)(5, 10) == 1.0


def test_weight_decay_spares_gains_and_biases() -> None:
    layer = torch.nn.Linear(3, 3)
    schedule = WarmupCosine(warmup=0, final=1.0)
    optimizer = Adam(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.5, schedule=schedule)(layer.parameters(), 0.1)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {id(layer.weight): 0.5, id(layer.bias): 0.0}
