from __future__ import annotations

import json

import numpy as np

from seg_perception.labels import (
    colours,
    label_info_json,
    overlay,
    superpixel_boundaries,
)
from test.seg_perception.tiny_model import CLASS_NAMES, PALETTE

PALETTE_ARRAY = np.array(PALETTE, np.uint8)


def test_every_id_takes_its_colour_and_unlabelled_is_black() -> None:
    labels = np.array([[0, 1, 2], [3, 255, 7]], np.uint8)
    expected = [[PALETTE[0], PALETTE[1], PALETTE[2]], [PALETTE[3], (0, 0, 0), (0, 0, 0)]]
    np.testing.assert_array_equal(colours(labels, PALETTE_ARRAY), np.array(expected, np.uint8))


def test_an_overlay_blends_and_leaves_unlabelled_pixels_as_they_are() -> None:
    rgb = np.full((2, 2, 3), 100, np.uint8)
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    result = overlay(rgb, labels, PALETTE_ARRAY, alpha=0.25)
    expected = np.rint(0.75 * 100 + 0.25 * PALETTE_ARRAY.astype(float))
    # A half may be rounded either way.
    assert np.abs(result.reshape(4, 3)[:3] - expected[:3]).max() <= 0.5
    np.testing.assert_array_equal(result[1, 1], (100, 100, 100))
    np.testing.assert_array_equal(rgb, 100)


def test_boundaries_lie_where_the_right_or_lower_neighbour_differs() -> None:
    superpixels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 1]], np.uint16)
    expected = [[0, 1, 0], [1, 1, 0], [0, 1, 0]]
    np.testing.assert_array_equal(superpixel_boundaries(superpixels), np.array(expected, bool))
    assert not superpixel_boundaries(np.zeros((1, 1), np.uint16)).any()


def test_label_info_names_every_class() -> None:
    content = json.loads(label_info_json("tiny", CLASS_NAMES, np.array(PALETTE, np.uint8)))
    assert [(entry["class_id"], entry["class_name"]) for entry in content["class_map"]] == list(enumerate(CLASS_NAMES))
    assert content["class_map"][1]["color"] == list(PALETTE[1])
    assert content["unlabelled_id"] == 255
