"""Stacked digits: their law, their shapes, and that they never change."""

import pytest
import torch

from aigc_lab.data.images import Digits
from aigc_lab.data.samples import Images
from aigc_lab.data.stacked import StackedImages
from aigc_lab.minimax import modes

GREY = Digits(batch_size=8, levels=None, held_out=0.25)
SIZES = {"batch_size": 8, "n_train": 26_000, "n_held_out": 500}


@pytest.fixture(scope="module")
def stacked() -> StackedImages:
    return StackedImages(images=GREY, seed=0, **SIZES)


def test_shapes_and_spec(stacked: StackedImages) -> None:
    spec = stacked.spec
    assert (spec.modality, spec.shape, spec.vocab_size, spec.n_classes) == ("image", (3, 8, 8), 17, 1000)
    assert (spec.n_train, spec.n_held_out) == (stacked.n_items, stacked.n_held_out_items) == (26_000, 500)
    batch = stacked.gather(torch.zeros(5, dtype=torch.long), torch.arange(5))
    assert batch.shape == (5, 3, 8, 8) and batch.dtype == torch.uint8


def test_the_triples_have_the_law_of_three_independent_digits(stacked: StackedImages) -> None:
    """All 1,000 occur, as far from equal shares as a perfect sampler of these digits would be."""
    labels = stacked.labels("train")
    digits = torch.stack([labels // 100, labels // 10 % 10, labels % 10], 1)
    shares = GREY.labels("train").bincount(minlength=10) / GREY.n_items
    report, perfect = modes.stacked_coverage(digits), modes.perfect_stacked_coverage(26_000, shares)
    assert report.modes == 1000 and report.kl == pytest.approx(perfect.kl, abs=0.003)
    corners = torch.corrcoef(digits.T.double()) - torch.eye(3)
    assert corners.abs().max() < 0.03


def test_each_channel_is_an_image_of_the_split_with_the_label_it_carries(stacked: StackedImages) -> None:
    for split in ("train", "held_out"):
        items, labels, grey = stacked.real(split), stacked.labels(split), GREY.real(split).pixels
        assert isinstance(items, Images) and len(items) == len(labels)
        known = {image.numpy().tobytes(): int(k) for image, k in zip(grey, GREY.labels(split), strict=True)}
        for pixels, label in zip(items.pixels[:300], labels[:300].tolist(), strict=True):
            first, second, third = (known[channel.numpy().tobytes()] for channel in pixels)
            assert label == 100 * first + 10 * second + third


def test_an_item_alone_is_the_item_among_all(stacked: StackedImages) -> None:
    index = torch.tensor([7, 0, 499])
    assert torch.equal(stacked.gather(index, index), stacked.real("train").pixels[index])
    assert torch.equal(stacked.gather_held_out(index), stacked.real("held_out").pixels[index])


def test_they_move_with_their_own_seed_only(stacked: StackedImages) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = StackedImages(images=GREY, seed=0, **SIZES)
    assert again.spec == stacked.spec and torch.equal(before, torch.get_rng_state())
    other = StackedImages(images=GREY, seed=1, **SIZES)
    assert other.spec.content_hash != stacked.spec.content_hash
    assert not torch.equal(other.labels("train"), stacked.labels("train"))


def test_only_grey_images_can_be_stacked(stacked: StackedImages) -> None:
    with pytest.raises(ValueError, match="3 channels; only grey images"):
        _ = StackedImages(images=stacked, seed=0, **SIZES).spec
