"""mmsegmentation's way of making training crops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_models.data.transforms import CROP_TRIES, RandomScaleCropFlip, distort, has_variety
from seg_models.losses import IGNORE


def two_classes(height: int = 40, width: int = 200, corner: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A grey image whose left edge has class 1 and all else class 0."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, :corner] = 1
    return np.full((height, width, 3), 90, np.uint8), labels


def shares(transform: RandomScaleCropFlip, count: int = 200) -> np.ndarray:
    """The largest class's share of the labelled pixels in each of some crops."""
    image, labels = two_classes()
    crops = [transform(image, labels, np.random.default_rng(seed))[1] for seed in range(count)]
    return np.array([np.bincount(crop[crop != IGNORE]).max() / (crop != IGNORE).sum() for crop in crops])


@pytest.mark.parametrize("resize", [None, (200, 40)])
def test_crops_filled_by_one_class_are_drawn_again(resize):
    scale = (5.0, 5.0) if resize is None else (1.0, 1.0)  # either way the crop is as high as the image
    before = shares(RandomScaleCropFlip((40, 40), scale, resize=resize))
    after = shares(RandomScaleCropFlip((40, 40), scale, resize=resize, max_class_share=0.75))
    # A place is good where 11 to 29 of the crop's columns are class 1: 19 of 161 places. Of 11 draws all are bad in 25 %.
    assert (before < 0.75).mean() == pytest.approx(19 / 161, abs=0.08)
    assert (after < 0.75).mean() == pytest.approx(1 - (142 / 161) ** (CROP_TRIES + 1), abs=0.08)


def test_a_crop_of_one_class_alone_or_of_no_labels_has_no_variety():
    labels = np.zeros((4, 4), np.uint8)
    assert not has_variety(labels, 1.0)
    labels[0] = 1
    assert has_variety(labels, 0.76)
    assert not has_variety(labels, 0.75)  # as in mmsegmentation, the share must be below
    labels[1:] = IGNORE
    assert not has_variety(labels, 0.75)  # pixels without a label do not count
    assert not has_variety(np.full((4, 4), IGNORE, np.uint8), 0.75)


def test_without_the_options_a_crop_takes_the_same_random_numbers_as_ever():
    image, labels = two_classes()
    generator, expected = np.random.default_rng(5), np.random.default_rng(5)
    RandomScaleCropFlip((24, 32))(image, labels, generator)
    expected.uniform(size=3)  # scale, x, y
    expected.random()  # flip
    expected.uniform(size=4)  # brightness, contrast, saturation, hue
    assert generator.bit_generator.state == expected.bit_generator.state


@pytest.mark.parametrize(("shape", "factor"), [((100, 150), 0.5), ((150, 100), 0.5), ((50, 400), 0.25)])
def test_at_scale_1_the_image_fits_the_two_sides_however_it_lies(shape, factor):
    transform = RandomScaleCropFlip((64, 64), (1.0, 1.0), resize=(100, 50))
    assert transform.draw_scale(*shape, np.random.default_rng(0)) == pytest.approx(factor)


def test_scales_are_drawn_uniformly_with_resize_and_in_the_logarithm_without():
    for resize, median in ((None, 1.0), ((100, 100), 1.25)):
        transform = RandomScaleCropFlip((100, 100), resize=resize)
        generator = np.random.default_rng(0)
        drawn = [transform.draw_scale(100, 100, generator) for _ in range(2000)]
        assert np.median(drawn) == pytest.approx(median, abs=0.05)
        assert (min(drawn), max(drawn)) == pytest.approx((0.5, 2.0), abs=0.01)


def test_a_smaller_image_lies_in_the_upper_left_mirrored_or_not():
    image, labels = two_classes(20, 30, 10)
    transform = RandomScaleCropFlip((40, 40), (1.0, 1.0), resize=(30, 20))
    seen = set()
    for seed in range(10):
        _, crop = transform(image, labels, np.random.default_rng(seed))
        assert (crop[:20, :30] != IGNORE).all()
        assert (crop[20:] == IGNORE).all()
        assert (crop[:, 30:] == IGNORE).all()
        seen.add(tuple(crop[0, [0, 9, 20, 29]]))
    assert seen == {(1, 1, 0, 0), (0, 0, 1, 1)}


def test_a_larger_image_fills_the_crop_and_every_place_occurs():
    image, labels = two_classes(50, 60, 0)
    labels[:] = np.arange(60)  # the column
    transform = RandomScaleCropFlip((48, 48), (1.0, 1.0), resize=(60, 50))
    corners = [transform(image, labels, np.random.default_rng(seed))[1][0] for seed in range(200)]
    assert {int(row.min()) for row in corners} == set(range(13))
    assert all(sorted(row) == list(range(row.min(), row.min() + 48)) for row in corners)


