"""The table of parameters: complete, consistent, documented."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from seg_perception.ros.parameter_documents import markdown, yaml_file
from seg_perception.ros.parameter_values import CameraParameters, NodeParameters
from seg_perception.ros.parameters import PARAMETERS


def test_the_table_and_the_values_have_the_same_names():
    of_node = {field.name for field in fields(NodeParameters)}
    of_cameras = {field.name for field in fields(CameraParameters)}
    assert {p.name for p in PARAMETERS if not p.per_camera} == of_node - {"plain"}
    assert {p.name for p in PARAMETERS if p.per_camera} == of_cameras


def test_the_documentation_is_up_to_date():
    path = Path(__file__).parents[3] / "docs/parameters.md"
    assert path.read_text() == markdown(PARAMETERS), "run: python -m seg_perception.ros.parameters > docs/parameters.md"


def test_the_parameter_file_is_up_to_date_and_holds_the_defaults():
    path = Path(__file__).parents[3] / "config/segmentation.yaml"
    assert path.read_text() == yaml_file(PARAMETERS), (
        "run: python -m seg_perception.ros.parameters --yaml > config/segmentation.yaml"
    )
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert values == {p.name: p.default for p in PARAMETERS}
    # ROS tells 2 from 2.0: a float parameter refuses the former.
    assert [type(v) for v in values.values()] == [type(p.default) for p in PARAMETERS]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_defaults_are_within_their_range_and_described(parameter):
    assert parameter.problem(parameter.default) == ""
    assert parameter.description.endswith(".")


def test_values_outside_their_range_are_named():
    table = {p.name: p for p in PARAMETERS}
    assert table["threads"].problem(-1) == "parameter threads is -1, expected int, 0 to 256"
    expected = "parameter engine is 'cuda', expected one of: auto, tensorrt, onnxruntime, openvino"
    assert table["engine"].problem("cuda") == expected


@pytest.mark.parametrize(
    ("image", "image_type", "compressed"),
    [
        ("/camera/image_raw", "auto", False),
        ("/camera/image_raw/compressed", "auto", True),
        ("/camera/image_raw/compressed", "raw", False),
        ("/camera/jpeg", "compressed", True),
    ],
)
def test_the_message_type_follows_the_topic_name_unless_told(image, image_type, compressed):
    values = {p.name: p.default for p in PARAMETERS if p.per_camera} | {"image": image, "image_type": image_type}
    assert CameraParameters(**values).compressed is compressed
