from __future__ import annotations

import numpy as np

from seg_models.data.rooms.view_check import MAX_SPECKLE, reject_reason, speckle_fraction

H, W = 60, 80
FAR = np.full((H, W), 2.0, np.float32)


def ordinary_view() -> np.ndarray:
    labels = np.full((H, W), 1, np.uint8)  # wall
    labels[35:] = 0  # floor
    labels[25:45, 20:45] = 6  # sofa
    labels[10:50, 60:62] = 10  # a lamp's pole, two pixels wide
    return labels


def test_an_ordinary_view_is_kept():
    assert reject_reason(ordinary_view(), FAR) is None


def test_thin_legs_are_not_speckle():
    labels = ordinary_view()
    labels[20:50, 5] = 7  # a table leg one pixel wide
    for y in range(20, 50):
        labels[y, 10 + (y - 20) // 2] = 5  # a slanted chair leg
    assert speckle_fraction(labels) == 0.0


def test_rows_of_bars_are_not_speckle():
    labels = ordinary_view()
    labels[10:40, 5:35:2] = 5  # the spindles of a chair's back
    assert speckle_fraction(labels) < MAX_SPECKLE


def test_coincident_surfaces_are_dropped():
    labels = ordinary_view()
    rng = np.random.default_rng(0)
    labels[30:42, 30:42] = rng.choice([7, 14], (12, 12))  # 3 % of the image
    assert speckle_fraction(labels) > MAX_SPECKLE
    assert reject_reason(labels, FAR) == "speckled"


def test_views_that_show_little_are_dropped():
    wall = np.full((H, W), 1, np.uint8)
    assert reject_reason(wall, FAR) == "one class"
    bare = ordinary_view()
    bare[bare > 2] = 0
    assert reject_reason(bare, FAR) == "empty"


def test_views_blocked_by_a_near_object_or_open_to_the_void_are_dropped():
    near = FAR.copy()
    near[:, : W // 2] = 0.2
    assert reject_reason(ordinary_view(), near) == "too near"
    void = ordinary_view()
    void[:10] = 255
    assert reject_reason(void, FAR) == "unlabelled"
