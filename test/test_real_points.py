"""Scoring on hand-labelled points of photos."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import yaml

from benchmarks import real_points
from test.seg_perception.tiny_model import CLASS_NAMES, write_tiny_model


@pytest.fixture
def photo(tmp_path):
    """A photo whose right half the tiny model calls its second class, and the model."""
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 50:] = (0, 0, 255)  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "a.png"), image)
    return tmp_path, write_tiny_model(tmp_path / "tiny.onnx")


def write_points(folder, points):
    path = folder / "points.yaml"
    path.write_text(yaml.safe_dump({"photos": {"a.png": points}}))
    return path


def test_right_points_are_counted_a_class_and_averaged_over_classes(photo, capsys):
    folder, model = photo
    first, second = CLASS_NAMES[:2]
    points = write_points(folder, {first: [[0, 0], [49, 99], [90, 50], [100, 100]], second: [[100, 100]]})
    arguments = ["--models", str(model), "--images", str(folder), "--points", str(points)]
    assert real_points.main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"| {first} | 2 of 4 |" in printed
    assert f"| {second} | 1 of 1 |" in printed
    assert "| all points | 3 of 5 |" in printed
    assert "| mean over classes | 0.750 |" in printed


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"nothing like it": [[1, 1]]}, "has points of 'nothing like it'"),
        ({CLASS_NAMES[0]: [[1, 101]]}, r"expected \[\[x, y\], ...\] in percent"),
    ],
)
def test_points_that_cannot_be_scored_are_named(photo, points, message):
    folder, model = photo
    with pytest.raises(ValueError, match=message):
        real_points.score(model, folder, real_points.read_points(write_points(folder, points)))


def test_a_missing_photo_and_a_missing_file_are_one_line(photo, capsys):
    folder, model = photo
    assert real_points.main(["--models", str(model), "--images", str(folder / "none")]) == 2
    assert "no photo at" in capsys.readouterr().err
    assert real_points.main(["--models", str(model), "--images", str(folder), "--points", "none.yaml"]) == 2
    assert "no points at none.yaml" in capsys.readouterr().err


def test_the_points_that_come_with_it_are_of_classes_of_the_rooms():
    photos = real_points.read_points(real_points.POINTS)
    assert {label for classes in photos.values() for label in classes} <= {
        "floor", "wall", "door", "monitor", "table", "chair", "object"
    }  # fmt: skip
    assert sum(len(points) for classes in photos.values() for points in classes.values()) == 79
