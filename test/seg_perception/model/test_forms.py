from __future__ import annotations

from pathlib import Path

import pytest

from seg_perception.model.model_file import ModelFileError, read_model_info
from test.seg_perception.tiny_model import CELL, FEATURE_CELL, GRID, write_tiny_association_model, write_tiny_model


def test_a_file_of_the_form_association_tells_its_geometry(tmp_path: Path) -> None:
    info = read_model_info(write_tiny_association_model(tmp_path / "m.onnx"))
    assert (info.form, info.format_version) == ("association", "2")
    assert info.has_superpixels
    assert info.geometry is not None
    assert (info.geometry.grid, info.geometry.cell, info.geometry.feature_cell) == (GRID, CELL, FEATURE_CELL)
    assert info.to_dict()["feature_cell"] == list(FEATURE_CELL)


def test_a_cell_follows_from_a_grid_that_divides_the_input(tmp_path: Path) -> None:
    info = read_model_info(write_tiny_association_model(tmp_path / "m.onnx", {"cell": None}))
    assert info.geometry is not None
    assert info.geometry.cell == CELL


def test_a_file_of_format_1_is_of_the_form_labels(tmp_path: Path) -> None:
    info = read_model_info(write_tiny_model(tmp_path / "m.onnx"))
    assert (info.form, info.geometry) == ("labels", None)
    assert read_model_info(write_tiny_model(tmp_path / "m.onnx", changes={"form": "labels"})).form == "labels"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"superpixel_grid": None}, "its metadata lacks superpixel_grid"),
        ({"feature_cell": None}, "its metadata lacks feature_cell"),
        ({"feature_cell": "[0, 2]"}, "metadata feature_cell is '[0, 2]', expected JSON [height, width]"),
        (
            {"feature_cell": "[4, 4]"},
            "output association is association float32 [B, 3, 4, 4, 9], expected float32 or float16 [B, 3, 4, 16, 9]",
        ),
        ({"superpixel_grid": "[4, 4]"}, "expected float32 or float16 [B, 4, 4, 4, 9]"),
        ({"superpixel_grid": "[5, 4]", "cell": None}, "an input of 24x32 is no whole number of the 5x4 cells"),
        (
            {"cell": "[4, 8]"},
            "3x4 cells of 4x8 pixels does not cover an input of 24x32; a superpixel_grid of at least 6x4 does",
        ),
        ({"superpixel_grid": "[300, 300]"}, "at most 65535"),
        ({"feature_cell": "[2048, 1024]"}, "3x4 cells of 2048x1024 pixel features are 25165824, expected at most 16777216"),
        (
            {"class_names": '["a", "b"]', "palette": "[[0, 0, 0], [1, 1, 1]]"},
            "output class_logits is class_logits float32 [B, 3, 4, 4], expected float32 or float16 [B, 3, 4, 2]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_fits(
    tmp_path: Path, changes: dict[str, str | None], message: str
) -> None:
    path = write_tiny_association_model(tmp_path / "m.onnx", changes)
    with pytest.raises(ModelFileError) as caught:
        read_model_info(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
