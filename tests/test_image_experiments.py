"""Experiments on images that are not here, on small files of their format: as configured, but for their size."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import QUIET, train_these
from PIL import Image
from torchvision import datasets

import aigc_lab

SMALL = ["data.batch_size=4", "trainer.max_steps=2", "model.generator.max_width=16", "model.generator.width=16"]
SMALL += ["model.discriminator.max_width=16", "model.discriminator.width=16", *QUIET]


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"pictures/{label}/{i}.png")
    run = train_these(tmp_path / "runs", ["experiment=image/folder_gan", f"data.path={tmp_path}/pictures", *SMALL])
    generator = aigc_lab.load(run)
    assert generator.spec.shape == (3, 64, 64) and generator.spec.n_classes == 2


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data/cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("data_batch_1", "test_batch"):
        pixels = rng.integers(0, 256, (40, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [*range(10)] * 4}))
    (folder / "meta").write_bytes(pickle.dumps({"label_names": [*"abcdefghij"]}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": None})
    here = ["trainer=cpu", f"paths.data_dir={tmp_path}/data", "trainer.precision=bf16-mixed"]
    run = train_these(tmp_path / "runs", ["experiment=image/cifar10_gan", *here, *SMALL])
    assert aigc_lab.load(run).spec.shape == (3, 32, 32)
