"""The GAN step: what its game and its penalties are given."""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import aigc_lab
from aigc_lab import training
from aigc_lab.callbacks.watch import WatchGame
from aigc_lab.config.compose import Composer
from aigc_lab.config.schema import Config
from aigc_lab.data.images import ImageData
from aigc_lab.data.samples import Images
from aigc_lab.errors import UserError
from aigc_lab.generators import Implicit
from aigc_lab.modules.gan import GAN, Minibatch
from aigc_lab.nets.conditional import Verdict
from aigc_lab.objectives.games import Relativistic
from aigc_lab.objectives.penalties import R1
from aigc_lab.run import Run
from aigc_lab.training import restore

Train = Callable[..., Path]


def test_the_generators_loss_sees_real_and_fake_logits_of_one_discriminator(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that the generator plays against: after its own update. It is not moved by the generator's step."""
    given: list[Tensor] = []
    generator_loss, training_step = Relativistic.generator_loss, GAN.training_step

    def spy(self: Relativistic, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        given.append(real_logits)
        return generator_loss(self, fake_logits, real_logits)

    def step(self: GAN, batch: Tensor, batch_idx: int) -> None:
        before = self.discriminator(self.generator.real(batch)).detach()
        training_step(self, batch, batch_idx)
        after = self.discriminator(self.generator.real(batch)).detach()
        torch.testing.assert_close(given[-1], after)
        assert not torch.allclose(before, after)
        assert not given[-1].requires_grad

    monkeypatch.setattr(Relativistic, "generator_loss", spy)
    monkeypatch.setattr(GAN, "training_step", step)
    train("gan", "model/objective=relativistic", "trainer.max_steps=3")
    assert len(given) == 3


def test_penalties_are_told_which_share_of_training_is_over(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    penalty = R1.__call__

    def spy(self: R1, *args: Any) -> Tensor:
        seen.append(args[-1])
        return penalty(self, *args)

    monkeypatch.setattr(R1, "__call__", spy)
    train("gan", "trainer.max_steps=4")
    assert seen == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(("game", "sign"), [("wasserstein", 1.0), ("relativistic", 1.0), ("non_saturating", -1.0)])
def test_augmentation_is_steered_by_what_the_game_means(train: Train, game: str, sign: float) -> None:
    """D takes real items for more real than generated ones, and all for generated: what that says of real items is
    up to the game, for some leave D's offset free."""
    steered: list[float] = []
    tricks = ["model/augment=adaptive", "model/penalties=none", f"model/objective={game}"]
    _, gan = restore(Run(train("gan", *tricks, "trainer.max_steps=1")))
    assert isinstance(gan, GAN)
    gan.augment.steer = lambda sign_of_real, n_items: steered.append(float(sign_of_real))  # type: ignore
    optimizers = gan.configure_optimizers()
    gan.each_optimizer = lambda: optimizers  # type: ignore
    gan.manual_backward = lambda loss: loss.backward()  # type: ignore
    gan._trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda x, reduce_op: x), world_size=1)  # type: ignore
    real = Minibatch(torch.ones(4, 1, 8, 8), None)
    verdicts = (Verdict(torch.full((4, 1), logit, requires_grad=True), torch.zeros(())) for logit in (-1.0, -3.0))
    gan._discriminator_step(real, *verdicts, -real.real)
    assert steered == [sign]


def test_a_generator_is_asked_for_classes(train: Train) -> None:
    """By the statistics of its own average, whatever else is in the batch, and as often as the data has them."""
    run = train("classes", "trainer.max_steps=5")
    generator = aigc_lab.load(run)
    assert generator.takes_classes and isinstance(generator, Implicit)
    classes = torch.tensor([3, 3, 7])
    images = generator.sample_classes(classes, rng=torch.Generator().manual_seed(0))
    again = generator.sample_classes(classes[:1], rng=torch.Generator().manual_seed(0))
    assert isinstance(images, Images) and images.pixels.shape == (3, 1, 8, 8)
    assert torch.equal(images.pixels[:1], again.pixels)
    drawn = generator.draw_classes(20_000, rng=torch.Generator().manual_seed(0)).bincount(minlength=10)
    counts = torch.tensor(generator.spec.class_counts)
    torch.testing.assert_close(drawn / 20_000, counts / counts.sum(), atol=0.01, rtol=0)
    assert len(generator.sample(4, rng=torch.Generator())) == 4
    norms = [m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(int(norm.num_batches_tracked) > 0 for norm in norms)


def test_two_players_know_the_class_or_neither(train: Train) -> None:
    with pytest.raises(UserError, match="give both, or none"):
        train("gan", "model/generator_condition=concatenation")
    points = ["data=ring8", "model/generator_condition=concatenation", "model/discriminator_condition=projection"]
    with pytest.raises(UserError, match="Ring has no classes"):
        train("gan", *points)


COMPOSER = Composer()
GAMES, PENALTIES = (COMPOSER.options(f"model/{group}") for group in ("objective", "penalties"))
PLAYERS = ("generator", "discriminator")
GENERATORS, DISCRIMINATORS = (COMPOSER.options(f"model/{player}") for player in PLAYERS)
NARROW: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [8]},
    "conv": {"width": 4},
    "dcgan": {"width": 4},
    "resnet": {"width": 4},
    "modern": {"width": 4, "group_size": 4},
    "maxout": {"hidden": [8]},
    "rectifier": {"hidden": [8]},
    "smooth": {"hidden": [8]},
    "fourier": {"hidden": [8], "n_features": 4},
    "stepped": {"hidden": [8], "n_signs": 2},
    "normalised": {"hidden": [8]},
    "maxout_mlp": {"hidden": [8]},
}


