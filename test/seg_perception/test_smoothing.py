"""The mean over time of a camera's scores: what it is, and where it begins anew."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_perception.smoothing import LONGEST_GAP_S, TemporalSmoother

GRID, CLASSES, FEATURES = (6, 8), 3, 4
SIZE = (192, 256)  # of the network's input
CELL = (32, 32)  # pixels of it
WEIGHT = 0.8


def scores(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "association": rng.normal(size=(*GRID, FEATURES, 9)).astype(np.float32),
        "class_logits": rng.normal(size=(*GRID, CLASSES)).astype(np.float32),
    }


def view(seed: int = 0) -> np.ndarray:
    """A scene of soft blobs, as a camera's is: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8), (0, 0), 3)


def smoothed(smoother: TemporalSmoother, seed: int, image: np.ndarray, stamp_s: float) -> dict[str, np.ndarray]:
    result = smoother.smooth(scores(seed), image, stamp_s, WEIGHT, CELL)
    return {name: array.copy() for name, array in result.items()}


def assert_equal(came: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_allclose(came[name], array, rtol=0, atol=1e-6, err_msg=name)  # float32, values of about 1


def mean_of(seeds: range) -> dict[str, np.ndarray]:
    """By the definition: m = w m + (1 - w) x, beginning with the first."""
    mean = {name: array.astype(np.float64) for name, array in scores(seeds[0]).items()}
    for seed in seeds[1:]:
        for name, array in scores(seed).items():
            mean[name] = WEIGHT * mean[name] + (1 - WEIGHT) * array
    return mean


def test_scores_of_a_still_view_are_an_exponential_mean() -> None:
    smoother = TemporalSmoother()
    for number in range(4):
        came = smoothed(smoother, number, view(), 0.1 * number + 0.1)
        assert_equal(came, mean_of(range(number + 1)))


def test_what_a_frame_gives_is_left_as_it_is_and_halves_become_floats() -> None:
    smoother = TemporalSmoother()
    given = {name: array.astype(np.float16) for name, array in scores(1).items()}
    kept = {name: array.copy() for name, array in given.items()}
    smoother.smooth(scores(0), view(), 0.1, WEIGHT, CELL)
    came = smoother.smooth(given, view(), 0.2, WEIGHT, CELL)
    for name, array in kept.items():
        np.testing.assert_array_equal(given[name], array)
        assert came[name].dtype == np.float32


@pytest.mark.parametrize(
    "stamp_s", [0.1, 0.05, -5.0, 0.1 + LONGEST_GAP_S + 0.01], ids=["the same", "back", "far back", "a gap"]
)
def test_a_jump_of_the_stamps_begins_anew(stamp_s: float) -> None:
    smoother = TemporalSmoother()
    smoothed(smoother, 0, view(), 0.1)
    assert_equal(smoothed(smoother, 1, view(), stamp_s), scores(1))
    assert_equal(smoothed(smoother, 2, view(), stamp_s + 0.1), mean_of(range(1, 3)))


def test_reset_begins_anew() -> None:
    smoother = TemporalSmoother()
    smoothed(smoother, 0, view(), 0.1)
    smoother.reset()
    assert_equal(smoothed(smoother, 1, view(), 0.2), scores(1))


def test_another_size_of_view_or_scores_begins_anew() -> None:
    smoother = TemporalSmoother()
    smoothed(smoother, 0, view(), 0.1)
    assert_equal(smoothed(smoother, 1, np.zeros((64, 64, 3), np.uint8), 0.2), scores(1))
    other = {name: array[:3] for name, array in scores(2).items()}
    assert_equal(smoother.smooth(other, np.zeros((64, 64, 3), np.uint8), 0.3, WEIGHT, CELL), other)


def test_only_cells_where_something_moves_and_those_beside_them_begin_anew() -> None:
    smoother = TemporalSmoother()
    smoothed(smoother, 0, view(), 0.1)
    moved = view()
    moved[64:96, 96:128] = 255 - moved[64:96, 96:128]  # cell (2, 3)
    came = smoothed(smoother, 1, moved, 0.2)
    fresh = np.zeros(GRID, bool)
    fresh[1:4, 2:5] = True
    mean = mean_of(range(2))
    for name, array in scores(1).items():
        np.testing.assert_allclose(came[name][fresh], array[fresh], rtol=0, atol=1e-6)
        np.testing.assert_allclose(came[name][~fresh], mean[name][~fresh], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pixels", [16, 32])
def test_cells_of_any_size_tell_strong_noise_from_motion(pixels: int) -> None:
    rng = np.random.default_rng(0)
    cell, grid = (pixels, pixels), (SIZE[0] // pixels, SIZE[1] // pixels)
    ones = {"association": np.ones((*grid, FEATURES, 9), np.float32), "class_logits": np.ones((*grid, 3), np.float32)}
    first, second = (np.clip(view() + rng.normal(0, 8, view().shape), 0, 255).astype(np.uint8) for _ in range(2))
    second[96:112, 64:80] = 255 - view()[96:112, 64:80]
    smoother = TemporalSmoother()
    smoother.smooth({name: 0 * array for name, array in ones.items()}, first, 0.1, WEIGHT, cell)
    came = smoother.smooth(ones, second, 0.2, WEIGHT, cell)["class_logits"][..., 0]
    begun = came == 1.0
    rows, columns = slice(96 // pixels, -(-112 // pixels)), slice(64 // pixels, -(-80 // pixels))
    assert begun[rows, columns].all()
    begun[max(0, rows.start - 5) : rows.stop + 5, max(0, columns.start - 5) : columns.stop + 5] = False  # and beside them
    assert not begun.any()
    np.testing.assert_allclose(came[-1], 1 - WEIGHT, rtol=0, atol=1e-6)


def test_motion_is_where_its_cell_is_also_where_cells_hang_over_the_input() -> None:
    smoother, size, cell = TemporalSmoother(), (161, 225), (32, 32)  # 6x8 cells: the last row and column have 1 pixel each
    before = np.zeros((*size, 3), np.uint8)
    moved = before.copy()
    moved[136:152, 104:120] = 255  # in cell (4, 3)
    smoother.smooth(scores(0), before, 0.1, WEIGHT, cell)
    came = smoother.smooth(scores(1), moved, 0.2, WEIGHT, cell)
    fresh = np.zeros(GRID, bool)
    fresh[3:6, 2:5] = True
    for name, array in scores(1).items():
        np.testing.assert_allclose(came[name][fresh], array[fresh], rtol=0, atol=1e-6)
        np.testing.assert_allclose(came[name][~fresh], mean_of(range(2))[name][~fresh], rtol=0, atol=1e-6)


@pytest.mark.parametrize("colour", range(3), ids=["red", "green", "blue"])
def test_a_light_of_any_colour_that_goes_on_is_motion(colour: int) -> None:
    smoother = TemporalSmoother()
    dark = np.zeros((*SIZE, 3), np.uint8)
    lit = dark.copy()
    lit[..., colour] = 60
    smoothed(smoother, 0, dark, 0.1)
    assert_equal(smoothed(smoother, 1, lit, 0.2), scores(1))


def test_noise_of_a_camera_is_no_motion_and_a_pan_is() -> None:
    rng = np.random.default_rng(0)

    def noisy(image: np.ndarray) -> np.ndarray:
        return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)

    still, pan = TemporalSmoother(), TemporalSmoother()
    for smoother, second in ((still, view()), (pan, np.roll(view(), 6, axis=1))):
        smoother.smooth(scores(0), noisy(view()), 0.1, WEIGHT, CELL)
        came = smoother.smooth(scores(1), noisy(second), 0.2, WEIGHT, CELL)
        assert_equal(came, scores(1) if smoother is pan else mean_of(range(2)))


def test_scores_that_are_not_finite_spoil_no_later_frame() -> None:
    smoother = TemporalSmoother()
    broken = {name: np.full_like(array, np.nan) for name, array in scores(0).items()}
    came = smoother.smooth(broken, view(), 0.1, WEIGHT, CELL)
    assert np.isnan(came["class_logits"]).all()
    assert_equal(smoothed(smoother, 1, view(), 0.2), scores(1))
    assert_equal(smoothed(smoother, 2, view(), 0.3), mean_of(range(1, 3)))
