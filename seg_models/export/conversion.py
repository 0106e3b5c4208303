"""A deployment file in float32 written again in another precision: no checkpoint needed, nothing of the model but the file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError

from seg_models.export.checks import TOLERANCES, require_agreement, resized
from seg_models.export.errors import ExportError
from seg_models.export.int8 import best_int8
from seg_models.export.whole_file import written_whole
from seg_models.ops.painting import PaintingGeometry, paint_association
from seg_onnx.half_precision import to_half

logger = logging.getLogger(__name__)

CONVERTED = ("float16", "int8")


def convert_onnx(
    source: Path, out: Path, images: list[np.ndarray], precision: str, calibration: list[np.ndarray] | None = None
) -> dict[str, float]:
    """Write a float32 deployment file in another precision after comparing the two in ONNX Runtime.

    Args:
        source: the float32 file.
        out: the new file; written only if the comparison passes, and then at once.
        images: RGB uint8 (h, w, 3) of any size, real ones, that the two are compared on.
        precision: "float16" or "int8", see `export_onnx`.
        calibration: for int8, images like `images` but others.

    Returns:
        label_agreement and superpixel_agreement (share of equal pixels), confidence_difference (largest, of 255).

    Raises:
        ExportError: no deployment file in float32, no images, an unknown precision, or disagreement.
    """
    if precision not in CONVERTED:
        raise ExportError(f"precision is {precision!r}; a file is converted to one of {', '.join(CONVERTED)}")
    if not out.parent.is_dir():
        raise ExportError(f"{out.parent} is not a folder; make it first")
    proto, values = _read(source)
    size = tuple(json.loads(values["input_size"]))
    inputs = resized(images, (size[0], size[1]))
    if precision == "float16":
        converted = to_half(proto)
    else:
        converted, method = best_int8(proto, resized(calibration or [], (size[0], size[1])), inputs)
        logger.info("int8 calibrated by %s", method)
    onnx.helper.set_model_props(converted, values | {"precision": precision})
    onnx.checker.check_model(converted)
    figures = _compare(proto, converted, values, inputs)
    require_agreement(figures, TOLERANCES[precision], len(images))
    with written_whole(out) as file:
        onnx.save(converted, str(file))
    return figures


def _read(source: Path) -> tuple[onnx.ModelProto, dict[str, str]]:
    try:
        proto = onnx.load(str(source))
    except DecodeError as error:
        raise ExportError(f"{source} is no ONNX file: {error}") from error
    values = {prop.key: prop.value for prop in proto.metadata_props}
    if "input_size" not in values or "class_names" not in values:
        raise ExportError(f"{source} is no deployment model, its metadata lacks input_size or class_names")
    found = values.get("precision", "float32")
    if found != "float32":
        raise ExportError(
            f"{source} is {found} already; expected a float32 file, which has what the others are made of"
        )
    return proto, values


def _compare(
    expected: onnx.ModelProto, came: onnx.ModelProto, values: dict[str, str], inputs: list[np.ndarray]
) -> dict[str, float]:
    """The figures of two files with the same metadata, on images at the input size."""
    sessions = [
        onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        for proto in (expected, came)
    ]
    equal = owners_equal = pixels = difference = 0
    for image in inputs:
        before, after = (_masks(session, values, image) for session in sessions)
        pixels += before[0].size
        equal += int((before[0] == after[0]).sum())
        difference = max(difference, int(np.abs(before[1].astype(int) - after[1].astype(int)).max()))
        if len(before) > 2:
            owners_equal += int((before[2] == after[2]).sum())
    figures: dict[str, float] = {"label_agreement": equal / pixels, "confidence_difference": difference}
    if "superpixel_grid" in values:
        figures["superpixel_agreement"] = owners_equal / pixels
    return figures


def _masks(session: onnxruntime.InferenceSession, values: dict[str, str], image: np.ndarray) -> list[np.ndarray]:
    """Labels, confidence and, where there are any, superpixels [H, W] of one image."""
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"image": image[None]}), strict=True))
    if values.get("form") != "association":
        return [outputs[name][0] for name in ("labels", "confidence", "superpixels") if name in outputs]
    size, grid, features = (json.loads(values[key]) for key in ("input_size", "superpixel_grid", "feature_cell"))
    cell = json.loads(values["cell"]) if "cell" in values else [size[0] // grid[0], size[1] // grid[1]]
    geometry = PaintingGeometry(tuple(size), tuple(grid), tuple(cell), tuple(features))
    association, class_logits = (
        torch.from_numpy(outputs[name].astype(np.float32)) for name in ("association", "class_logits")
    )
    return [output[0].numpy() for output in paint_association(association, class_logits, geometry)]
