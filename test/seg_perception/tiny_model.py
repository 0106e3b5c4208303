"""Tiny deployment models whose output can be worked out by hand.

Class of a pixel: (red >= 128) + 2 * (green >= 128). Confidence: blue. Superpixel: the cell of a regular grid.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASS_NAMES = ("dark", "red", "green", "yellow")
PALETTE = ((40, 40, 40), (220, 30, 30), (30, 180, 60), (240, 220, 40))
INPUT_SIZE = (24, 32)
GRID = (3, 4)


def metadata(input_size: tuple[int, int] = INPUT_SIZE, grid: tuple[int, int] | None = GRID) -> dict[str, str]:
    """The contract's metadata of the tiny model."""
    result = {
        "format_version": "1",
        "name": "tiny",
        "architecture": "thresholds",
        "class_names": json.dumps(CLASS_NAMES),
        "palette": json.dumps(PALETTE),
        "input_size": json.dumps(input_size),
        "normalization": json.dumps({"mean": [0, 0, 0], "std": [1, 1, 1]}),
        "training_data": "none: thresholds",
        "license": "Apache-2.0",
        "source_commit": "0000000",
    }
    if grid is not None:
        result["superpixel_grid"] = json.dumps(grid)
    return result


def write_tiny_model(
    path: Path,
    input_size: tuple[int, int] = INPUT_SIZE,
    grid: tuple[int, int] | None = GRID,
    changes: dict[str, str | None] | None = None,
    batch: int | str = "B",
) -> Path:
    """Write the model; `changes` to the metadata replace values, or remove keys where the value is None."""
    height, width = input_size
    thresholds = numpy_helper.from_array(np.array([128.0, 128.0], np.float32), "thresholds")
    weights = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "weights")
    split = numpy_helper.from_array(np.array([2, 1], np.int64), "split")
    last = numpy_helper.from_array(np.array([3], np.int64), "last")
    initializers = [thresholds, weights, split, last]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),  # (B, H, W, 3)
        helper.make_node("Split", ["pixels", "split"], ["red_green", "blue"], axis=3),
        helper.make_node("GreaterOrEqual", ["red_green", "thresholds"], ["over"]),
        helper.make_node("Cast", ["over"], ["over_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["over_float", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "last"], ["classes"], keepdims=0),  # (B, H, W)
        helper.make_node("Cast", ["classes"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Squeeze", ["blue", "last"], ["blue_plane"]),  # (B, H, W)
        helper.make_node("Cast", ["blue_plane"], ["confidence"], to=TensorProto.UINT8),
    ]
    shape = [batch, height, width]
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.UINT8, shape),
        helper.make_tensor_value_info("confidence", TensorProto.UINT8, shape),
    ]
    if grid is not None:
        initializers.append(numpy_helper.from_array(grid_cells(input_size, grid)[None].astype(np.float32), "cells"))
        initializers.append(numpy_helper.from_array(np.array(0.0, np.float32), "zero"))
        nodes += [
            helper.make_node("Mul", ["blue_plane", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "cells"], ["cell_plane"]),
            helper.make_node("Cast", ["cell_plane"], ["superpixels"], to=TensorProto.INT32),
        ]
        outputs.append(helper.make_tensor_value_info("superpixels", TensorProto.INT32, shape))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, height, width, 3])
    graph = helper.make_graph(nodes, "tiny", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    values: dict[str, str | None] = {**metadata(input_size, grid), **(changes or {})}
    helper.set_model_props(model, {key: value for key, value in values.items() if value is not None})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def tiny_labels(rgb: np.ndarray) -> np.ndarray:
    """What the model gives for an image of its own size: uint8 [H, W]."""
    return (rgb[..., 0] >= 128).astype(np.uint8) + 2 * (rgb[..., 1] >= 128).astype(np.uint8)


def grid_cells(size: tuple[int, int], grid: tuple[int, int] = GRID) -> np.ndarray:
    """Raster index of the grid cell of every pixel: int64 [H, W]."""
    rows = np.arange(size[0]) * grid[0] // size[0]
    columns = np.arange(size[1]) * grid[1] // size[1]
    return rows[:, None] * grid[1] + columns[None, :]


CELL = (8, 8)  # of the association model, pixels
FEATURE_CELL = (2, 2)


def association_metadata() -> dict[str, str]:
    """The contract's metadata of the tiny model of the form `association`."""
    return {
        **metadata(),
        "format_version": "2",
        "form": "association",
        "cell": json.dumps(CELL),
        "feature_cell": json.dumps(FEATURE_CELL),
    }


def write_tiny_association_model(
    path: Path,
    changes: dict[str, str | None] | None = None,
    shapes: dict[str, list[int | str]] | None = None,
    score: float = 20.0,
) -> Path:
    """The same classes in the form `association`, decided a cell: every pixel belongs to the superpixel of its own cell.

    Class scores of a cell are `score` for the class of its mean colour and 0 for the others.

    Args:
        changes: to the metadata; None removes a key.
        shapes: declared instead of the true ones, by the output's name.
        score: of the class; its probability is exp(score) / (exp(score) + 3).
    """
    (rows, columns), features = GRID, FEATURE_CELL[0] * FEATURE_CELL[1]
    scores = np.zeros((1, rows, columns, features, 9), np.float32)
    scores[..., 4] = 10.0
    for row in range(rows):
        for column in range(columns):
            for place in range(9):
                r, c = row + place // 3 - 1, column + place % 3 - 1
                if not (0 <= r < rows and 0 <= c < columns):
                    scores[0, row, column, :, place] = -1e4
    initializers = [
        numpy_helper.from_array(np.array([128.0, 128.0], np.float32), "thresholds"),
        numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "weights"),
        numpy_helper.from_array(np.array([2, 1], np.int64), "split"),
        numpy_helper.from_array(np.array([3], np.int64), "last"),
        numpy_helper.from_array(np.arange(4, dtype=np.float32), "ids"),
        numpy_helper.from_array(np.array(score, np.float32), "score"),
        numpy_helper.from_array(np.array(0.0, np.float32), "zero"),
        numpy_helper.from_array(scores, "scores"),
        numpy_helper.from_array(np.array([0, rows, columns, 1, 1], np.int64), "spread"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),  # (B, H, W, 3)
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=CELL, strides=CELL),
        helper.make_node("Transpose", ["means"], ["cells"], perm=[0, 2, 3, 1]),  # (B, R, C, 3)
        helper.make_node("Split", ["cells", "split"], ["red_green", "blue"], axis=3),
        helper.make_node("GreaterOrEqual", ["red_green", "thresholds"], ["over"]),
        helper.make_node("Cast", ["over"], ["over_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["over_float", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "last"], ["classes"], keepdims=1),  # (B, R, C, 1)
        helper.make_node("Equal", ["classes", "ids"], ["is_class"]),
        helper.make_node("Cast", ["is_class"], ["is_class_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["is_class_float", "score"], ["class_logits"]),
        helper.make_node("Mul", ["classes", "zero"], ["zeros"]),
        helper.make_node("Reshape", ["zeros", "spread"], ["zeros_5d"]),
        helper.make_node("Add", ["zeros_5d", "scores"], ["association"]),
    ]
    declared: dict[str, list[int | str]] = {
        "association": ["B", rows, columns, features, 9],
        "class_logits": ["B", rows, columns, len(CLASS_NAMES)],
        **(shapes or {}),
    }
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in declared.items()]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", *INPUT_SIZE, 3])
    graph = helper.make_graph(nodes, "tiny", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    values: dict[str, str | None] = {**association_metadata(), **(changes or {})}
    helper.set_model_props(model, {key: value for key, value in values.items() if value is not None})
    onnx.save(model, path)
    return path
