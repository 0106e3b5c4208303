from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from seg_perception.model.model_file import ModelFileError, read_model_info
from seg_perception.model.onnx_header import read_onnx_header
from test.seg_perception.tiny_model import CLASS_NAMES, GRID, INPUT_SIZE, PALETTE, write_tiny_model


def test_a_model_tells_all_of_the_contract(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    info = read_model_info(path)
    assert info.path == path
    assert (info.name, info.architecture, info.format_version) == ("tiny", "thresholds", "1")
    assert info.class_names == CLASS_NAMES
    np.testing.assert_array_equal(info.palette, np.array(PALETTE, np.uint8))
    assert info.input_size == INPUT_SIZE
    assert info.superpixel_grid == GRID
    assert info.has_superpixels
    assert info.normalization == {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    assert (info.training_data, info.license, info.source_commit) == ("none: thresholds", "Apache-2.0", "0000000")
    assert info.batch_size is None
    assert info.opset == 20
    assert info.file_size_bytes == path.stat().st_size
    assert json.loads(json.dumps(info.to_dict()))["palette"] == [list(colour) for colour in PALETTE]


def test_optional_metadata_may_be_missing(tmp_path: Path) -> None:
    absent: dict[str, str | None] = dict.fromkeys(
        ("name", "normalization", "training_data", "license", "source_commit")
    )
    info = read_model_info(write_tiny_model(tmp_path / "plain.onnx", grid=None, changes=absent, batch=1))
    assert (info.name, info.normalization, info.license) == ("plain", None, "")
    assert (info.has_superpixels, info.superpixel_grid, info.batch_size) == (False, None, 1)


def test_the_outline_agrees_with_the_onnx_package(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    header = read_onnx_header(path)
    model = onnx.load(path)
    assert header.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert [tensor.name for tensor in header.inputs] == [value.name for value in model.graph.input]
    assert [tensor.name for tensor in header.outputs] == [value.name for value in model.graph.output]
    assert header.inputs[0].shape == ("B", *INPUT_SIZE, 3)
    assert (header.ir_version, header.opset) == (model.ir_version, model.opset_import[0].version)


def error_of(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_model_info(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_empty_or_foreign_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "none.onnx")
    assert "is not a file" in error_of(tmp_path)
    empty = tmp_path / "empty.onnx"
    empty.touch()
    assert "the file is empty (0 bytes)" in error_of(empty)
    for name, content in (
        ("text", b"hello, I am no model\n" * 50),
        ("zeros", bytes(5000)),
        ("png", b"\x89PNG\r\n\x1a\n"),
    ):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        assert "no ONNX file" in error_of(path) or "not an ONNX file" in error_of(path)


def test_a_model_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_tiny_model(tmp_path / "m.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in range(1, len(whole), 37):
        cut.write_bytes(whole[:length])
        assert "ONNX" in error_of(cut)


def test_random_bytes_never_pass_nor_crash(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "noise.onnx"
    for _ in range(200):
        path.write_bytes(rng.bytes(int(rng.integers(1, 400))))
        error_of(path)


def test_onnx_without_the_contracts_metadata_is_refused(tmp_path: Path) -> None:
    required = ("format_version", "architecture", "class_names", "palette", "input_size")
    path = write_tiny_model(tmp_path / "m.onnx", grid=None, changes=dict.fromkeys(required))
    assert f"its metadata lacks {', '.join(required)}; export it with `python -m seg_models.export`" in error_of(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"palette": None}, "its metadata lacks palette"),
        ({"format_version": "3"}, "has format version '3', this seg_perception reads 1 and 2"),
        ({"format_version": "2"}, "is of form '', expected one of labels, association"),
        ({"form": "association"}, "is of form association, which is of format version 2, not 1"),
        ({"form": "masks"}, "is of form 'masks', expected one of labels, association"),
        ({"class_names": "floor, wall"}, "metadata class_names is 'floor, wall', expected a JSON list"),
        ({"class_names": '["a", "a", "b", "c"]'}, "different names"),
        ({"class_names": "[]"}, "different names"),
        ({"class_names": '["a", "b"]'}, "palette has 4 colours for 2 classes"),
        ({"palette": "[[0, 0, 300], [0, 0, 0], [0, 0, 0], [0, 0, 0]]"}, "with values 0 to 255"),
        ({"palette": "[[0, 0], [0, 0], [0, 0], [0, 0]]"}, "expected a JSON list of"),
        ({"input_size": "[24]"}, "metadata input_size is '[24]', expected JSON [height, width]"),
        ({"input_size": "[0, 32]"}, "expected JSON [height, width]"),
        ({"input_size": "[48, 64]"}, "input is image uint8 [B, 24, 32, 3], expected uint8 [B, 48, 64, 3]"),
        ({"normalization": "[1, 2]"}, "metadata normalization is '[1, 2]'"),
        ({"superpixel_grid": None}, "has output superpixels but no metadata superpixel_grid"),
        ({"superpixel_grid": "[256, 256]"}, "a superpixel grid of 256x256 = 65536 cells"),
    ],
)
def test_metadata_that_is_wrong_is_named(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    assert message in error_of(write_tiny_model(tmp_path / "m.onnx", changes=changes))


def test_the_largest_superpixel_grid_is_taken(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", changes={"superpixel_grid": "[255, 257]"})
    assert read_model_info(path).superpixel_grid == (255, 257)


def with_graph_change(tmp_path: Path, **outputs: tuple[int, list[int]]) -> Path:
    """The tiny model without superpixels, its outputs declared otherwise."""
    path = write_tiny_model(tmp_path / "m.onnx", grid=None)
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, *declared) for name, declared in outputs.items())
    path.write_bytes(model.SerializeToString())
    return path


def test_other_tensors_than_the_contracts_are_named(tmp_path: Path) -> None:
    shape = [1, *INPUT_SIZE]
    path = with_graph_change(tmp_path, labels=(TensorProto.UINT8, shape))
    assert "has no output confidence (its outputs: labels)" in error_of(path)
    path = with_graph_change(tmp_path, labels=(TensorProto.INT64, shape), confidence=(TensorProto.UINT8, shape))
    assert "output labels is labels int64 [1, 24, 32], expected uint8 [B, 24, 32]" in error_of(path)
    path = with_graph_change(
        tmp_path, labels=(TensorProto.UINT8, shape), confidence=(TensorProto.UINT8, [1, 1, *INPUT_SIZE])
    )
    assert "output confidence is confidence uint8 [1, 1, 24, 32]" in error_of(path)


def test_another_input_is_named(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.input[0].name = "pixel_values"
    path.write_bytes(model.SerializeToString())
    assert "has the inputs: pixel_values uint8 [B, 24, 32, 3]; expected one: image uint8" in error_of(path)


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=1)
    assert "in other files (the first: " in error_of(path)