@pytest.mark.parametrize("distortion", [False, True])
@pytest.mark.parametrize("mean", [(123.675, 116.28, 103.53), (127.5, 127.5, 127.5), (127.0, 127.0, 127.0)])
def test_what_lies_outside_the_image_is_exactly_zero_once_normalised_whatever_the_colours_became(mean, distortion):
    """The papers change colours, normalise, and pad with zeros behind that."""
    image, labels = two_classes(20, 30, 10)
    for resize in (None, (30, 20)):
        transform = RandomScaleCropFlip(
            (40, 40), (0.9, 1.0), resize=resize, photometric_distortion=distortion, padding=mean
        )
        for seed in range(10):
            crop, moved = transform(image, labels, np.random.default_rng(seed))
            normalised = (crop - np.array(mean, np.float32)) / np.float32(58.395)
            outside = moved == IGNORE
            assert outside.any()
            assert (normalised[outside] == 0).all()
            assert (np.abs(normalised[~outside]) > 0).any(-1).all()  # nothing of the padding is mixed into the image


@pytest.mark.parametrize("distortion", [False, True])
def test_an_image_of_less_than_a_pixels_height_leaves_an_empty_crop(distortion):
    image, labels = np.zeros((1, 200, 3), np.uint8), np.zeros((1, 200), np.uint8)
    transform = RandomScaleCropFlip((40, 40), (0.5, 0.5), photometric_distortion=distortion, padding=(1, 2, 3))
    crops = [transform(image, labels, np.random.default_rng(seed)) for seed in range(20)]
    assert any((crop == (1, 2, 3)).all() and (moved == IGNORE).all() for crop, moved in crops)
    assert all(crop.dtype == np.uint8 for crop, _ in crops)  # whole numbers, given as integers


def test_the_contrast_turns_about_the_images_own_brightness_not_the_paddings():
    dark = np.full((20, 20, 3), 40, np.uint8)
    padded = RandomScaleCropFlip((40, 40), (0.5, 0.5), brightness=0, saturation=0, hue_degrees=0)
    crop, labels = padded(dark, np.zeros((20, 20), np.uint8), np.random.default_rng(0))
    assert (crop[labels == 0] == 40).all()  # a plain image has no contrast


def test_photometric_distortion_stays_in_its_ranges_and_leaves_some_images_alone():
    image = np.full((2, 2, 3), (120, 80, 60), np.uint8)
    drawn = np.array([distort(image, np.random.default_rng(seed))[0, 0] for seed in range(600)])
    assert (drawn == image[0, 0]).all(1).mean() == pytest.approx(1 / 16, abs=0.03)  # none of the four happened
    hsv = cv2.cvtColor(drawn[:, None], cv2.COLOR_RGB2HSV)[:, 0].astype(int)
    value, saturation = hsv[:, 2], hsv[:, 1]
    assert value.min() == pytest.approx((120 - 32) * 0.5, abs=8)  # brightness and contrast
    assert value.max() == pytest.approx((120 + 32) * 1.5, abs=12)
    assert saturation.min() < 64 < 128 < 192 < saturation.max()
    untouched = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[0, 0, 0]
    turned = (hsv[:, 0] - int(untouched) + 90) % 180 - 90
    # 18 steps; 8 bits of red, green and blue round by up to 3 more where they are close to each other
    assert -21 <= turned.min() < -15
    assert 14 < turned.max() <= 20


def test_photometric_distortion_comes_after_the_crop_and_leaves_the_labels():
    image, labels = two_classes()
    plain = RandomScaleCropFlip((40, 40), brightness=0, contrast=0, saturation=0, hue_degrees=0)
    distorted = RandomScaleCropFlip((40, 40), photometric_distortion=True)
    pairs = [[t(image, labels, np.random.default_rng(seed)) for t in (plain, distorted)] for seed in range(8)]
    assert all(np.array_equal(a[1], b[1]) for a, b in pairs)
    assert any(not np.array_equal(a[0], b[0]) for a, b in pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (2.0, 0.5)}, r"scale is \[2.0, 0.5\]; expected \[lowest, highest\]"),
        ({"scale": (0.0, 0.5)}, "both above 0"),
        ({"scale": (1.0,)}, "expected"),
        ({"resize": (512, 2048)}, r"resize is \[512, 2048\]; expected \[long, short\]"),
        ({"resize": (512,)}, "expected"),
        ({"max_class_share": 0.0}, "max_class_share is 0.0; expected a number above 0 and at most 1"),
        ({"padding": (0.5, 0.5)}, r"padding is \[0.5, 0.5\]; expected three values in 0..255"),
        ({"max_class_share": 75.0}, "max_class_share is 75.0"),
    ],
)
def test_augmentation_outside_its_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        RandomScaleCropFlip((8, 8), **options)
