"""A float32 deployment file written again in another precision, without its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from seg_models.data.labels import LabelTable
from seg_models.export import command
from seg_models.export.conversion import convert_onnx
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.export.errors import ExportError
from seg_perception.model.model_file import read_model_info
from test.seg_models.architectures.overfit import drawn_rooms
from test.seg_models.tiny_models import tiny_model

SIZE = (64, 96)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return list(drawn_rooms(4, *SIZE)[0])


@pytest.fixture(scope="module", params=["association", "labels"])
def file(request: pytest.FixtureRequest, images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = drawn_rooms(1, *SIZE)[2]
    model = tiny_model("superpixel_transformer", classes, SIZE).eval()
    table = LabelTable(tuple(f"class {i}" for i in range(classes)), tuple((i, i, i) for i in range(classes)))
    path = tmp_path_factory.mktemp("file") / "model.onnx"
    export_onnx(model, table, Origin("tiny", "superpixel_transformer", "drawn"), path, images[:2], form=request.param)
    return path


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_file_in_another_precision_is_smaller_says_so_and_agrees(
    file: Path, images: list[np.ndarray], tmp_path: Path, precision: str
) -> None:
    out = tmp_path / "short.onnx"
    calibration = images[2:4] if precision == "int8" else None
    figures = convert_onnx(file, out, images[:1], precision, calibration)
    assert figures["label_agreement"] >= (0.99 if precision == "float16" else 0.8)
    assert figures["superpixel_agreement"] >= (0.99 if precision == "float16" else 0.8)
    assert out.stat().st_size < file.stat().st_size
    before, after = read_model_info(file), read_model_info(out)
    assert (after.form, after.class_names, after.geometry) == (before.form, before.class_names, before.geometry)
    metadata = onnxruntime.InferenceSession(str(out)).get_modelmeta().custom_metadata_map
    assert metadata["precision"] == precision
    if precision == "int8":
        assert {node.op_type for node in onnx.load(str(out)).graph.node} >= {"QuantizeLinear", "DequantizeLinear"}


def test_the_command_converts_a_file(
    file: Path, images: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, image in enumerate(images[:3]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image[..., ::-1])
    arguments = ["--onnx", str(file), "--precision", "float16", "--out", str(tmp_path / "half.onnx")]
    assert command.main(arguments) == 2
    assert "--onnx needs --images DIR" in capsys.readouterr().err
    assert command.main([*arguments, "--images", str(tmp_path), "--form", "labels"]) == 2
    assert "--onnx keeps the file's form" in capsys.readouterr().err
    assert command.main([*arguments, "--images", str(tmp_path)]) == 0
    assert f"against {file}: " in capsys.readouterr().out
    again = ["--onnx", str(tmp_path / "half.onnx"), *arguments[2:], "--images", str(tmp_path)]
    assert command.main(again) == 2
    assert "is float16 already; expected a float32 file" in capsys.readouterr().err


def test_what_is_no_deployment_file_is_refused(file: Path, images: list[np.ndarray], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(ExportError, match="precision is 'float32'; a file is converted to one of float16, int8"):
        convert_onnx(file, out, images, "float32")
    with pytest.raises(ExportError, match="is not a folder; make it first"):
        convert_onnx(file, tmp_path / "none" / "out.onnx", images, "float16")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\xff" * 64)
    with pytest.raises(ExportError, match="is no ONNX file"):
        convert_onnx(broken, out, images, "float16")
    bare = onnx.load(str(file))
    del bare.metadata_props[:]
    onnx.save(bare, str(broken))
    with pytest.raises(ExportError, match="is no deployment model, its metadata lacks input_size"):
        convert_onnx(broken, out, images, "float16")
    assert not out.exists()


def test_files_without_the_key_cell_are_painted_by_their_grid(
    file: Path, images: list[np.ndarray], tmp_path: Path
) -> None:
    proto = onnx.load(str(file))
    kept = {prop.key: prop.value for prop in proto.metadata_props if prop.key != "cell"}
    assert json.loads(kept["input_size"]) == list(SIZE)
    onnx.helper.set_model_props(proto, kept)
    old = tmp_path / "old.onnx"
    onnx.save(proto, str(old))
    assert convert_onnx(old, tmp_path / "half.onnx", images[:1], "float16")["label_agreement"] >= 0.99
