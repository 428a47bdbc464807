"""The experiment on MNIST of Goodfellow et al. 2014, in miniature: its moves, its start and its estimate."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aigc_lab import training
from aigc_lab.config.compose import Composer
from aigc_lab.data.images import TorchvisionImages
from aigc_lab.errors import UserError
from aigc_lab.generators import LATENTS, Implicit, load
from aigc_lab.metrics_file import read_metrics
from aigc_lab.minimax import parzen
from aigc_lab.modules.gan import GAN, Minibatch, SimultaneousGAN
from aigc_lab.nets.conditional import Verdict
from aigc_lab.pictures import sheet
from aigc_lab.reproduce.bounds import HeldOutBound
from aigc_lab.reproduce.measures import ParzenWindow, SharedHarness
from aigc_lab.reproduce.texts import HeldOutLikelihood
from aigc_lab.reproduce.trial import Illustrated, Seen, Trial
from aigc_lab.run import Run

TINY_2014 = [
    "experiment=goodfellow2014/mnist",
    "model.generator.hidden=[8]",
    "model.discriminator.hidden=[6]",
    "data.batch_size=10",
    "trainer.limit_train_items=40",
    "trainer.log_every_n_steps=1",
    "callbacks.log_parzen.every_n_steps=2",
    "callbacks.log_parzen.n=30",
    "logger=none",
    "run_id=tiny",
]


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 training and 20 test images of uniform noise in MNIST's format; σ is chosen on those after the 40th."""
    folder = tmp_path / "data/MNIST/raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 60), ("t10k", 20)):
        pixels, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10
        images_header, labels_header = struct.pack(">4i", 2051, n, 28, 28), struct.pack(">2i", 2049, n)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(images_header + pixels.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels_header + labels.tobytes())
    monkeypatch.setattr(parzen, "N_TRAIN_2014", 40)
    return tmp_path / "data"


def train(mnist: Path, steps: int, *overrides: str) -> Path:
    paths = [f"paths.data_dir={mnist}", f"paths.runs_dir={mnist.parent / 'runs'}"]
    config = Composer().train([*TINY_2014, *paths, f"trainer.max_steps={steps}", *overrides])
    return training.train(config, ["pytest"]).path


def test_the_experiment_trains_logs_its_estimate_and_is_loaded(mnist: Path) -> None:
    run = train(mnist, 4)
    rows = {(step, name): value for step, name, value in read_metrics(run / "metrics.csv")}
    assert {step for step, name in rows if name == "parzen/mean"} == {1, 3}
    generator = load(run)
    assert isinstance(generator, Implicit) and generator.latent == "uniform"
    samples = (generator.push_forward(30, rng=torch.Generator().manual_seed(0)) + 1) / 2
    data = TorchvisionImages(dataset="MNIST", root=str(mnist), download=False, batch_size=1, levels=None)
    expected = parzen.protocol_2014(samples, *data.intensities())
    assert rows[3, "parzen/mean"] == pytest.approx(expected.mean, rel=1e-6)  # the weights that were exported


