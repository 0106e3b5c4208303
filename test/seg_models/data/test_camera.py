"""A camera's effects on training images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from seg_models.data.camera import CameraAugmentation, vignette
from seg_models.data.transforms import RandomScaleCropFlip
from seg_models.training.recipe import CameraRecipe

EFFECTS = [field.name for field in dataclasses.fields(CameraAugmentation)]


def picture() -> np.ndarray:
    """Three colours that change smoothly, with an edge, uint8 (96, 256, 3)."""
    x, y = np.meshgrid(np.linspace(40, 200, 256), np.linspace(0, 40, 96))
    image = np.stack([x, x / 2 + y, 220 - x], axis=-1)
    image[40:, 128:] += 35
    return image.astype(np.uint8)


def often(effect: str, count: int = 20) -> list[np.ndarray]:
    """The picture with one effect that always happens, under several seeds."""
    camera = CameraAugmentation(**{effect: 1.0})
    return [camera(picture(), np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_effect_changes_the_picture_each_time_differently_and_the_same_for_the_same_seed(effect):
    images = often(effect)
    assert all(image.shape == (96, 256, 3) and image.dtype == np.uint8 for image in images)
    assert all((image != picture()).any() for image in images)
    if effect != "grey":
        assert (images[0] != images[1]).any()
    for once, again in zip(images, often(effect), strict=True):
        np.testing.assert_array_equal(once, again)


def test_without_effects_the_picture_and_the_random_numbers_stay_as_they_are():
    generator = np.random.default_rng(3)
    before = generator.bit_generator.state
    np.testing.assert_array_equal(CameraAugmentation()(picture(), generator), picture())
    assert generator.bit_generator.state == before


def test_an_effect_happens_as_often_as_its_probability():
    camera = CameraAugmentation(grey=0.3)
    images = [camera(picture(), np.random.default_rng(seed)) for seed in range(400)]
    share = np.mean([(image[..., 0] == image[..., 2]).all() for image in images])
    assert share == pytest.approx(0.3, abs=0.07)  # three standard deviations of 400 draws


def test_grey_leaves_one_channel_of_the_eyes_brightness():
    grey = often("grey", 1)[0]
    assert (grey[..., 0] == grey[..., 1]).all()
    np.testing.assert_allclose(grey[..., 0], picture() @ [0.299, 0.587, 0.114], atol=1)


def test_vignetting_darkens_the_corners_and_not_the_middle():
    white = np.full((60, 80, 3), 200, np.uint8)
    for seed in range(20):
        image = vignette(white, np.random.default_rng(seed))
        assert image[30, 40, 0] >= 190
        assert image[[0, 0, -1, -1], [0, -1, 0, -1], 0].mean() < 185


def test_motion_blur_keeps_the_brightness_and_softens_the_edge():
    for image in often("motion_blur"):
        assert image.mean() == pytest.approx(picture().mean(), abs=1)
        assert np.abs(np.diff(image.astype(int), 2)).max() <= np.abs(np.diff(picture().astype(int), 2)).max()


def test_noise_spreads_around_the_picture_without_shifting_it():
    for image in often("noise"):
        difference = image.astype(float) - picture()
        assert abs(difference.mean()) < 1.5
        assert 0.3 < difference.std() < 16


def test_an_empty_crop_stays_empty():
    camera = CameraAugmentation(**dict.fromkeys(EFFECTS, 1.0))
    assert camera(np.zeros((0, 0, 3), np.uint8), np.random.default_rng(0)).shape == (0, 0, 3)


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_a_probability_outside_0_to_1_is_refused(probability):
    with pytest.raises(ValueError, match=r"camera.noise is .*; expected a probability"):
        CameraAugmentation(noise=probability)


def test_the_recipe_has_every_effect_and_starts_without():
    assert CameraAugmentation(**dataclasses.asdict(CameraRecipe())) == CameraAugmentation()


def test_a_training_crop_goes_through_the_camera_and_its_labels_do_not():
    labels = np.random.default_rng(0).integers(0, 4, (96, 256)).astype(np.uint8)
    plain = RandomScaleCropFlip((32, 40))(picture(), labels, np.random.default_rng(1))
    camera = CameraAugmentation(**dict.fromkeys(EFFECTS, 1.0))
    taken = RandomScaleCropFlip((32, 40), camera=camera)(picture(), labels, np.random.default_rng(1))
    np.testing.assert_array_equal(taken[1], plain[1])
    assert (taken[0] != plain[0]).any()
