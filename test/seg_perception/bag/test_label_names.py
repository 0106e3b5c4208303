"""Recordings whose labels are of merged classes, scored in those or refused; never by ids that mean other things."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_perception.bag.evaluate import EvaluateOptions, evaluate_bag
from seg_perception.bag.reader import BagError
from seg_perception.classes import ClassMapError
from seg_perception.cli import main
from test.seg_perception.tiny_bag import TYPESTORE, image_message, write_bag
from test.seg_perception.tiny_model import CLASS_NAMES, INPUT_SIZE, tiny_labels, write_tiny_model

SECOND = 10**9
CAMERA, TRUE, PUBLISHED = "/camera/image_raw", "/camera/labels", "/segmentation/labels"
CLASSES = """
classes:
  warm: {of: [red, yellow], confidence: 0.5}
  dark: dark
"""
MERGED = np.array([1, 0, 255, 0], np.uint8)  # by the model's ids: dark, red, green, yellow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "classes.yaml"
    path.write_text(CLASSES)
    return path


def label_info(names: tuple[str, ...]) -> Any:
    entries = [{"class_id": number, "class_name": name} for number, name in enumerate(names)]
    return TYPESTORE.types["std_msgs/msg/String"](data=json.dumps({"class_map": entries}))


def recording(folder: Path, *infos: tuple[str, ...]) -> tuple[Path, np.ndarray]:
    """One random image with its true labels and with merged ones as a node publishes them; and the image."""
    rgb = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
    truth = tiny_labels(rgb)
    messages: list[tuple[str, int, Any]] = [
        (CAMERA, SECOND, image_message(rgb, SECOND, "rgb8")),
        (TRUE, SECOND + 1, image_message(truth, SECOND, "mono8")),
        (PUBLISHED, SECOND + 2, image_message(MERGED[truth], SECOND, "mono8")),
    ]
    messages += [("/segmentation/label_info", SECOND + 3 + i, label_info(names)) for i, names in enumerate(infos)]
    return write_bag(folder / "bag", messages), rgb


def options(bag: Path, model: Path, topic: str, **changes: Any) -> EvaluateOptions:
    return replace(EvaluateOptions(bag, model, CAMERA, topic, engine="onnxruntime", threads=1), **changes)


def expected_iou(rgb: np.ndarray) -> list[float]:
    """Of warm and dark: all true but for warm pixels of less confidence (the blue channel) than 0.5."""
    warm = np.isin(tiny_labels(rgb), (1, 3))
    return [float((rgb[..., 2][warm] >= 128).mean()), 1.0]


@pytest.mark.parametrize("topic", [TRUE, PUBLISHED])
def test_merged_classes_are_scored_whatever_the_labels_are_of(tmp_path, model, classes, topic):
    bag, rgb = recording(tmp_path, ("warm", "dark"))
    result = evaluate_bag(options(bag, model, topic, classes=classes))
    assert list(result.iou) == ["warm", "dark"]
    np.testing.assert_allclose(list(result.iou.values()), expected_iou(rgb), rtol=1e-12)
    assert result.confusion is not None
    assert result.confusion.sum() == (MERGED[tiny_labels(rgb)] != 255).sum()


def test_labels_of_merged_classes_are_not_scored_as_the_models(tmp_path, model):
    bag, _ = recording(tmp_path, ("warm", "dark"))
    with pytest.raises(BagError, match=r"/segmentation/labels are of the classes warm, dark .* give the file"):
        evaluate_bag(options(bag, model, PUBLISHED))
    assert evaluate_bag(options(bag, model, TRUE)).miou == 1


def test_labels_of_another_classes_file_are_refused(tmp_path, model, classes):
    bag, _ = recording(tmp_path, ("dark", "warm"))
    with pytest.raises(BagError, match=r"the classes dark, warm by the recorded /segmentation/label_info; those of .*"):
        evaluate_bag(options(bag, model, PUBLISHED, classes=classes))


def test_labels_of_a_node_that_merges_nothing_are_scored_as_the_models(tmp_path, model):
    rgb = np.random.default_rng(1).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
    messages = [
        (CAMERA, 1, image_message(rgb, SECOND, "rgb8")),
        (PUBLISHED, 2, image_message(tiny_labels(rgb), SECOND, "mono8")),
        ("/segmentation/label_info", 3, label_info(CLASS_NAMES)),
    ]
    assert evaluate_bag(options(write_bag(tmp_path / "bag", messages), model, PUBLISHED)).miou == 1


def test_meanings_that_change_or_cannot_be_read_are_refused(tmp_path, model):
    bag, _ = recording(tmp_path, ("warm", "dark"), CLASS_NAMES)
    with pytest.raises(BagError, match="changes what the ids mean"):
        evaluate_bag(options(bag, model, PUBLISHED))
    broken = TYPESTORE.types["std_msgs/msg/String"](data="{")
    image = image_message(np.zeros((*INPUT_SIZE, 3), np.uint8), SECOND, "rgb8")
    label = image_message(np.zeros(INPUT_SIZE, np.uint8), SECOND, "mono8")
    messages = [(CAMERA, 1, image), (PUBLISHED, 2, label), ("/segmentation/label_info", 3, broken)]
    with pytest.raises(BagError, match=r"/segmentation/label_info of bag .* cannot be read"):
        evaluate_bag(options(write_bag(tmp_path / "broken", messages), model, PUBLISHED))


def test_ids_that_are_no_class_are_still_found(tmp_path, model, classes):
    label = np.zeros(INPUT_SIZE, np.uint8)
    label[0, 0] = 77
    image = image_message(np.zeros((*INPUT_SIZE, 3), np.uint8), SECOND, "rgb8")
    messages = [(CAMERA, 1, image), (TRUE, 2, image_message(label, SECOND, "mono8"))]
    with pytest.raises(BagError, match="labels hold the ids 77"):
        evaluate_bag(options(write_bag(tmp_path / "bag", messages), model, TRUE, classes=classes))


def test_a_classes_file_that_does_not_fit_is_one_line_of_the_command(tmp_path, model, classes, capsys):
    bag, _ = recording(tmp_path)
    classes.write_text("classes: {a: rde}")
    with pytest.raises(ClassMapError, match="near names: red"):
        evaluate_bag(options(bag, model, TRUE, classes=classes))
    given = ["evaluate-bag", str(bag), "--model", str(model), "--label-topic", TRUE, "--image-topic", CAMERA]
    assert main([*given, "--classes", str(classes), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("seg_perception: error: classes file ")
