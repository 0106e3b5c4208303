"""What export writes, a robot reads: the two sides' rules, which stand on two sides of the wall, are held together here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seg_models.export.deployment_file import check_metadata
from seg_models.export.errors import ExportError
from seg_perception.model.model_file import ModelFileError, read_model_info
from test.seg_perception.tiny_model import association_metadata, write_tiny_association_model

CHANGES = {
    "nothing": {},
    "spaces and accents": {"class_names": '["a b", "é", "c", "d"]'},
    "a long name": {"class_names": json.dumps(["a" * 200, "b", "c", "d"])},
    "a longer name": {"class_names": json.dumps(["a" * 201, "b", "c", "d"])},
    "an empty name": {"class_names": '["", "b", "c", "d"]'},
    "the same name twice": {"class_names": '["a", "a", "c", "d"]'},
    "no class": {"class_names": "[]", "palette": "[]"},
    "half a surrogate pair": {"class_names": '["\\ud800", "b", "c", "d"]'},
    "a colour too many": {"palette": "[[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]"},
    "a colour of two": {"palette": "[[0, 0], [0, 0], [0, 0], [0, 0]]"},
    "a colour beyond 255": {"palette": "[[0, 0, 256], [0, 0, 0], [0, 0, 0], [0, 0, 0]]"},
    "a negative colour": {"palette": "[[0, 0, -1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]"},
    "NaN": {"normalization": '{"mean": [NaN, 0, 0], "std": [1, 1, 1]}'},
    "infinity": {"normalization": '{"mean": [0, 0, 0], "std": [1, 1, Infinity]}'},
    "sides of 20,000": {"input_size": "[20000, 20000]"},
    "too many superpixels": {"superpixel_grid": "[300, 300]"},
}


@pytest.mark.parametrize("case", CHANGES)
def test_export_refuses_what_the_reader_refuses(case: str, tmp_path: Path) -> None:
    values = {**association_metadata(), **CHANGES[case]}
    path = write_tiny_association_model(tmp_path / "m.onnx", CHANGES[case])
    try:
        read_model_info(path)
    except ModelFileError:
        with pytest.raises(ExportError):
            check_metadata(values)
    else:
        check_metadata(values)
    assert (case in ("nothing", "spaces and accents", "a long name")) == _taken(values)


def _taken(values: dict[str, str]) -> bool:
    try:
        check_metadata(values)
    except ExportError:
        return False
    return True
