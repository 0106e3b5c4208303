from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg_perception.classes import ClassMapError, read_class_map, unchanged

NAMES = ("floor", "rug", "wall", "chair", "lamp")
PALETTE = np.arange(15, dtype=np.uint8).reshape(5, 3)
LABELS = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
GOOD = """
classes:
  ground: [floor, rug]
  seat: {of: chair, color: [255, 0, 9], confidence: 0.5}
foreground: [seat]
confidence_threshold: 0.2
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    return path


def test_classes_are_merged_renamed_and_left_out(tmp_path: Path) -> None:
    classes = read_class_map(written(tmp_path, GOOD), NAMES, PALETTE)
    assert classes.names == ("ground", "seat")
    np.testing.assert_array_equal(classes.palette, [PALETTE[0], [255, 0, 9]])
    sure = np.full_like(LABELS, 255)
    np.testing.assert_array_equal(classes.apply(LABELS, sure), [[0, 0, 255], [1, 255, 255]])


def test_pixels_below_their_classs_threshold_are_not_labelled(tmp_path: Path) -> None:
    classes = read_class_map(written(tmp_path, GOOD), NAMES, PALETTE)
    labels = np.array([[0, 0, 3, 3, 2]], np.uint8)
    confidence = np.array([[50, 51, 127, 128, 255]], np.uint8)  # 0.2 x 255 = 51, 0.5 x 255 = 127.5, rounded to 128
    np.testing.assert_array_equal(classes.apply(labels, confidence), [[255, 0, 255, 1, 255]])
    with pytest.raises(ValueError, match="needs the confidence"):
        classes.apply(labels, None)


def test_the_foreground_is_of_the_robots_own_classes(tmp_path: Path) -> None:
    classes = read_class_map(written(tmp_path, GOOD), NAMES, PALETTE)
    np.testing.assert_array_equal(
        classes.foreground_of(np.array([[0, 1, 255]], np.uint8)), np.array([[0, 255, 0]], np.uint8)
    )


def test_a_models_own_classes_stay_and_cost_nothing() -> None:
    classes = unchanged(NAMES, PALETTE, foreground=["chair"])
    assert classes.names == NAMES
    assert not classes.changes_ids
    assert not classes.has_thresholds
    assert classes.apply(LABELS, None) is LABELS
    np.testing.assert_array_equal(classes.palette, PALETTE)
    np.testing.assert_array_equal(classes.foreground_of(LABELS), [[0, 0, 0], [255, 0, 0]])


def test_what_the_file_leaves_out_the_parameters_say(tmp_path: Path) -> None:
    path = written(tmp_path, "classes: {ground: floor}")
    classes = read_class_map(path, NAMES, PALETTE, confidence_threshold=1.0, foreground=["ground"])
    assert classes.thresholds[0] == 255
    assert classes.foreground[0] == 255


def test_another_threshold_holds_where_the_file_says_none(tmp_path: Path) -> None:
    labels = np.array([[0, 2, 3, 3]], np.uint8)
    confidence = np.array([[100, 200, 100, 200]], np.uint8)
    text = "classes: {ground: floor, seat: {of: chair, confidence: 0.5}}"
    classes = read_class_map(written(tmp_path, text), NAMES, PALETTE, 0.9)
    np.testing.assert_array_equal(classes.apply(labels, confidence), [[255, 255, 255, 1]])
    lower = classes.with_confidence_threshold(0.3)
    np.testing.assert_array_equal(lower.apply(labels, confidence), [[0, 255, 255, 1]])
    whole = read_class_map(written(tmp_path, GOOD), NAMES, PALETTE)
    np.testing.assert_array_equal(whole.with_confidence_threshold(1.0).thresholds, whole.thresholds)
    own = unchanged(NAMES, PALETTE)
    assert own.with_confidence_threshold(0.5).has_thresholds
    assert not own.with_confidence_threshold(0.5).with_confidence_threshold(0.0).has_thresholds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not of the form"),
        ("classes: [floor]", "is not of the form"),
        ("classes: {}", "has 0 classes; expected 1 to 255"),
        ("classes: {a: [flor]}", "class 'a' names 'flor', which is no class; near names: floor"),
        ("classes: {a: floor, b: [rug, floor]}", "'floor' is in both 'a' and 'b'"),
        ("classes: {a: []}", "class 'a' is made of nothing"),
        ("classes: {a: {color: [1, 2, 3]}}", "class 'a' is None; expected a name or a list of names"),
        (
            "classes: {a: {of: floor, colour: [1, 2, 3]}}",
            "class 'a' has a key 'colour'; expected of, color, confidence",
        ),
        ("classes: {a: {of: floor, color: [1, 2, 300]}}", r"has the color \[1, 2, 300\]"),
        ("classes: {a: {of: floor, confidence: 60}}", "confidence is 60; expected a number from 0 to 1"),
        ("classes: {a: floor}\nforeground: [floor]", "foreground names 'floor', which is no class; near names: a"),
        ("classes: {a: floor}\nthreshold: 1", "has a key 'threshold'; expected classes, foreground"),
        ("classes: {1: floor}", "names a class 1; expected a text"),
        ("classes: {a: [1]}", r"class 'a' is \[1\]; expected a name"),
        ("classes: {a: floor", "is no YAML"),
        ("[" * 5000, "is no YAML"),
        ("classes: &a {a: *a}", r"has the alias \*a in line 1, expected what it stands for"),
        ("classes: {a: !!bool x}", "is no YAML: 'x'"),  # PyYAML itself raises KeyError here
        ("classes: {a: 2001-99-99}", "is no YAML: month must be"),
        ("classes: {a: !!timestamp x}", "is no YAML"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ClassMapError, match=message) as raised:
        read_class_map(path, NAMES, PALETTE)
    assert str(path) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_missing_or_huge_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassMapError, match=r"none\.yaml cannot be read: No such file"):
        read_class_map(tmp_path / "none.yaml", NAMES, PALETTE)
    with pytest.raises(ClassMapError, match="expected at most 262144 bytes"):
        read_class_map(written(tmp_path, " " * (1 << 20) + "a"), NAMES, PALETTE)
