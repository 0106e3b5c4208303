"""A temperature in a deployment file: labels stay, confidence is the softmax of the divided scores, whoever reads the file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from scipy.special import expit, logit, softmax

from benchmarks.export_table import sharpen
from seg_models import calibrate, evaluate
from seg_models.data.labels import LabelTable
from seg_models.evaluation.onnx_file import open_deployment_file
from seg_models.export.confidence import KEY, scores_place, with_temperature
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.export.errors import ExportError
from seg_models.export.file_scores import file_scores
from seg_models.export.int8 import to_int8
from seg_onnx.half_precision import to_half
from seg_perception.model.model_file import read_model_info
from seg_perception.segmenter import Segmenter
from test.seg_models.architectures.overfit import drawn_rooms
from test.seg_models.tiny_models import tiny_model
from test.seg_perception.tiny_model import write_tiny_model

SIZE = (60, 90)
IMAGES, _, CLASSES = drawn_rooms(3, *SIZE)
TABLE = LabelTable(tuple(f"class {i}" for i in range(CLASSES)), tuple((i, i, i) for i in range(CLASSES)))
# One for each way in which a graph ends: painted outside, by cells, in an image, and without a softmax over classes.
FILES = {
    "association": ("superpixel_transformer", "association", "output"),
    "labels by cells": ("superpixel_transformer", "labels", "softmax"),
    "labels of an image": ("linear", "labels", "softmax"),
    "probabilities": ("segvit", "labels", "probability"),
}


@pytest.fixture(scope="module", params=FILES)
def file(request, tmp_path_factory) -> tuple[Path, str]:
    """A deployment file and the kind of its scores."""
    name, form, kind = FILES[request.param]
    model = tiny_model(name, CLASSES, SIZE).eval()
    sharpen(model)
    path = tmp_path_factory.mktemp("file") / "model.onnx"
    export_onnx(model, TABLE, Origin("m", name, "drawn"), path, list(IMAGES), form=form)
    return path, kind


def test_labels_stay_and_confidence_is_that_of_divided_scores(file):
    path, kind = file
    proto = onnx.load(str(path))
    assert scores_place(proto).kind == kind
    assert_divided(path, proto)


def test_short_precisions_are_divided_too(file):
    path, kind = file
    proto = onnx.load(str(path))
    assert_divided(path, to_half(proto))
    if kind == "output":  # the ends of the other graphs are the same in 8 bits as in float32
        assert_divided(path, to_int8(proto, list(IMAGES), "percentile"))


def assert_divided(path: Path, proto: onnx.ModelProto) -> None:
    """By temperatures below and above 1."""
    before = open_deployment_file(path, content=proto.SerializeToString())
    scores = file_scores(path, proto)
    for temperature in (0.4, 3.0):
        after = open_deployment_file(path, content=with_temperature(proto, temperature).SerializeToString())
        for image in IMAGES:
            was, now = before.predict(image), after.predict(image)
            # Dividing rounds the last bit, which decides ties.
            assert (was.labels == now.labels).mean() > 0.9999
            assert was.superpixels is None or np.array_equal(was.superpixels, now.superpixels)
            if scores is None:
                odds = logit((was.confidence / 255).clip(0.5 / 256, 1 - 0.5 / 256)) / temperature
                expected, reach = expit(odds), 1.5 + 1 / temperature  # known to half a level, which T < 1 widens
            else:
                expected, reach = softmax(scores(image) / temperature, axis=0).max(axis=0), 1.0
            assert np.abs(now.confidence - 255 * expected).max() <= reach


def test_two_temperatures_are_their_product_and_the_metadata_says_so(file):
    path, _ = file
    once = with_temperature(onnx.load(str(path)), 3.0)
    twice = with_temperature(with_temperature(onnx.load(str(path)), 2.0), 1.5)
    for model in (once, twice):
        assert {item.key: item.value for item in model.metadata_props}[KEY] == "3.0"
    assert len(once.graph.node) == len(twice.graph.node)
    found = [
        open_deployment_file(path, content=model.SerializeToString()).predict(IMAGES[0]) for model in (once, twice)
    ]
    assert np.abs(found[0].confidence.astype(int) - found[1].confidence).max() <= 1


def test_a_robot_needs_nothing_new(file, tmp_path):
    path, _ = file
    calibrated = tmp_path / "calibrated.onnx"
    onnx.save(with_temperature(onnx.load(str(path)), 2.5), str(calibrated))
    assert (read_model_info(path).temperature, read_model_info(calibrated).temperature) == ("", "2.5")
    with Segmenter(path, "onnxruntime") as plain, Segmenter(calibrated, "onnxruntime") as segmenter:
        expected = open_deployment_file(calibrated).predict(IMAGES[1])
        was, now = plain.segment(IMAGES[1]), segmenter.segment(IMAGES[1])
        assert np.mean(now.labels == was.labels) > 0.9999
        assert np.abs(now.confidence.astype(int) - expected.confidence).max() <= 1  # rounded by another painter
        assert now.confidence.mean() < was.confidence.mean()


def drawn_labels(path: Path, proto: onnx.ModelProto, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """True classes, drawn with the probabilities that the file's scores have at a temperature of 2; or right with the
    probability that its confidence has then."""
    scores = file_scores(path, proto)
    chance = generator.random(SIZE)
    if scores is not None:
        return (softmax(scores(image) / 2.0, axis=0).cumsum(0) > chance).argmax(0).astype(np.uint8)
    made = open_deployment_file(path).predict(image)
    right = chance < expit(logit((made.confidence / 255).clip(0.5 / 256, 1 - 0.5 / 256)) / 2.0)
    return np.where(right, made.labels, (made.labels + 1) % CLASSES).astype(np.uint8)


def folder_drawn_by(path: Path, root: Path) -> Path:
    """A data set whose confidence is right at a temperature of 2, in two splits."""
    generator = np.random.default_rng(0)
    proto = onnx.load(str(path))
    for split in ("fit", "check"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for number, image in enumerate(IMAGES):
            moved = np.ascontiguousarray(image if split == "fit" else image[:, ::-1])
            cv2.imwrite(str(root / f"images/{split}/{number}.png"), np.ascontiguousarray(moved[..., ::-1]))
            cv2.imwrite(str(root / f"labels/{split}/{number}.png"), drawn_labels(path, proto, moved, generator))
    table = [{"id": i, "name": name, "color": [i, i, i]} for i, name in enumerate(TABLE.names)]
    (root / "classes.yaml").write_text(yaml.safe_dump({"classes": table}))
    return root


def test_the_command_finds_the_temperature_and_the_error_falls(file, tmp_path, capsys):
    path, _ = file
    data = folder_drawn_by(path, tmp_path / "data")
    out, figures = tmp_path / "calibrated.onnx", tmp_path / "figures.json"
    words = ["--onnx", str(path), "--data", str(data), "--split", "fit", "--check-split", "check", "--out", str(out)]
    assert calibrate.main([*words, "--json", str(figures)]) == 0
    assert "ECE on check" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert found["temperature"] == pytest.approx(2.0, rel=0.06)  # of 16,200 pixels
    assert found["check"]["after"]["ece"] < found["check"]["before"]["ece"] / 2
    # The written file is the one that was measured.
    scored = tmp_path / "scored.json"
    words = ["--onnx", str(out), "--data", str(data), "--split", "check", "--calibration", "--json", str(scored)]
    assert evaluate.main(words) == 0
    assert json.loads(scored.read_text())["calibration"]["ece"] == pytest.approx(found["check"]["after"]["ece"])


def test_what_cannot_be_calibrated_is_said_in_one_line(file, tmp_path, capsys):
    path, _ = file
    data = tmp_path / "data"
    (data / "images/val").mkdir(parents=True)
    (data / "labels/val").mkdir(parents=True)
    (data / "classes.yaml").write_text("classes: [{id: 0, name: sea, color: [0, 0, 0]}]")
    cv2.imwrite(str(data / "images/val/0.png"), IMAGES[0])
    cv2.imwrite(str(data / "labels/val/0.png"), np.zeros(SIZE, np.uint8))
    words = ["--data", str(data), "--split", "val", "--out", str(tmp_path / "c.onnx")]
    assert calibrate.main(["--onnx", str(path), *words]) == 2
    assert "has other classes than" in capsys.readouterr().err
    assert calibrate.main(["--onnx", str(tmp_path / "absent.onnx"), *words]) == 2
    assert "no model at" in capsys.readouterr().err
    assert not (tmp_path / "c.onnx").exists()
    with pytest.raises(SystemExit):
        calibrate.main(["--onnx", str(path), *words, "--check-split", "val"])
    with pytest.raises(ExportError, match="the temperature is 0; expected a positive number"):
        with_temperature(onnx.load(str(path)), 0.0)


def test_a_graph_that_makes_confidence_otherwise_is_refused(tmp_path):
    """This one's confidence is a colour of the image."""
    proto = onnx.load(str(write_tiny_model(tmp_path / "m.onnx")))
    with pytest.raises(ExportError, match="confidence is no probability x 255 in this graph"):
        scores_place(proto)