def option(group: str, name: str) -> dict[str, Any]:
    return yaml.safe_load((COMPOSER.conf / f"model/{group}/{name}.yaml").read_text())


def two_steps(config: Config, *, autocast: bool) -> None:
    """Built from a configuration, and stepped without a Trainer, under bfloat16 as it would be there."""
    dataset, module = training._build_module(config)
    assert isinstance(module, GAN) and isinstance(dataset, ImageData)
    optimizers = module.configure_optimizers()
    module.each_optimizer = lambda: optimizers
    module.manual_backward = lambda loss: loss.backward()
    alone = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor)
    module._trainer = SimpleNamespace(strategy=alone, world_size=1, global_rank=0)
    players = (module.generator, module.discriminator)
    before = [[p.clone() for p in player.parameters()] for player in players]
    for step in range(2):
        module.on_train_batch_start(torch.zeros(0), step)
        item = torch.arange(4 * step, 4 * step + 4)
        gather = dataset.gather_labelled if module.wants_labels else dataset.gather
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
            module.training_step(gather(item * 0, item), step)
    WatchGame(every_n_steps=1, patience=0, n=7, dataset=dataset, run_dir=Path()).look(module)
    for player, was in zip(players, before, strict=True):
        assert all(p.isfinite().all() for p in player.parameters())
        assert any(not torch.equal(a, b) for a, b in zip(player.parameters(), was, strict=True)), "both have moved"


POINTS = ["model/generator=normalised", "model/discriminator=mlp"]

Row = dict[str, Any]


def pairwise_cover(
    factors: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool], seed: int = 0
) -> tuple[list[Row], set[tuple[Any, Any]]]:
    """Allowed rows that hold every pair of values of any two factors: greedily, the best of some random rows each
    time. And the pairs that no allowed row was found for."""
    rng = random.Random(seed)
    missing = {((a, x), (b, y)) for a, b in combinations(factors, 2) for x, y in product(factors[a], factors[b])}
    rows, never = [], set()
    while missing:
        pair = (a, x), (b, y) = min(missing, key=str)
        tried = [
            {name: rng.choice(values) for name, values in factors.items()} | {a: x, b: y} for _ in range(2000)
        ]
        able = [row for row in tried if allowed(row)][:50]
        if not able:
            never.add(pair)
            missing.remove(pair)
            continue
        best = max(able, key=lambda row: len(missing & set(combinations(row.items(), 2))))
        missing -= set(combinations(best.items(), 2))
        rows.append(best)
    return rows, never


TRICKS: dict[str, list[Any]] = {
    "discriminator_steps": [1, 2],
    "ema_decay": [0.0, 0.9],
    "latent": ["normal", "uniform"],
    "pack": [1, 2],
    "penalty_every": [1, 2],
    "spectral_norm": [False, True],
    "top_k": [1.0, 0.5],
}


def allowed(row: Row) -> bool:
    """What the lab does not refuse: two players that know the class or neither, and no packs of several classes;
    norms to tell the class by; no spectral norm of layers that start as zero; and one step each of players that
    move at once."""
    told = row["generator_condition"] != "none"
    return (
        told == (row["discriminator_condition"] != "none")
        and not (told and row["pack"] == 2)
        and not (row["generator_condition"] == "batch_norm" and row["generator"] not in ("dcgan", "resnet"))
        and not (row["discriminator"] == "modern" and row["spectral_norm"])
        and not (row["at_once"] and row["discriminator_steps"] == 2)
    )


