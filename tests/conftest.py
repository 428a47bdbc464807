"""Fixtures: small runs that take a second, trained in this process."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may download
os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks this small only wait for a second thread

TINY = {
    "text": [
        "data=pydoc",
        "model=transformer",
        "data.batch_size=4",
        "data.context=32",
        "data.passage=64",
        "model.network.width=16",
        "model.network.n_layers=1",
        "model.network.n_heads=2",
        "model.network.dropout=0.1",
    ],
    "gan": [
        "data=digits",
        "model=gan",
        "model/generator=mlp",
        "model/discriminator=mlp",
        "model.generator.hidden=[16]",
        "model.discriminator.hidden=[16]",
        "data.batch_size=8",
    ],
    "vae": [
        "data=digits",
        "model=vae",
        "model.encoder.hidden=[16]",
        "model.decoder.hidden=[16]",
        "data.batch_size=8",
    ],
    "flow": [
        "data=digits",
        "model=flow",
        "model.velocity.widths=[8]",
        "model.n_steps=2",
        "data.batch_size=8",
    ],
    "pixels": [
        "data=digits",
        "model=transformer",
        "data.batch_size=4",
        "model.network.width=16",
        "model.network.n_layers=1",
        "model.network.n_heads=2",
    ],
}
"""Overrides that make a tiny run of each family."""

ALSO = {
    "masked": [
        "data=pydoc",
        "model=masked",
        "model.at_once=8",
        "data.batch_size=4",
        "data.context=32",
        "data.passage=64",
        "model.network.width=16",
        "model.network.n_layers=1",
        "model.network.n_heads=2",
    ],
    "classes": [
        "data=digits",
        "model=gan",
        "model/generator=dcgan",
        "model/discriminator=dcgan",
        "model.generator.width=8",
        "model.discriminator.width=8",
        "model/generator_condition=batch_norm",
        "model/discriminator_condition=projection",
        "model.discriminator_condition.n_features=8",
        "model/objective=hinge",
        "model.spectral_norm=true",
        "model/penalties=lecam",
        "model/augment=adaptive",
        "model.augment.ramp=64",
        "data.batch_size=8",
    ],
}
"""Of families that are trained as one of those: `trained` has them, what trains every family anew does not."""

QUICK = ("evaluation.n=60", "evaluation.judge.steps=10", "evaluation.judge.context=32")
"""A short evaluation."""

QUIET = ["logger=none", "trainer.num_threads=1"]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["AIGC_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """Train a tiny run in this process: train("gan", "seed=1") -> its directory."""

    def run(family: str, *overrides: str) -> Path:
        return train_here(tmp_path / "runs", family, overrides)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished tiny run of each family, to read from."""
    root = tmp_path_factory.mktemp("trained")
    return {
        family: train_here(root, family, ["trainer.max_steps=6", "trainer.log_every_n_steps=2"])
        for family in TINY | ALSO
    }


def train_here(runs_dir: Path, family: str, overrides: Sequence[str]) -> Path:

    return train_these(runs_dir, [*(TINY | ALSO)[family], *overrides])


def train_these(runs_dir: Path, overrides: Sequence[str]) -> Path:
    from aigc_lab import training
    from aigc_lab.config.compose import Composer

    config = Composer().train([f"paths.runs_dir={runs_dir}", *QUIET, *overrides])
    return training.train(config, ["pytest"]).path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with MNIST and Tiny Shakespeare, where there is one."""
    path = Path(os.environ.get("AIGC_DATA", "../shared/data"))
    if not path.is_dir():
        pytest.skip(f"AIGC_DATA: {path} is not there")
    return path
