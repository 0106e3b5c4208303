"""Finding the first layers that differ. The way under test is ONNX Runtime on a changed file, in TensorRT's place."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seg_onnx.half_precision import to_half
from seg_perception.engines.tensorrt.layers import OnnxLayers, first_differences, float_layers, relative_error

DEPTH = 60


def chain(path: Path, overflow_at: int | None = None, wrong_at: int | None = None) -> Path:
    """y = x / 255 through DEPTH layers that change little; one squares numbers that float16 cannot hold, or is wrong."""
    nodes = [helper.make_node("Cast", ["image"], ["t"], "cast", to=TensorProto.FLOAT)]
    weights = [numpy_helper.from_array(np.array(1 / 255, np.float32), "scale")]
    nodes.append(helper.make_node("Mul", ["t", "scale"], ["t0"], "normalise"))
    for i in range(1, DEPTH):
        factor = 3.0 if i == wrong_at else 1.01
        if i == overflow_at:
            weights += [
                numpy_helper.from_array(np.array(value, np.float32), f"{n}{i}")
                for n, value in (("up", 1e5), ("down", 1e-5))
            ]
            nodes.append(helper.make_node("Mul", [f"t{i - 1}", f"up{i}"], [f"large{i}"], "the_large_one"))
            nodes.append(helper.make_node("Mul", [f"large{i}", f"down{i}"], [f"t{i}"], f"layer{i}"))
        else:
            weights.append(numpy_helper.from_array(np.array(factor, np.float32), f"w{i}"))
            nodes.append(helper.make_node("Mul", [f"t{i - 1}", f"w{i}"], [f"t{i}"], f"layer{i}"))
    nodes.append(helper.make_node("Cast", [f"t{DEPTH - 1}"], ["labels"], "out", to=TensorProto.UINT8))
    shape = ["B", 4, 6, 3]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, shape)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (1, 4, 6, 3), np.uint8)


@pytest.mark.parametrize("wrong", [1, 7, 31, DEPTH - 1])
def test_the_first_wrong_layer_is_found_in_few_runs(tmp_path: Path, image: np.ndarray, wrong: int) -> None:
    right = chain(tmp_path / "right.onnx")
    tested = OnnxLayers(chain(tmp_path / "wrong.onnx", wrong_at=wrong).read_bytes())
    asked: list[int] = []

    def counted(names, batch):
        asked.append(len(names))
        return tested(names, batch)

    found = first_differences(float_layers(right), OnnxLayers(right.read_bytes()), counted, image)
    assert found[0].layer.node == f"layer{wrong}"
    assert found[0].error == pytest.approx(3 / 1.01 - 1, rel=1e-3)
    assert found[0].error_before < 1e-5
    assert len(asked) <= 2
    assert max(asked) <= 12


def test_what_overflows_in_half_floats_is_named_and_keeping_it_in_float32_mends_it(
    tmp_path: Path, image: np.ndarray
) -> None:
    path = chain(tmp_path / "model.onnx", overflow_at=40)
    # Without its exception for the stem, which would leave all of this model in float32: there is no other product.
    proto = onnx.load(str(path))
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "eye")
    proto.graph.initializer.append(weight)
    proto.graph.node[2].input[0] = "mixed"
    proto.graph.node.insert(2, helper.make_node("MatMul", ["t0", "eye"], ["mixed"], "mix"))
    onnx.save(proto, str(path))
    half = to_half(proto)
    found = first_differences(
        float_layers(path), OnnxLayers(path.read_bytes()), OnnxLayers(half.SerializeToString()), image
    )
    assert found[0].layer.node == "the_large_one"
    assert math.isinf(found[0].error)
    assert "the_large_one (Mul, tensor large40): its values are no longer finite" in str(found[0])
    mended = to_half(proto, keep=["large40", "t40"])
    assert not first_differences(
        float_layers(path), OnnxLayers(path.read_bytes()), OnnxLayers(mended.SerializeToString()), image
    )


def test_equal_models_have_no_difference(tmp_path: Path, image: np.ndarray) -> None:
    path = chain(tmp_path / "model.onnx")
    same = OnnxLayers(path.read_bytes())
    assert first_differences(float_layers(path), same, same, image) == []
    assert first_differences([], same, same, image) == []


def test_tensors_that_the_other_way_does_not_have_are_passed_over(tmp_path: Path, image: np.ndarray) -> None:
    right = chain(tmp_path / "right.onnx")
    tested = OnnxLayers(chain(tmp_path / "wrong.onnx", wrong_at=20).read_bytes())

    def fused(names, batch):
        return tested([name for name in names if name in ("t0", "t30", "t59")], batch)

    found = first_differences(float_layers(right), OnnxLayers(right.read_bytes()), fused, image)
    assert [difference.layer.tensor for difference in found] == ["t59"]

    def partly_fused(names, batch):
        return tested([name for name in names if name not in ("t20", "t21", "t22")], batch)

    found = first_differences(float_layers(right), OnnxLayers(right.read_bytes()), partly_fused, image)
    assert found[0].layer.tensor == "t23"


@pytest.mark.parametrize(
    ("expected", "came", "error"),
    [
        ([1.0, -1.0], [1.1, -1.0], 0.05),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1.0], math.inf),
        ([1.0, 1.0], [1.0, math.nan], math.inf),
        ([1.0, math.inf], [1.0, math.inf], 0.0),
        ([math.nan, math.nan], [0.0, 0.0], 0.0),
    ],
)
def test_relative_error(expected: list[float], came: list[float], error: float) -> None:
    assert relative_error(np.array(expected), np.array(came)) == pytest.approx(error)
