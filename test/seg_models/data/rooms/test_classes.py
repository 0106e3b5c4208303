from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from seg_models.data.labels import read_label_table
from seg_models.data.rooms.catalogue import DOORS, KINDS, ORNAMENTS, draw_furnishing
from seg_models.data.rooms.classes import (
    CLASSES,
    IGNORE_INDEX,
    labels_from_object_index,
    object_index,
    write_classes_yaml,
)

ROOT = Path(__file__).parents[4]


def test_object_index_survives_the_way_through_the_renderer():
    index = np.array([[object_index("floor"), object_index("object"), 0.0]], np.float32)
    np.testing.assert_array_equal(labels_from_object_index(index), [[0, 15, IGNORE_INDEX]])


def test_an_object_without_a_class_is_an_error_not_a_label():
    with pytest.raises(ValueError, match=r"object index 0\.\.99"):
        labels_from_object_index(np.array([[0, 99]]))


def test_unknown_class_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown class 'sopha'.*sofa"):
        object_index("sopha")


def test_classes_file_can_be_read_back(tmp_path):
    write_classes_yaml(tmp_path / "classes.yaml")
    table = read_label_table(tmp_path / "classes.yaml")
    assert table.names == tuple(c.name for c in CLASSES)
    assert table.palette == tuple(tuple(c.color) for c in CLASSES)
    assert table.ignore_index == IGNORE_INDEX


def test_colours_are_distinct_and_none_is_that_of_unlabelled_pixels():
    assert len({tuple(c.color) for c in CLASSES} | {(0, 0, 0)}) == len(CLASSES) + 1


def test_every_class_beside_the_shell_has_assets():
    shell = {"floor", "wall", "ceiling"}
    assert {kind.class_name for kind in KINDS.values()} == {c.name for c in CLASSES} - shell


def test_every_class_is_drawn_in_rooms():
    drawn = {"floor", "wall", "ceiling", "window"}
    for room in range(40):
        f = draw_furnishing(np.random.default_rng(room))
        kinds = [f.door, *f.against_wall, *f.middle, *f.ceiling, *["rug"] * f.rugs, *["picture"] * f.pictures]
        kinds += ["monitor"] * ("desk" in f.against_wall)  # desks always get one where it fits
        drawn |= {KINDS[k].class_name for k in kinds}
    assert drawn == {c.name for c in CLASSES}


def test_a_rich_room_has_one_of_nearly_everything():
    furnishing = draw_furnishing(np.random.default_rng(3), rich=True)
    assert {"sofa", "desk", "tv_stand", "oven", "toilet"} <= set(furnishing.against_wall)
    assert {"dining_table", "coffee_table"} <= set(furnishing.middle)
    assert furnishing.rugs == furnishing.floor_lamps == len(furnishing.ceiling) == 1


def test_names_of_drawn_assets_exist():
    assert set(ORNAMENTS) | set(DOORS) <= set(KINDS)


def test_class_table_is_that_of_the_label_set_in_config(tmp_path):
    write_classes_yaml(tmp_path / "classes.yaml")
    generated = yaml.safe_load((tmp_path / "classes.yaml").read_text())
    shipped = yaml.safe_load((ROOT / "config/labels/rooms.yaml").read_text())
    assert {k: shipped[k] for k in ("ignore_index", "classes")} == generated
