"""Differentiable augmentation: what it does to known pixels, and what it leaves alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lab.objectives.augment import CHANGES, AdaptiveAugment, DiffAugment, changed, colour, cutout, translation

ALL = list(CHANGES)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(3, 9), st.integers(3, 9), st.integers(0, 10**6))
def test_any_shape_keeps_its_shape_and_passes_gradients(n: int, c: int, h: int, w: int, seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.randn(n, c, h, w, requires_grad=True)
    result = DiffAugment(changes=["colour", "translation"])(images)
    assert result.shape == images.shape and result.isfinite().all()
    (slope,) = torch.autograd.grad(result.square().sum(), images)
    assert slope.isfinite().all() and slope.abs().sum() > 0
    assert torch.equal(changed(images, ALL, 0.0), images), "never means never"


def test_translation_moves_pixels_and_leaves_grey_behind() -> None:
    """Each image is one of the 9 shifts by at most a pixel of 8, each about as often as the others."""
    torch.manual_seed(0)
    image = torch.rand(1, 2, 8, 8) + 1
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    shifts = torch.stack([padded[0, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)])
    moved = translation(image.expand(1800, -1, -1, -1))
    same = (moved[:, None] == shifts).flatten(2).all(2)
    assert same.sum(1).eq(1).all()
    assert same.sum(0).min() > 140


def test_cutout_covers_a_square_of_half_the_sides_and_nothing_else() -> None:
    torch.manual_seed(0)
    images = torch.ones(500, 1, 8, 12)
    covered = (cutout(images) == 0).squeeze(1)
    rows, columns = covered.any(2).sum(1), covered.any(1).sum(1)
    assert rows.max() == 4 and columns.max() == 6 and rows.min() >= 2
    assert torch.equal(covered.flatten(1).sum(1), rows * columns), "a rectangle"


def test_colour_is_unbiased_and_keeps_the_contrast_of_a_grey_image_within_its_bounds() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 6, 6) - 0.5
    drawn = colour(image.expand(20_000, -1, -1, -1))
    torch.testing.assert_close(drawn.mean(0), image[0], atol=0.02, rtol=0)
    contrast = drawn.flatten(1).std(1) / image.std()
    assert contrast.min() >= 0.5 - 1e-4 and contrast.max() <= 1.5 + 1e-4


def test_saturation_goes_from_grey_to_twice_the_colour() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 6, 6) - 0.5
    drawn = colour(image.expand(5000, -1, -1, -1))
    grey, of_image = drawn.mean(1, keepdim=True), image.mean(1, keepdim=True)
    contrast = grey.flatten(1).std(1) / of_image.std()
    saturation = (drawn - grey).flatten(1).std(1) / (image - of_image).std() / contrast
    assert saturation.min() < 0.01 and 1.99 < saturation.max() < 2 + 1e-3
    assert abs(saturation.mean() - 1) < 0.03


def test_the_probability_is_steered_towards_the_target() -> None:
    augment = AdaptiveAugment(changes=["translation"], target=0.6, ramp=1000)
    assert torch.equal(augment(image := torch.randn(4, 1, 8, 8)), image), "it begins with nothing"
    for _ in range(3):
        augment.steer(torch.tensor(0.9), 100)
    assert float(augment.p) == pytest.approx(0.3)
    for _ in range(5):
        augment.steer(torch.tensor(0.1), 100)
    assert float(augment.p) == 0.0
    assert list(augment.state_dict()) == ["p"], "a resumed run goes on with it"