def test_every_pair_of_game_penalty_network_and_condition_takes_two_steps() -> None:
    """Faults come in pairs: of options that each work alone."""
    conditions = {
        f"{player}_condition": ["none", *COMPOSER.options(f"model/{player}_condition")] for player in PLAYERS
    }
    factors = {
        "game": GAMES,
        "penalty": PENALTIES,
        "generator": GENERATORS,
        "discriminator": DISCRIMINATORS,
        **conditions,
        "augment": ["none", *COMPOSER.options("model/augment")],
        "at_once": [0, 1],
        "autocast": [False, True],
        **TRICKS,
    }
    rows, never = pairwise_cover(factors, allowed)
    n_told = [len(options) - 1 for options in conditions.values()]
    without_norms = len(GENERATORS) - 2
    assert len(never) == sum(n_told) + sum(n_told) + without_norms + 2, "what `allowed` says, pair by pair"
    base = COMPOSER.train(["data=digits", "model=gan", "data.batch_size=4", "trainer.max_steps=2"])
    for row in rows:
        module = "SimultaneousGAN" if row["at_once"] else "GAN"
        players = {player: option(player, row[player]) | NARROW[row[player]] for player in PLAYERS}
        model = base.model | players | {"_target_": f"aigc_lab.modules.gan.{module}", "latent_dim": 4}
        model |= {"objective": option("objective", row["game"]), "penalties": option("penalties", row["penalty"])}
        for group in ("augment", *conditions):
            model[group] = None if row[group] == "none" else option(group, row[group])
        model |= {name: row[name] for name in TRICKS}
        try:
            two_steps(base.model_copy(update={"model": model}), autocast=row["autocast"])
        except Exception as error:
            raise AssertionError(f"{row}: {error}") from error


def test_the_slope_of_packs_is_that_of_all_that_a_pack_holds(train: Train) -> None:
    """Of a linear D it is w, wherever its pack stands."""
    gan, squared_slope = with_linear_discriminator(train, "model.pack=2")
    assert discriminator_step(gan)["r1"] == pytest.approx(squared_slope, rel=1e-5)


def test_a_lazy_penalty_is_as_many_times_as_strong(train: Train) -> None:
    gan, squared_slope = with_linear_discriminator(train, "model.penalty_every=4")
    reported = [discriminator_step(gan, step) for step in range(8)]
    assert ["r1" in values for values in reported] == [False, False, False, True] * 2
    assert reported[3]["r1"] == pytest.approx(4 * squared_slope, rel=1e-5)


def test_the_generator_learns_from_the_samples_that_look_most_real(train: Train) -> None:
    """As many as `top_k` says: from all of them to half, linearly. The hinge game's loss is -E D(G(z))."""
    _, gan = restore(Run(train("gan", "model/objective=hinge", "model.top_k=0.5", "trainer.max_steps=2")))
    assert isinstance(gan, GAN)
    logits = torch.tensor([[3.0], [1.0], [4.0], [2.0]])
    losses = []
    for gan.step in range(3):
        losses.append(float(gan._generator_loss(Verdict(logits, torch.zeros(())), None)))
    assert losses == [-2.5, -3.0, -3.5]


def with_linear_discriminator(train: Train, setting: str) -> tuple[GAN, float]:
    """A module outside a trainer whose D is linear, and ||w||²; R1 of γ = 2 is that."""
    settings = [setting, "model/penalties=r1", "model.penalties.r1.gamma=2", "trainer.max_steps=1"]
    _, gan = restore(Run(train("gan", *settings)))
    assert isinstance(gan, GAN)
    linear = nn.Linear(gan.pack * 64, 1)
    gan.discriminator = nn.Sequential(nn.Flatten(), linear)
    optimizers = gan.configure_optimizers()
    for optimizer in optimizers:
        optimizer.step = lambda: None  # type: ignore
    gan.each_optimizer = lambda: optimizers  # type: ignore
    gan.manual_backward = lambda loss: loss.backward()  # type: ignore
    gan._trainer = SimpleNamespace()  # type: ignore
    return gan, float(linear.weight.detach().square().sum())


def discriminator_step(gan: GAN, step: int = 0) -> dict[str, float]:
    """What the step reports."""
    gan.step = step
    minibatch = Minibatch(torch.randn(4, 1, 8, 8), None)
    fake = torch.randn(4, 1, 8, 8)
    judged = (gan.judge(items, minibatch) for items in (minibatch.real, fake))
    return {name: float(value) for name, value in gan._discriminator_step(minibatch, *judged, fake).items()}


def test_what_does_not_go_together_is_said() -> None:
    for overrides, says in (
        (["model/discriminator=modern", "model.spectral_norm=true"], "layers that start as zero"),
        (["model.pack=3", "data.batch_size=8"], "pack=3: must divide"),
        (["model.top_k=1.5"], "top_k=1.5"),
        (["data=ring8", "model/augment=diff_augment"], "for images only"),
        (["data=ring8", *POINTS, "model/penalties=consistency"], "penalties.consistency: changes images"),
        (["data=ring8", *POINTS, "data.batch_size=4", "model.discriminator_steps=4"], "needs two items a step"),
    ):
        base = ["model=gan"] if "data=ring8" in overrides else ["data=digits", "model=gan"]
        with pytest.raises(UserError, match=says):
            training._build_module(COMPOSER.train([*base, *overrides]))


@pytest.mark.parametrize(("condition", "logged"), [("auxiliary", True), ("projection", False)])
def test_the_price_of_classes_is_logged_where_d_reads_them(train: Train, condition: str, logged: bool) -> None:
    conditions = ["model/generator_condition=concatenation", f"model/discriminator_condition={condition}"]
    run = train("gan", *conditions, "trainer.max_steps=1", "trainer.log_every_n_steps=1")
    assert ("train/class_loss" in (run / "metrics.csv").read_text()) == logged