def test_the_first_images_have_the_means_of_the_data(mnist: Path) -> None:
    """A generator that starts at the means has mean images from the first step on, but for its weights' noise."""
    run = train(mnist, 1, "model.lr=1e-9")
    images = (load(run).push_forward(500, rng=torch.Generator().manual_seed(0)) + 1) / 2  # type: ignore[operator]
    data = TorchvisionImages(dataset="MNIST", root=str(mnist), download=False, batch_size=1, levels=None)
    assert (images.mean(0) - data.intensities()[0].mean(0)).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model/generator=mlp"], "start_at_means: the generator's last layer"),
        (["model.discriminator_steps=2"], "players that move at once take one each"),
    ],
)
def test_what_does_not_fit_is_one_line(mnist: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(mnist, 1, *overrides)


def test_players_that_move_at_once_do_not_see_each_others_move(train_gan: Callable[..., GAN]) -> None:
    """D's step is the same whether or not G moves too, and G's the same whether or not D does."""
    both, only_g, only_d = train_gan(1e-2, 1e-2), train_gan(1e-2, 1e-30), train_gan(1e-30, 1e-2)
    for mine, alone in ((both.generator, only_g.generator), (both.discriminator, only_d.discriminator)):
        for a, b in zip(mine.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert isinstance(both, SimultaneousGAN)


def test_both_players_learn_from_one_pass_of_the_samples(
    train_gan: Callable[..., GAN], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So they share its dropout; the real images are in it, too."""
    judged, judge = [], GAN.judge

    def counted(self: GAN, items: Tensor, minibatch: Minibatch) -> Verdict:
        judged.append(len(items) // len(minibatch.real))
        return judge(self, items, minibatch)

    monkeypatch.setattr(GAN, "judge", counted)
    train_gan(1e-2, 1e-2)
    assert judged == [2]


@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm1d])
def test_what_is_said_of_both_kinds_of_images_is_what_is_said_of_each(
    train_gan: Callable[..., GAN], norm: Callable[[int], nn.Module]
) -> None:
    """Where D norms a batch by what stands in it, real images do not stand beside generated ones."""
    gan = train_gan(1e-2, 1e-2).train()
    assert isinstance(gan, SimultaneousGAN)
    gan.discriminator = nn.Sequential(nn.Flatten(), norm(64), nn.Linear(64, 1))
    real, fake = torch.randn(4, 1, 8, 8), 3 + torch.randn(4, 1, 8, 8)
    minibatch = Minibatch(real, None)
    for both, alone in zip(gan._judge_both(minibatch, fake), (real, fake), strict=True):
        torch.testing.assert_close(both.logits, gan.judge(alone, minibatch).logits)


@pytest.fixture
def train_gan(tmp_path: Path) -> Callable[..., GAN]:
    """One step of plain gradient descent on digits at the two learning rates given -> the trained module."""

    def run(lr: float, discriminator_lr: float) -> GAN:
        overrides = [
            "data=digits",
            "model=gan",
            "model._target_=aigc_lab.modules.gan.SimultaneousGAN",
            "model/generator=mlp",
            "model/discriminator=mlp",
            "model/penalties=none",
            "model.generator.hidden=[8]",
            "model.discriminator.hidden=[8]",
            "optimizer=sgd",
            f"model.lr={lr}",
            f"model.discriminator_lr={discriminator_lr}",
            "trainer.max_steps=1",
            "logger=none",
            f"paths.runs_dir={tmp_path}",
            f"run_id=at_{lr}_{discriminator_lr}",
        ]
        finished = training.train(Composer().train(overrides), ["pytest"])
        _, module = training.restore(finished)
        assert isinstance(module, GAN)
        return module

    return run


def test_uniform_latents_have_mean_0_and_variance_1() -> None:
    z = LATENTS["uniform"](torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0)))
    assert z.abs().max() <= 3**0.5
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(0), torch.ones(2), atol=0.02, rtol=0)


def test_the_parzen_measure_gives_the_rows_of_its_table(mnist: Path) -> None:
    trial = Trial(0, Run.open(train(mnist, 1)))
    found = ParzenWindow(n=30, k_means_rounds=2)(trial)
    data = TorchvisionImages(dataset="MNIST", root=str(mnist), download=False, batch_size=1, levels=None)
    images, test = data.intensities()
    real = images[:40][torch.randperm(40, generator=trial.rng())[:30]]
    assert found["parzen_real_data"] == pytest.approx(parzen.protocol_2014(real, images, test).mean)
    assert set(found) == {
        f"parzen{row}{of}" for row in ("", "_real_data", "_k_means") for of in ("", "_error", "_sigma")
    }
    with pytest.raises(UserError, match="n=41 of 40 training images"):
        ParzenWindow(n=41, k_means_rounds=2)(trial)


def test_distances_on_the_shared_harness(trained: dict[str, Path]) -> None:
    """At the n of the harness, and of its own reference: what the harness itself finds of the same samples."""
    trial = Trial(0, Run.open(trained["gan"]))
    found = SharedHarness(protocol="quick", n=100)(trial)
    assert found["frechet"] > found["frechet_floor"] > 0 and 0 <= found["precision"] <= 1
    assert SharedHarness(protocol="quick", n=100)(trial) == found
    with pytest.raises(UserError, match="n=500 of 450 held-out items"):
        SharedHarness(protocol="quick", n=500)(trial)


@pytest.mark.parametrize(
    ("run", "measure"),
    [
        ("gan", SharedHarness(protocol="quick", n=100)),
        ("vae", HeldOutBound(importance_samples=1)),
        ("pixels", HeldOutLikelihood()),
    ],
)
def test_the_figure_of_images_has_samples_of_each_trial(
    trained: dict[str, Path], run: str, measure: Illustrated
) -> None:
    trial = Trial(0, Run.open(trained[run]))
    figure = measure.figure([Seen("a", trial, {}), Seen("b", trial, {})])
    assert figure is not None and [axes.get_ylabel() for axes in figure.axes] == ["a seed 0", "b seed 0"]
    drawn = [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes]
    row = sheet(trial.generator.sample(12, rng=trial.rng()), columns=12)
    assert (drawn[0] == np.asarray(row)).all() and (drawn[1] == drawn[0]).all()


def test_there_is_no_such_figure_of_texts(trained: dict[str, Path]) -> None:
    assert HeldOutLikelihood().figure([Seen("", Trial(0, Run.open(trained["text"])), {})]) is None
