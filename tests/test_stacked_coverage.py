"""Stacked MNIST as an experiment: its measure on a perfect and on a collapsed sampler, and its quick version."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from aigc_lab.cli import main
from aigc_lab.data.images import Digits
from aigc_lab.data.samples import Images
from aigc_lab.data.stacked import StackedImages
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features import ImageClassifier
from aigc_lab.minimax import modes
from aigc_lab.reproduce.measures import StackedCoverage, Trial

CLASSIFIER = ImageClassifier(width=8, dim=32, steps=300, batch_size=64, lr=3e-3, seed=0)
N = 26_000


class Sampler:
    """The training images of some digits, three at a time."""

    def __init__(self, digits: list[int]) -> None:
        grey = Digits(batch_size=8, levels=None, held_out=0.25)
        self.grey = grey.real("train").pixels[torch.isin(grey.labels("train"), torch.tensor(digits))]

    def sample(self, n: int, *, rng: torch.Generator) -> Images:
        return Images(self.grey[torch.randint(len(self.grey), (n, 3), generator=rng)].squeeze(2), 17)


def trial(generator: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trial:
    """A trial of that generator on stacked 8x8 digits, as if a run had trained it."""
    grey = Digits(batch_size=8, levels=None, held_out=0.25)
    data = StackedImages(images=grey, batch_size=8, n_train=100, n_held_out=N, seed=0)
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path))
    made = Trial(0, None)
    vars(made).update(generator=generator, _restored=(data, None))
    return made


def test_a_perfect_sampler_reaches_the_floor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    perfect = trial(Sampler(list(range(10))), monkeypatch, tmp_path)
    found = StackedCoverage(n=N, classifier=CLASSIFIER)(perfect)
    floor = modes.perfect_stacked_coverage(N).kl
    assert floor == pytest.approx(0.01934, abs=1e-5)
    assert found["modes"] == found["modes_of_real"] == 1000
    assert found["accuracy"] > 0.95
    assert found["kl"] == pytest.approx(floor, abs=0.005) and found["kl_of_real"] == pytest.approx(
        floor, abs=0.015
    )


def test_a_collapsed_sampler_has_the_modes_that_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    two = trial(Sampler([0, 6]), monkeypatch, tmp_path)
    found = StackedCoverage(n=1000, classifier=CLASSIFIER)(two)
    assert 8 <= found["modes"] < 30, "a few are misread"
    assert found["kl"] == pytest.approx(np.log(1000 / 8), abs=0.15)


def test_it_counts_stacked_digits_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    perfect = trial(Sampler([0]), monkeypatch, tmp_path)
    with pytest.raises(UserError, match="n=30000 of 26000 held-out items"):
        StackedCoverage(n=30_000, classifier=CLASSIFIER)(perfect)
    vars(perfect)["_restored"] = (Digits(batch_size=8, levels=None, held_out=0.25), None)
    with pytest.raises(UserError, match="digits has no stacked digits to count"):
        StackedCoverage(n=10, classifier=CLASSIFIER)(perfect)


@pytest.mark.slow
def test_the_quick_version_of_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On noise in MNIST's format."""
    folder = tmp_path / "data/MNIST/raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 300), ("t10k", 100)):
        pixels, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10
        images_header, labels_header = struct.pack(">4i", 2051, n, 28, 28), struct.pack(">2i", 2049, n)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(images_header + pixels.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels_header + labels.tobytes())
    monkeypatch.setenv("AIGC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "conf/experiment/modes/a_copy.yaml"  # so that its results are written here
    copy.parent.mkdir(parents=True)
    copy.write_text((Path(__file__).parents[1] / "experiments/modes/stacked_mnist.yaml").read_text())
    assert main(["reproduce", "modes/a_copy", "--config-dir", "conf", "--quick", "--json"]) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert results["quick"] and set(results["measured"]) == {"plain", "recommended"}
    for measured in results["measured"].values():
        assert 1 <= measured["modes"][0] <= 500 and measured["kl"][0] > 0
