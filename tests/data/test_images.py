import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from aigc_lab.data.binarised import Binarised
from aigc_lab.data.images import Digits, ImageFolder, TorchvisionImages
from aigc_lab.errors import UserError


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits(batch_size=8, levels=None, held_out=0.25)


def test_the_digits_and_their_split_never_change(digits: Digits) -> None:
    spec = digits.spec
    assert (spec.shape, spec.vocab_size, spec.n_classes) == ((1, 8, 8), 17, 10)
    assert (spec.n_train, spec.n_held_out) == (1347, 450)
    assert spec.content_hash.startswith("2bc96d98e0")


def test_classes_keep_their_proportions_in_both_splits(digits: Digits) -> None:
    counts = [torch.bincount(digits.labels(split)) for split in ("train", "held_out")]
    share = counts[1] / (counts[0] + counts[1])
    assert (share - 0.25).abs().max() < 0.01


def test_fewer_levels_are_bins_of_equal_width(digits: Digits) -> None:
    binary = Digits(batch_size=8, levels=2, held_out=0.25)
    pixels, bits = digits.real("train").pixels, binary.real("train").pixels
    assert torch.equal(bits, (pixels >= 9).to(torch.uint8))
    assert binary.spec.content_hash != digits.spec.content_hash


def idx_files(folder: Path, n_train: int, n_test: int) -> None:
    """Random images in the format of the MNIST files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, n in (("train", n_train), ("t10k", n_test)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 2051, n, 28, 28) + pixels.tobytes()
        )
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + labels.tobytes())


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_idx_files_are_read_through_torchvision(tmp_path: Path, name: str) -> None:
    idx_files(tmp_path / name / "raw", 30, 20)
    data = TorchvisionImages(dataset=name, root=str(tmp_path), download=False, batch_size=4, levels=None)
    assert data.spec.shape == (1, 28, 28) and data.spec.vocab_size == 256
    assert (data.spec.n_train, data.spec.n_held_out, data.spec.n_classes) == (30, 20, 10)
    raw = np.frombuffer((tmp_path / name / "raw/train-images-idx3-ubyte").read_bytes()[16:], dtype=np.uint8)
    assert np.array_equal(data.real("train").pixels.numpy().ravel(), raw)


def test_cifar10_is_read_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are pickles of known checksums: here small ones of our own, with the checksums left out."""
    import pickle

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batch = {"data": np.arange(4 * 3072, dtype=np.uint8).reshape(4, 3072), "labels": [0, 1, 2, 9]}
    for name in ("data_batch_1", "test_batch"):
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": None})
    data = TorchvisionImages(dataset="CIFAR10", root=str(tmp_path), download=False, batch_size=4, levels=None)
    assert data.spec.shape == (3, 32, 32)
    assert np.array_equal(data.real("train").pixels.numpy().ravel(), batch["data"].ravel())


def test_a_download_without_a_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    data = TorchvisionImages(dataset="MNIST", root=str(tmp_path), download=True, batch_size=4, levels=None)
    with pytest.raises(UserError, match=r"cannot read or fetch MNIST.*unreachable"):
        _ = data.spec


def test_mnist(data_dir: Path) -> None:
    data = TorchvisionImages(dataset="MNIST", root=str(data_dir), download=False, batch_size=4, levels=None)
    assert (data.spec.n_train, data.spec.n_held_out, data.spec.shape) == (60_000, 10_000, (1, 28, 28))
    assert data.labels("train")[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Grey, colour, transparent and rotated pictures of odd sizes in two classes, and a file that is none."""
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / ("cats" if i % 2 else "dogs")
        folder.mkdir(exist_ok=True)
        size = (17 + i, 31 - i)
        array = rng.integers(0, 256, (*size, 4), dtype=np.uint8)
        mode = ("RGB", "L", "RGBA")[i % 3]
        Image.fromarray(array).convert(mode).save(folder / f"{i}.{'png' if mode == 'RGBA' else 'jpg'}")
    (tmp_path / "notes.md").write_text("not a picture")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_pictures(pictures: Path, channels: int) -> None:
    data = ImageFolder(path=str(pictures), size=9, channels=channels, held_out=0.25, batch_size=4, levels=None)
    assert data.spec.shape == (channels, 9, 9)
    assert (data.spec.n_train, data.spec.n_held_out, data.spec.n_classes) == (8, 4, 2)
    assert torch.bincount(data.labels("held_out")).tolist() == [2, 2]


def test_grey_levels_of_16_bits_keep_their_order(tmp_path: Path) -> None:
    for name, level in (("a", 0), ("b", 30_000), ("c", 65_535)):
        Image.fromarray(np.full((4, 4), level, np.uint16)).save(tmp_path / f"{name}.png")
    data = ImageFolder(path=str(tmp_path), size=4, channels=1, held_out=0.34, batch_size=1, levels=None)
    every = torch.cat([data.real("train").pixels, data.real("held_out").pixels]).unique()
    assert every.tolist() == [0, 117, 255]
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "d.tiff")
    with pytest.raises(UserError, match=r"d\.tiff: its pixels are neither of 8 nor of 16 bits"):
        _ = ImageFolder(path=str(tmp_path), size=4, channels=1, held_out=0.34, batch_size=1, levels=None).spec


def test_something_is_left_to_train_on(pictures: Path) -> None:
    data = ImageFolder(path=str(pictures), size=9, channels=1, held_out=0.99, batch_size=4, levels=None)
    with pytest.raises(UserError, match=r"data.held_out=0.99: leaves none of the 12 images of .* to train on"):
        _ = data.spec


def test_pictures_are_shrunk_with_antialiasing(tmp_path: Path) -> None:
    """A checkerboard of single pixels is grey from afar; picking every n-th pixel would make it black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    for i in range(3):
        Image.fromarray(board).save(tmp_path / f"{i}.png")
    data = ImageFolder(path=str(tmp_path), size=8, channels=1, held_out=0.3, batch_size=4, levels=None)
    assert (data.real("train").pixels.float() - 127.5).abs().max() < 3


def test_binarised_images_have_the_intensities_as_probabilities_and_are_drawn_once(digits: Digits) -> None:
    data = Binarised(images=digits, batch_size=8, seed=0)
    grey = digits.real("train").pixels / 16
    binary = data.real("train").pixels
    assert (data.spec.vocab_size, data.spec.class_counts) == (2, digits.spec.class_counts)
    assert torch.equal(data.labels("train"), digits.labels("train"))
    for intensity in grey.unique():
        there = binary[grey == intensity].double()
        error = float(intensity * (1 - intensity) / len(there)) ** 0.5  # none for black and white
        assert float(there.mean()) == pytest.approx(float(intensity), abs=5 * error)
    again, other = (Binarised(images=digits, batch_size=8, seed=seed) for seed in (0, 1))
    assert again.spec.content_hash == data.spec.content_hash != other.spec.content_hash
