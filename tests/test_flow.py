"""Flows: networks of any shape, densities that are right, classes that steer, and runs through the commands."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import train_these
from test_generators import spec_of
from torch import Tensor, nn

from aigc_lab.cli import main
from aigc_lab.data.samples import Images, Points
from aigc_lab.flow import Flow
from aigc_lab.generators import Generator, load
from aigc_lab.nets.unet import UNet
from aigc_lab.nets.velocity import PointVelocity, VelocityArchitecture
from aigc_lab.objectives.flow_matching import ClassifierFree
from aigc_lab.objectives.ode import Euler, RungeKutta4
from aigc_lab.types import Shape

Train = Callable[..., Path]
SMALL = UNet(widths=[4, 8, 8], patch=1, n_blocks=1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(network: nn.Module) -> nn.Module:
    """Its last layers begin at zero, which would hide much."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


class _Linear(nn.Module):
    """The best velocity to N(mean, S): E[u | x_t = x] with σ = 0."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.mean, self.covariance = nn.Parameter(mean), nn.Parameter(covariance)

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        s, eye = float(t[0]), torch.eye(x.shape[1])
        of_x = (1 - s) ** 2 * eye + s**2 * self.covariance
        slope = torch.linalg.solve(of_x, s * self.covariance - (1 - s) * eye)
        return self.mean + (x - s * self.mean) @ slope


class ToNormal:
    def __init__(self, mean: list[float], covariance: list[list[float]]) -> None:
        self.law = torch.distributions.MultivariateNormal(torch.tensor(mean), torch.tensor(covariance))

    def velocity(self, shape: Shape, n_classes: int) -> nn.Module:
        return _Linear(self.law.mean, self.law.covariance_matrix)


@pytest.mark.parametrize(
    ("mean", "covariance"),
    [
        ([1.0], [[0.3]]),
        ([1.0, -1.0], [[1.0, 0.6], [0.6, 0.8]]),
        ([0.0, 1.0, 2.0], [[0.5, 0.1, 0.0], [0.1, 1.0, -0.4], [0.0, -0.4, 2.0]]),
    ],
)
def test_the_flow_to_a_normal_law_has_its_density_and_its_samples(
    mean: list[float], covariance: list[list[float]]
) -> None:
    target = ToNormal(mean, covariance)
    d, n = len(mean), 20_000
    flow = Flow(spec=spec_of("points", (d,), 0), velocity=target, solver=RungeKutta4(), n_steps=10)
    points = target.law.sample((50,)) * 1.5
    likelihood = flow.log_likelihood(Points(points), rng=rng())
    assert likelihood is not None and likelihood.kind == "exact"
    torch.testing.assert_close(likelihood.nats, target.law.log_prob(points).double(), rtol=0, atol=1e-3)
    samples = flow.sample(n, rng=rng())
    assert isinstance(samples, Points)
    largest = math.sqrt(max(covariance[i][i] for i in range(d)))
    bound = 5 * largest / math.sqrt(n)
    torch.testing.assert_close(samples.coordinates.mean(0), target.law.mean, rtol=0, atol=bound)
    torch.testing.assert_close(
        samples.coordinates.T.cov().view(d, d), target.law.covariance_matrix, rtol=0, atol=0.1
    )


def test_a_density_is_one_whatever_the_network() -> None:
    """Of a flow on the line with an untrained velocity: its integral."""
    torch.manual_seed(1)
    architecture = PointVelocity(hidden=[8, 8], n_features=4, lowest=0.1, highest=0.4)
    flow = Flow(spec=spec_of("points", (1,), 0), velocity=architecture, solver=RungeKutta4(), n_steps=6)
    shaken(flow.network)
    x = torch.linspace(-12, 12, 4001)[:, None]
    with torch.inference_mode():  # as an evaluation calls it
        likelihood = flow.log_likelihood(Points(x), rng=rng())
    assert likelihood is not None
    assert float(likelihood.nats.exp().sum() * 24 / 4000) == pytest.approx(1, abs=0.01)


ARCHITECTURES = {"unet": SMALL, "patches": UNet(widths=[4, 8], patch=2, n_blocks=2)}
SHAPES = [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 64, 64), (1, 9, 13), (2, 5, 4)]


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_velocity_has_the_shape_of_the_image_and_is_of_each_image_alone(
    architecture: VelocityArchitecture, shape: Shape
) -> None:
    torch.manual_seed(0)
    network = shaken(architecture.velocity(shape, 3))
    x, t, classes = torch.randn(4, *shape), torch.rand(4), torch.tensor([0, 1, 2, 3])
    together = network(x, t, classes)
    assert together.shape == x.shape
    alone = [network(x[i : i + 1], t[i : i + 1], classes[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-4)
    changed = [network(x, t.flip(0), classes), network(x, t, classes.flip(0)), network(x.flip(0), t, classes)]
    assert not any(v.isclose(together).all() for v in changed), "it sees the time, the class and the place"
    torch.testing.assert_close(network(x, t), network(x, t, torch.full((4,), 3)))  # None is any class


def flow_of_classes(weight: float) -> Flow:
    torch.manual_seed(0)
    spec = replace(spec_of("image", (1, 4, 4), 17), n_classes=3, class_counts=(1, 0, 3))
    guidance = ClassifierFree(dropout=0.1, weight=weight)
    flow = Flow(spec=spec, velocity=SMALL, solver=Euler(), n_steps=3, guidance=guidance)
    shaken(flow.network)
    return flow


def test_a_class_is_asked_for_and_guidance_of_weight_0_forgets_it() -> None:
    flow = flow_of_classes(1.0)
    assert isinstance(flow, Generator) and flow.takes_classes
    classes = torch.tensor([0, 0, 2])
    here, there = (flow.sample_classes(c, rng=rng()) for c in (classes, 2 - classes))
    assert isinstance(here, Images) and isinstance(there, Images)
    assert here.pixels.dtype == torch.uint8 and here.levels == 17 and here.pixels.max() <= 16
    assert not torch.equal(here.pixels, there.pixels)
    free = flow_of_classes(0.0)
    a, b = (free.sample_classes(c, rng=rng()) for c in (classes, 2 - classes))
    assert isinstance(a, Images) and isinstance(b, Images) and torch.equal(a.pixels, b.pixels)
    assert flow.sample(5, rng=rng()).pixels.shape == (5, 1, 4, 4)  # type: ignore[union-attr]


def test_points_and_images_are_told_apart_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [f"paths.runs_dir={tmp_path}", "logger=none"]
    for overrides, line in {
        ("data=ring8", "model=flow"): "use model/velocity=mlp",
        ("data=ring8", "model=flow", "model/velocity=mlp", "model/guidance=classifier_free"): "has no classes",
        ("data=digits", "model=flow", "model.velocity.widths=[]"): "widths=[]",
        ("data=digits", "model=flow", "model.guidance.weight=2"): "guidance",
    }.items():
        assert main(["train", *overrides, *where]) == 2
        announced, *error = capsys.readouterr().err.splitlines()
        assert line in (error[0] if error else announced) and len(error) <= 1
    assert not list(tmp_path.iterdir())


def test_a_share_of_the_classes_is_hidden_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    forward = Flow.forward

    def spy(self: Flow, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        if torch.is_grad_enabled() and classes is not None:
            seen.append(classes)
        return forward(self, x, t, classes)

    monkeypatch.setattr(Flow, "forward", spy)
    tiny = ["data=digits", "model=flow", "model.velocity.widths=[4]", "data.batch_size=64", "trainer.max_steps=4"]
    train_these(tmp_path, [*tiny, "model/guidance=classifier_free", "model.guidance.dropout=0.25"])
    hidden = torch.cat(seen) == 10
    assert len(hidden) == 256 and 40 < int(hidden.sum()) < 90, "64 of them, give or take four deviations"
    with pytest.raises(ValueError, match="dropout=0 learns no velocity without a class"):
        ClassifierFree(dropout=0.0, weight=3.0)


def test_classes_through_training_and_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["data=digits", "model=flow", "model.velocity.widths=[8]", "data.batch_size=8", "trainer.max_steps=6"]
    run = train_these(
        tmp_path,
        [*tiny, "model/guidance=classifier_free", "model.guidance.weight=2", "trainer.precision=bf16-mixed"],
    )
    flow = load(run)
    assert flow.takes_classes and next(flow.parameters()).dtype == torch.float32
    assert main(["sample", str(run), "-n", "3", "--output", str(tmp_path / "x.png")]) == 0
    assert (tmp_path / "x.png").is_file()
    pictures = []
    for weight in ("2", "5"):
        sheet = tmp_path / f"{weight}.png"
        asked = ["--what", "classes", "--guidance", weight, "--output", str(sheet)]
        assert main(["sample", str(run), "-n", "1", *asked]) == 0
        pictures.append(sheet.read_bytes())
    assert pictures[0] != pictures[1]
    assert main(["sample", str(run), "-n", "1", "--what", "classes"]) == 0
    assert (run / "samples/classes-seed0-n1.png").read_bytes() == pictures[0], "as it was configured"
    free = train_these(tmp_path / "free", tiny)
    capsys.readouterr()
    assert main(["sample", str(free), "--guidance", "2"]) == 2
    assert "trained without model/guidance=classifier_free" in capsys.readouterr().err


def test_a_short_training_learns_a_correlated_normal_law(tmp_path: Path) -> None:
    """Samples by their moments, and the density: KL(law || flow) on held-out points."""
    run = train_these(
        tmp_path,
        [
            "data=gaussian_2d",
            "model=flow",
            "model/velocity=mlp",
            "model.velocity.hidden=[64, 64]",
            "model.velocity.highest=0.5",
            "model.lr=3e-3",
            "model.ema_decay=0.97",
            "optimizer.schedule.final=0",
            "trainer.max_steps=400",
        ],
    )
    flow = load(run)
    law = torch.distributions.MultivariateNormal(torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 0.8]]))
    samples = flow.sample(10_000, rng=rng())
    assert isinstance(samples, Points)
    mean, covariance = samples.coordinates.mean(0), samples.coordinates.T.cov()
    assert (mean - law.mean).abs().max() < 0.1
    assert (covariance - law.covariance_matrix).abs().max() < 0.15
    torch.manual_seed(0)
    points = law.sample((500,))
    likelihood = flow.log_likelihood(Points(points), rng=rng())
    assert likelihood is not None
    divergence = law.log_prob(points).double() - likelihood.nats
    assert -0.01 < divergence.mean() < 0.03, "KL(law || flow)"
