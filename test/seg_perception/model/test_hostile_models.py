"""Files that were made to hurt, and files that were hurt: one line each, quickly, and nothing else."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seg_perception.model.model_file import ModelFileError, read_model_info
from test.seg_perception.broken_files import damaged, field, varint
from test.seg_perception.tiny_model import write_tiny_association_model, write_tiny_model


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_model_info(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("write", [write_tiny_model, write_tiny_association_model])
def test_damaged_files_are_refused_in_one_line_or_still_make_sense(write, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.onnx").read_bytes()
    path = tmp_path / "damaged.onnx"
    for data in damaged(whole, 300, seed=1):
        path.write_bytes(data)
        with contextlib.suppress(ModelFileError):
            info = read_model_info(path)
            json.dumps(info.to_dict(), allow_nan=False).encode("utf-8")  # what is taken can be reported


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": "[" * 100_000}, "metadata class_names is"),
        ({"palette": "[" * 3000 + "]" * 3000}, "metadata palette is"),
        ({"class_names": '["a", "b", "c", "\\ud800"]'}, "different names"),
        ({"class_names": json.dumps(["a" * 201, "b", "c", "d"])}, "different names"),
        ({"class_names": json.dumps(["a\n", "b", "c", "d"])}, "different names without control characters"),
        ({"normalization": '{"mean": [NaN, 0, 0], "std": [1, 1, 1]}'}, "metadata normalization is"),
        ({"normalization": '{"mean": [0, 0, 0], "std": [1e999, 1, 1]}'}, "metadata normalization is"),
        ({"input_size": "[1000000000, 1000000000]"}, "expected JSON [height, width], 1 to 16384"),
        ({"input_size": "[true, 32]"}, "expected JSON [height, width]"),
        ({"superpixel_grid": "[2000000000, 1]"}, "expected JSON [rows, columns], 1 to 16384"),
        ({"input_size": "9" * 5000}, "metadata input_size is"),
        ({"license": "x" * (1 << 20) + "x"}, "a text of 1048577 bytes where at most 1048576 make sense"),
        ({f"key {i}": "x" for i in range(300)}, "more than 256 entries of metadata"),
    ],
)
def test_metadata_that_was_made_to_hurt_is_refused(
    tmp_path: Path, changes: dict[str, str | None], message: str
) -> None:
    assert message in refusal(write_tiny_model(tmp_path / "m.onnx", changes=changes))


def test_control_characters_reach_no_terminal(tmp_path: Path) -> None:
    texts: dict[str, str | None] = {"name": "a\nb\x1b[31m", "license": "MIT\r\n", "training_data": "Räume, 部屋"}
    info = read_model_info(write_tiny_model(tmp_path / "m.onnx", changes=texts))
    assert (info.name, info.license, info.training_data) == ("a?b?[31m", "MIT??", "Räume, 部屋")


def test_a_name_that_no_file_can_have_is_refused_in_one_line() -> None:
    with pytest.raises(ModelFileError, match=r"cannot be read: File name too long") as caught:
        read_model_info("/nowhere/" + "a" * 5000)
    assert len(str(caught.value)) < 400


def test_millions_of_empty_fields_do_not_keep_the_reader_busy(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(write_tiny_model(tmp_path / "whole.onnx").read_bytes() + field(3, b"") * 10_000_000)
    begin_s = time.process_time()
    assert "more than any model" in refusal(path)
    assert time.process_time() - begin_s < 5.0  # 26 s without a bound; a second here, with slack for slow machines


def test_graphs_deep_inside_each_other_are_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))  # a node with an attribute that is a graph
    path = tmp_path / "m.onnx"
    path.write_bytes(varint(1 << 3) + varint(10) + field(7, graph))
    assert "deep in each other" in refusal(path)


def external(name: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def branch(node: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, [4])])


@pytest.mark.parametrize("where", ["initializer", "constant", "branch", "function", "sparse"])
def test_a_tensor_in_another_file_is_found_wherever_it_hides(tmp_path: Path, where: str) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    constant = helper.make_node("Constant", [], ["o"], value=external("hidden"))
    if where == "initializer":
        model.graph.initializer.append(external("hidden"))
    elif where == "constant":
        model.graph.node.append(constant)
    elif where == "branch":
        model.graph.node.append(
            helper.make_node("If", ["c"], ["o"], then_branch=branch(constant), else_branch=branch(constant))
        )
    elif where == "function":
        opset = helper.make_opsetid("", 20)
        model.functions.append(helper.make_function("local", "f", [], ["o"], [constant], [opset]))
    else:
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(external("hidden"))
    path.write_bytes(model.SerializeToString())
    assert "in other files (the first: hidden)" in refusal(path)
