"""Painting on the processor: the reference's results, at any size, for every shape of model."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from seg_perception import painting_loops
from seg_perception.painting import Painter
from seg_perception.painting_geometry import LANES, PaintingGeometry, axis, tiles

torch = pytest.importorskip("torch", reason="needs torch for the reference: pip install 'seg_perception[train]'")
from seg_models.ops import painting as reference  # noqa: E402

ROBOT = PaintingGeometry((384, 512), (12, 16), (32, 32), (4, 4))
SMALL = PaintingGeometry((96, 128), (3, 4), (32, 32), (4, 4))
# name: geometry, K, size of the result
CASES = {
    "the robot's at the network's size": (ROBOT, 16, (384, 512)),
    "the robot's at a camera's size": (ROBOT, 16, (480, 640)),
    "a wide camera": (ROBOT, 16, (270, 480)),
    "two classes": (SMALL, 2, (96, 128)),
    "one class": (SMALL, 1, (97, 131)),
    "150 classes": (SMALL, 150, (96, 128)),
    "255 classes": (SMALL, 255, (50, 70)),
    "one cell": (PaintingGeometry((32, 32), (1, 1), (32, 32), (4, 4)), 4, (50, 51)),
    "a row of cells": (PaintingGeometry((32, 128), (1, 4), (32, 32), (4, 4)), 4, (33, 400)),
    "cells beyond the input": (PaintingGeometry((70, 100), (3, 4), (32, 32), (4, 4)), 6, (211, 97)),
    "whole cells beyond the input": (PaintingGeometry((32, 40), (3, 4), (32, 32), (4, 4)), 6, (64, 80)),
    "fewer pixels than cells": (SMALL, 6, (2, 3)),
    "one pixel": (SMALL, 6, (1, 1)),
    "oblong cells": (PaintingGeometry((64, 96), (4, 3), (16, 32), (2, 8)), 6, (97, 203)),
    "one feature a cell": (PaintingGeometry((64, 96), (4, 6), (16, 16), (1, 1)), 6, (61, 97)),
    "two by two features a cell": (PaintingGeometry((64, 96), (4, 6), (16, 16), (2, 2)), 6, (97, 131)),
    "three features a cell along x": (PaintingGeometry((48, 96), (2, 4), (24, 24), (6, 3)), 6, (50, 97)),
    "many features a cell": (PaintingGeometry((64, 64), (2, 2), (32, 32), (8, 8)), 6, (64, 64)),
}


def random_maps(geometry: PaintingGeometry, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Varied ones: every pixel may belong to any neighbour, and few classes are beaten everywhere."""
    rng = np.random.default_rng(seed)
    cells = (*geometry.grid, geometry.feature_cell[0] * geometry.feature_cell[1], 9)
    association = rng.normal(0, 3, cells).astype(np.float32)
    return association, rng.normal(0, 2, (*geometry.grid, classes)).astype(np.float32)


def expected(
    association: np.ndarray, class_logits: np.ndarray, geometry: PaintingGeometry, size: tuple[int, int]
) -> list[np.ndarray]:
    """labels, confidence, superpixels by the reference."""
    same = reference.PaintingGeometry(geometry.input_size, geometry.grid, geometry.cell, geometry.feature_cell)
    painted = reference.paint_association(
        torch.from_numpy(association)[None], torch.from_numpy(class_logits)[None], same, size
    )
    return [output[0].numpy() for output in painted]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_paints_as_the_reference_does(case: str) -> None:
    geometry, classes, size = CASES[case]
    maps = random_maps(geometry, classes)
    painted = Painter(geometry).paint(*maps, size)
    labels, confidence, superpixels = expected(*maps, geometry, size)
    assert painted.labels is not None
    assert painted.confidence is not None
    assert painted.superpixels is not None
    assert (painted.labels.dtype, painted.confidence.dtype, painted.superpixels.dtype) == (
        np.uint8,
        np.uint8,
        np.uint16,
    )
    # Scores are drawn from a continuum: one pixel in 10,000 may be decided by the last bit of a float32.
    assert (painted.labels != labels).mean() <= 1e-4
    assert (painted.superpixels != superpixels).mean() <= 1e-4
    assert np.abs(painted.confidence.astype(int) - confidence).max() <= 1


@pytest.mark.parametrize("scale", [0.0, 0.01, 30.0, 1e4])
def test_ties_and_steep_scores_are_decided_as_the_reference_does(scale: float) -> None:
    association, class_logits = random_maps(SMALL, 7)
    maps = np.round(association * scale), np.round(class_logits * scale)  # whole numbers: ties are exact
    painted = Painter(SMALL).paint(*maps, (96, 128))
    labels, confidence, superpixels = expected(*maps, SMALL, (96, 128))
    if scale == 0:
        np.testing.assert_array_equal(painted.labels, 0)  # the first of equal classes
        np.testing.assert_array_equal(painted.superpixels, superpixels)
    assert np.abs(painted.confidence.astype(int) - confidence).max() <= 1
    # Where the winner's probability says that another class is as good, either may be told.
    different = painted.labels != labels
    assert (confidence[different] <= 128).all()


def test_half_precision_is_taken() -> None:
    halves = [array.astype(np.float16) for array in random_maps(SMALL, 5)]
    painted = Painter(SMALL).paint(*halves, (96, 128))
    labels, *_ = expected(halves[0].astype(np.float32), halves[1].astype(np.float32), SMALL, (96, 128))
    assert (painted.labels != labels).mean() <= 1e-4


