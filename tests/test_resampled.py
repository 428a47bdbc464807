"""A GAN's samples, chosen by a discriminator."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import QUIET, train_these
from test_distributed import two_processes
from test_generators import rng, spec_of
from torch import Tensor, nn

from aigc_lab.cli import main
from aigc_lab.data.samples import Points
from aigc_lab.generators import Implicit, load
from aigc_lab.resampled import Resampled

GAN = ["data=gaussian_2d", "data.batch_size=128", "model=gan", "model.ema_decay=0.9"]
GAN += ["model/generator=normalised", "model/discriminator=mlp"]
GAN += ["model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "model.latent_dim=2", "model.lr=5e-3"]
RESAMPLED = ["data=gaussian_2d", "data.batch_size=128", "model=resampled", "model/discriminator=mlp"]
RESAMPLED += ["model.discriminator.hidden=[32]"]
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Known:
    """A network that is a function, both as generator and as discriminator."""

    function: Function

    def decoder(self, n_in: int, shape: tuple[int, ...]) -> nn.Module:
        return _Applied(self.function)

    def encoder(self, shape: tuple[int, ...], n_out: int) -> nn.Module:
        return _Applied(self.function)


class _Applied(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function, self.unused = function, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def resampled(generate: Function, logit: Function, proposals: int) -> Resampled:
    return Resampled(
        spec=spec_of("points", (1,), 0),
        generator=Known(generate),
        latent_dim=1,
        latent="normal",
        discriminator=Known(logit),
        proposals=proposals,
    )


@pytest.mark.parametrize("proposals", [1, 2, 5])
def test_the_law_of_what_is_kept(proposals: int) -> None:
    """By enumeration, for a G that is 1 in half of all samples and else 0, and a p that is 1 in 9 of 10: D* is
    p / (p + p_g), so its logits are log 1.8 and log 0.2."""
    ratios = {1: 1.8, 0: 0.2}
    exact = sum(
        0.5**proposals * sum(ratios[i] for i in drawn if i) / sum(ratios[i] for i in drawn)
        for drawn in itertools.product((0, 1), repeat=proposals)
    )
    model = resampled(lambda z: (z > 0).float(), lambda x: torch.where(x > 0, 1.8, 0.2).log(), proposals)
    n = 40_000
    kept = model.sample(n, rng=rng())
    assert isinstance(kept, Points) and kept.coordinates.shape == (n, 1)
    assert float(kept.coordinates.mean()) == pytest.approx(exact, abs=4 * 0.5 / n**0.5)


def test_with_many_proposals_the_law_is_that_of_the_data() -> None:
    """N(0, 1), resampled by the exact log ratio to N(1/2, 1/4)."""
    log_ratio = lambda x: x.square() / 2 - 2 * (x - 0.5).square() + torch.tensor(2.0).log()  # noqa: E731
    x = resampled(lambda z: z, log_ratio, 512).sample(10_000, rng=rng()).coordinates
    assert float(x.mean()) == pytest.approx(0.5, abs=4 * 0.5 / 100)
    assert float(x.std()) == pytest.approx(0.5, abs=4 * 0.5 / 20_000**0.5 + 0.005)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GAN of a wider law, and what is resampled of it; the first is not where it was any more."""
    root = tmp_path_factory.mktemp("stages")
    first = train_these(root, [*GAN, "data.covariance=[[4,0],[0,4]]", "trainer.max_steps=300"])
    settings = ["trainer.max_steps=400", "trainer.log_every_n_steps=100", "model.lr=5e-3"]
    second = train_these(root, [*RESAMPLED, f"model.run={first}", *settings])
    return first.rename(root / "gone"), second


def gap(run: Path) -> float:
    """How far mean and covariance of a run's samples are from the data's."""
    drawn = load(run).sample(10_000, rng=rng())
    assert isinstance(drawn, Points)
    x = drawn.coordinates
    mean, covariance = torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 0.8]])
    return float((x.mean(0) - mean).norm() + (x.T.cov() - covariance).norm())


def test_samples_come_nearer_to_the_data(stages: tuple[Path, Path]) -> None:
    first, second = (load(run) for run in stages)
    assert isinstance(first, Implicit) and isinstance(second, Resampled)
    kept = second.proposal.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in first.state_dict().items()), "G stays as it is"
    before, after = map(gap, stages)
    assert before > 1 and after < before / 10
    assert second.cost().flops_per_sample > 64 * first.cost().flops_per_sample


def test_two_processes(stages: tuple[Path, Path], tmp_path: Path) -> None:
    more = [f"model.run={stages[0]}", "model.proposals=3", "trainer.max_steps=3", "trainer=ddp_cpu", *QUIET]
    two_processes("train", *RESAMPLED, *more, f"paths.runs_dir={tmp_path}", "name=second", "run_id=one")
    generator = load(tmp_path / "second/one")
    assert isinstance(generator, Resampled) and generator.proposals == 3


def test_what_cannot_be_resampled_is_refused_in_one_line(
    train: Callable[..., Path], stages: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vae, gan = train("vae", "trainer.max_steps=1"), train("gan", "trainer.max_steps=1")
    command = ["train", *RESAMPLED, *QUIET, f"paths.runs_dir={tmp_path}/new"]
    own = f"model.run={stages[0]}"
    for overrides, says in (
        ([f"model.run={vae}"], "its model has no generator"),
        ([f"model.run={stages[1]}"], "is of no GAN; name a run of model=gan"),
        ([f"model.run={gan}"], "its samples are not of the shape of Gaussian"),
        ([f"model.run={gan}", "data=digits"], "digits holds no points"),
        ([own, "model.latent=uniform"], f"latent: is uniform, and that of run={stages[0]} is normal"),
        ([own, "model.latent_dim=3"], "latent_dim: is 3, and that of"),
        (
            [own, "model.generator={_target_: aigc_lab.nets.mlp.MLP, hidden: [8]}"],
            "generator: is MLP(hidden=[8])",
        ),
    ):
        capsys.readouterr()
        assert main([*command, *overrides]) == 2, overrides
        assert says in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()
