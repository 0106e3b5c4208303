"""`seg_perception evaluate-folder`: the figures of `seg_models.evaluate`, from any engine, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from seg_models import evaluate as seg_models_evaluate
from seg_models.analyse.command import main as analyse
from seg_perception.cli import main
from test.seg_perception.tiny_model import CLASS_NAMES, INPUT_SIZE, write_tiny_association_model, write_tiny_model


def write_data(root: Path, size: tuple[int, int], names: tuple[str, ...] = CLASS_NAMES, ignore: int = 255) -> Path:
    """Three images of coloured patches, and labels that are right for most of them."""
    generator = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    table = [{"id": i, "name": name, "color": [i, i, i]} for i, name in enumerate(names)]
    (root / "classes.yaml").write_text(yaml.safe_dump({"ignore_index": ignore, "classes": table}))
    for number in range(3):
        coarse = generator.integers(0, 256, (4, 5, 3), np.uint8)
        image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_NEAREST)  # BGR
        labels = (image[..., 2] >= 128) + 2 * (image[..., 1] >= 128)
        labels = np.where(generator.random(size) < 0.2, generator.integers(0, 4, size), labels)
        labels[:3, :4] = ignore
        cv2.imwrite(str(root / f"images/val/{number}.png"), image)
        cv2.imwrite(str(root / f"labels/val/{number}.png"), labels.astype(np.uint8))
    return root


@pytest.mark.parametrize("form", ["labels", "association"])
@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_give_the_figures_of_seg_models(tmp_path, form, scale, engine):
    """At three times the size the image is halved first, on both sides of the wall."""
    pytest.importorskip(engine, reason=f"pip install {engine}")
    write = write_tiny_model if form == "labels" else write_tiny_association_model
    model = write(tmp_path / "m.onnx")
    data = write_data(tmp_path / "data", (scale * INPUT_SIZE[0], scale * INPUT_SIZE[1]))
    words = ["evaluate-folder", str(data), "--model", str(model), "--out", str(tmp_path / "out"), "--engine", engine]
    assert main(words) == 0
    found = json.loads((tmp_path / "out/figures.json").read_text())
    scored = tmp_path / "scored.json"
    words = ["--onnx", str(model), "--data", str(data), "--calibration", "--json", str(scored)]
    assert seg_models_evaluate.main(words) == 0
    expected = json.loads(scored.read_text())
    assert 0.2 < expected["miou"] < 1
    assert set(found["iou"]) == set(expected["iou"])
    # The painters agree but for ties of the last bit, which a byte of confidence shows, too.
    for key in ("miou", "pixel_accuracy"):
        assert found[key] == pytest.approx(expected[key], abs=2e-3)
    for key in ("ece", "mean_confidence", "accuracy"):
        assert found["calibration"][key] == pytest.approx(expected["calibration"][key], abs=2e-3)
    if form == "labels" and engine == "onnxruntime":  # nothing is computed twice
        assert found["confusion"] == expected["confusion"]
        assert found["calibration"]["ece"] == pytest.approx(expected["calibration"]["ece"], abs=1e-12)
    compared = ["compare", "--figures", str(scored), str(tmp_path / "out/figures.json"), "--out", str(tmp_path / "c")]
    assert analyse(compared) == 0


def test_the_report_is_that_of_a_recording(tmp_path, capsys):
    model = write_tiny_model(tmp_path / "m.onnx")
    data = write_data(tmp_path / "data", INPUT_SIZE, ignore=200)
    out = tmp_path / "out"
    words = ["evaluate-folder", str(data), "--model", str(model), "--out", str(out), "--engine", "onnxruntime"]
    assert main(words) == 0
    assert "calibration ECE" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert report["frames_labelled"] == 3
    assert sum(map(sum, report["confusion"])) == 3 * (INPUT_SIZE[0] * INPUT_SIZE[1] - 12)  # 200 is no label here
    assert "<svg" in (out / "report.html").read_text()


def no_mask(root: Path) -> None:
    (root / "labels/val/1.png").unlink()


def other_size(root: Path) -> None:
    cv2.imwrite(str(root / "labels/val/1.png"), np.zeros((4, 4), np.uint8))


def no_picture(root: Path) -> None:
    (root / "images/val/1.png").write_bytes(b"\x89PNG\r\n")


def unknown_id(root: Path) -> None:
    cv2.imwrite(str(root / "labels/val/1.png"), np.full(INPUT_SIZE, 9, np.uint8))


def no_classes(root: Path) -> None:
    (root / "classes.yaml").write_text("classes: 3")


def colour_masks(root: Path) -> None:
    text = (root / "classes.yaml").read_text()
    (root / "classes.yaml").write_text(text + "masks: color\n")


def other_names(root: Path) -> None:
    text = (root / "classes.yaml").read_text()
    (root / "classes.yaml").write_text(text.replace("dark", "night"))


def no_images(root: Path) -> None:
    for path in (root / "images/val").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_mask, "1 of 3 images have no mask"),
        (other_size, "is 4x4, its image 32x24"),
        (no_picture, "1.png or its mask"),
        (unknown_id, "mask of 1.png: labels hold the ids 9"),
        (no_classes, "has no list `classes`"),
        (colour_masks, "python -m seg_models.evaluate --onnx reads the other layouts"),
        (other_names, "has the classes night, red"),
        (no_images, "no image in"),
    ],
)
def test_a_folder_that_cannot_be_scored_is_named(tmp_path, capsys, damage, message):
    model = write_tiny_model(tmp_path / "m.onnx")
    data = write_data(tmp_path / "data", INPUT_SIZE)
    damage(data)
    words = ["evaluate-folder", str(data), "--model", str(model), "--out", str(tmp_path / "out")]
    assert main([*words, "--engine", "onnxruntime"]) == 2
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert last.startswith("seg_perception: error: ")
    assert message in last


def test_a_split_that_is_not_there_is_named(tmp_path, capsys):
    model = write_tiny_model(tmp_path / "m.onnx")
    data = write_data(tmp_path / "data", INPUT_SIZE)
    words = ["evaluate-folder", str(data), "--model", str(model), "--out", str(tmp_path / "out"), "--split", "night"]
    assert main(words) == 2
    assert "no folder" in capsys.readouterr().err