def test_what_nobody_wants_is_not_made_and_changes_nothing() -> None:
    maps = random_maps(SMALL, 5)
    whole = Painter(SMALL).paint(*maps, (120, 160))
    for wanted in range(8):
        flags = [bool(wanted & bit) for bit in (1, 2, 4)]
        painted = Painter(SMALL).paint(*maps, (120, 160), *flags)
        for name, flag in zip(("labels", "confidence", "superpixels"), flags, strict=True):
            made = getattr(painted, name)
            assert (made is not None) == flag
            if flag:
                np.testing.assert_array_equal(made, getattr(whole, name))


def test_threads_paint_the_same() -> None:
    maps = random_maps(ROBOT, 16)
    one = Painter(ROBOT, 1).paint(*maps, (480, 640))
    painter = Painter(ROBOT, 3)
    for _ in range(5):
        several = painter.paint(*maps, (480, 640))
        np.testing.assert_array_equal(several.labels, one.labels)
        np.testing.assert_array_equal(several.confidence, one.confidence)
        np.testing.assert_array_equal(several.superpixels, one.superpixels)
    painter.close()
    again = painter.paint(*maps, (480, 640))  # closed and used again, as a segmenter that is opened again does
    np.testing.assert_array_equal(again.labels, one.labels)
    painter.close()


def test_what_is_not_finite_breaks_its_own_cells_alone() -> None:
    association, class_logits = random_maps(SMALL, 5)
    association[0, 1, 3, 0] = np.nan  # neighbour 0 of the first row lies outside the grid: it breaks nothing
    association[1, 1, 0, 4] = np.inf
    class_logits[2, 3, 1] = np.nan  # of the corner's superpixel: breaks the four cells that mix it
    painted = Painter(SMALL).paint(association, class_logits, (96, 128))
    labels, _, superpixels = expected(association, class_logits, SMALL, (96, 128))
    broken = labels == 255
    assert broken.sum() == 5 * 32 * 32
    np.testing.assert_array_equal(painted.labels == 255, broken)
    np.testing.assert_array_equal(painted.confidence[broken], 0)
    np.testing.assert_array_equal(painted.superpixels[broken], superpixels[broken])
    np.testing.assert_array_equal(painted.labels, labels)


def test_several_painters_may_work_at_once() -> None:
    maps = random_maps(SMALL, 16)
    whole = Painter(SMALL).paint(*maps, (240, 320))
    with ThreadPoolExecutor(4) as pool:
        for painted in pool.map(lambda _: Painter(SMALL).paint(*maps, (240, 320)), range(16)):
            np.testing.assert_array_equal(painted.labels, whole.labels)


def test_nothing_is_compiled_after_the_warm_up() -> None:
    Painter(SMALL).warm_up()
    loops = [loop for loop in vars(painting_loops).values() if isinstance(loop, numba.core.registry.CPUDispatcher)]
    before = [len(loop.signatures) for loop in loops]
    association, class_logits = random_maps(SMALL, 5)
    frozen = association.copy()
    frozen.flags.writeable = False
    Painter(SMALL).paint(frozen, class_logits.astype(np.float16), (33, 44), confidence=False)
    Painter(ROBOT).paint(*random_maps(ROBOT, 3), (480, 640), labels=False)
    assert [len(loop.signatures) for loop in loops] == before


def test_the_exponential_is_good_to_a_few_bits() -> None:
    @numba.njit
    def many(powers: np.ndarray) -> np.ndarray:
        return np.array([painting_loops._exp2(power) for power in powers])

    powers = np.linspace(-126, 0, 100_001).astype(np.float32)
    exact = np.exp2(powers.astype(np.float64))
    # A polynomial of degree 5 in float32: three times the spacing of its numbers.
    assert np.abs(many(powers) / exact - 1).max() < 4e-7
    assert many(np.array([-1e30, -127, 0], np.float32)).tolist() == [
        pytest.approx(2.0**-126),
        pytest.approx(2.0**-126),
        1,
    ]


def test_an_axis_lies_over_the_cells_as_pixel_centres_do() -> None:
    rows = axis(480, 384, 32, 4, 12)
    np.testing.assert_array_equal(rows.start, np.arange(13) * 40)
    # The first pixel's centre is at 0.4 of a network pixel; features are 8 apart, the first centre at 4: clamped to it.
    assert (rows.lower[0], rows.weight[0]) == (0, 0)
    assert rows.lower[20] + rows.weight[20] == pytest.approx((20.5 * 0.8) / 8 - 0.5)
    cut = tiles(480, 384, 32, 4, 12)
    assert cut.start[-1] == 12 * math.ceil(40 / LANES)
    np.testing.assert_allclose(cut.weights.reshape(-1, 4, LANES).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, c: (a[:, :3], c, (9, 9)), r"association is \[3, 3, 16, 9\], expected \[3, 4, 16, 9\]"),
        (lambda a, c: (a, c[0], (9, 9)), r"class_logits are \[4, 5\]"),
        (lambda a, c: (a, np.zeros((3, 4, 256), np.float32), (9, 9)), "K at most 255"),
        (lambda a, c: (a, c, (0, 9)), r"size is \[0, 9\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Painter(SMALL).paint(*change(*random_maps(SMALL, 5)))
    with pytest.raises(ValueError, match="0 threads"):
        Painter(SMALL, 0)
