"""Other colours for every surface of a training image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_models.data.recolour import SMALLEST, recolour
from seg_models.data.transforms import RandomScaleCropFlip
from seg_models.losses import IGNORE

FLOOR, WALL, CHAIR = 0, 1, 5
SPECK = int(SMALLEST**0.5) - 1  # side of a square that is too small to be painted


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A shaded wall over a floor with planks, two chairs, a speck of a chair, and a stripe without label."""
    labels = np.full((96, 128), WALL, np.uint8)
    labels[60:] = FLOOR
    labels[40:80, 10:40] = labels[50:90, 80:110] = CHAIR
    labels[5 : 5 + SPECK, 5 : 5 + SPECK] = CHAIR
    labels[:, 120:] = IGNORE
    shading = np.linspace(0.6, 1.0, 128)[None, :, None]
    image = np.array([200, 180, 160]) * shading * np.ones((96, 1, 1))
    image[60:] = np.array([120, 80, 50]) * (1 + 0.3 * (np.arange(36) % 4 < 2))[:, None, None]
    image[labels == CHAIR] = 90, 20, 20
    return image.astype(np.uint8), labels


def often(count: int = 30) -> list[np.ndarray]:
    """The scene recoloured under several seeds."""
    return [recolour(*scene(), np.random.default_rng(seed)) for seed in range(count)]


def test_the_same_seed_gives_the_same_colours_and_another_one_others():
    images = often(5)
    assert all(image.shape == (96, 128, 3) and image.dtype == np.uint8 for image in images)
    for once, again in zip(images, often(5), strict=True):
        np.testing.assert_array_equal(once, again)
    assert (images[0] != images[1]).any()


def test_what_has_no_label_or_is_a_speck_stays_and_the_given_image_too():
    image, labels = scene()
    for seed in range(10):
        given = image.copy()
        made = recolour(given, labels, np.random.default_rng(seed))
        np.testing.assert_array_equal(given, image)
        np.testing.assert_array_equal(made[labels == IGNORE], image[labels == IGNORE])
        np.testing.assert_array_equal(made[5 : 5 + SPECK, 5 : 5 + SPECK], image[5 : 5 + SPECK, 5 : 5 + SPECK])


def test_surfaces_take_colours_from_all_over_the_range_and_some_keep_theirs():
    image, labels = scene()
    wall = labels == WALL
    means = np.array([made[wall].mean(0) for made in often(60)])
    kept = np.array([(made[wall] == image[wall]).all() for made in often(60)])
    assert 0.08 < kept.mean() < 0.45  # a quarter; three standard deviations of 60 draws
    assert means.min(0).max() < 90
    assert means.max(0).min() > 190


def test_two_things_of_a_class_are_painted_alike_in_some_images_and_apart_in_others():
    distances = [np.abs(made[40:80, 10:40].mean((0, 1)) - made[50:90, 80:110].mean((0, 1))).max() for made in often(60)]
    assert sum(distance < 3 for distance in distances) > 10
    assert sum(distance > 15 for distance in distances) > 10


def test_shading_keeps_its_direction_under_any_paint():
    shaded, rises = np.s_[20:35, 20:110], []
    for made in often():
        rows = made[shaded].astype(float).mean((0, 2))
        smooth = np.convolve(rows, np.ones(15) / 15, "valid")
        assert (np.diff(smooth) > -0.2).all()  # brighter to the right, but for rounding
        rises.append(smooth[-1] - smooth[0])
    assert min(rises) > 3  # black paint shows little of it, and yet some


def test_planks_vanish_under_plain_paint_and_stay_under_other():
    contrast = [cv2.cvtColor(made, cv2.COLOR_RGB2GRAY)[84:94, 45:75].astype(float).std() for made in often(60)]
    assert min(contrast) < 3
    assert max(contrast) > 8


def test_a_surface_beside_another_colour_gets_no_seam():
    labels = np.full((64, 96), WALL, np.uint8)
    labels[:, 48:] = FLOOR
    image = np.where(labels[..., None] == WALL, 250, 5).astype(np.uint8).repeat(3, axis=2)
    for seed in range(20):
        made = recolour(image, labels, np.random.default_rng(seed)).astype(int)
        for side in (made[:, :48], made[:, 48:]):
            assert np.ptp(side, axis=(0, 1)).max() <= 1  # of one colour to its very edge; rounding


def test_a_large_plain_surface_stays_plain_and_any_number_of_specks_is_no_trouble():
    wall = np.full((700, 700), WALL, np.uint8)
    for seed in range(10):
        made = recolour(np.full((700, 700, 3), 201, np.uint8), wall, np.random.default_rng(seed)).astype(int)
        assert np.ptp(made, axis=(0, 1)).max() <= 1  # rounding
    specks = np.full((700, 700), IGNORE, np.uint8)
    specks[::2, ::2] = FLOOR  # more than 65,535 of them
    image = np.full((700, 700, 3), 201, np.uint8)
    np.testing.assert_array_equal(recolour(image, specks, np.random.default_rng(0)), image)


def test_training_crops_are_recoloured_as_often_as_their_probability():
    image, labels = scene()
    plain = RandomScaleCropFlip((96, 128), (1.0, 1.0), brightness=0, contrast=0, saturation=0, hue_degrees=0)
    some = RandomScaleCropFlip(
        (96, 128), (1.0, 1.0), brightness=0, contrast=0, saturation=0, hue_degrees=0, recolour=0.5
    )
    changed = []
    for seed in range(100):
        without, made = (crop(image, labels, np.random.default_rng(seed)) for crop in (plain, some))
        np.testing.assert_array_equal(made[1], without[1])
        changed.append((made[0] != without[0]).any())
    assert np.mean(changed) == pytest.approx(0.5, abs=0.15)  # three standard deviations of 100 draws


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_a_probability_that_is_none_is_refused(probability):
    with pytest.raises(ValueError, match=r"expected a probability, a number in 0\.\.1"):
        RandomScaleCropFlip((96, 128), recolour=probability)


def test_an_empty_crop_and_one_without_labels_come_back_unchanged():
    generator = np.random.default_rng(0)
    assert recolour(np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.uint8), generator).shape == (0, 0, 3)
    image, labels = scene()
    np.testing.assert_array_equal(recolour(image, np.full_like(labels, IGNORE), generator), image)
