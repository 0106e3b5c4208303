"""The deployment file: graph and metadata, written whole and checked, or not at all."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from seg_models.data.labels import LabelTable
from seg_models.export.checks import TOLERANCES, compare, require_agreement, resized
from seg_models.export.deployment import DeploymentModel, deployment_model
from seg_models.export.errors import ExportError
from seg_models.export.graph import deployment_graph
from seg_models.export.int8 import best_int8
from seg_models.export.learned_int8 import learned_int8
from seg_models.export.whole_file import written_whole
from seg_models.quantization import ranges
from seg_models.segmentation_model import AssociationModel, SegmentationModel
from seg_onnx.half_precision import to_half

logger = logging.getLogger(__name__)

# What the reader on the robot takes; a test holds the two against each other.
MAX_CLASSES = 255  # 255 itself is kept for "not labelled"
MAX_SUPERPIXELS = 65535  # published as uint16
MAX_NAME = 200  # letters of a class
MAX_SIDE = 16_384  # pixels, cells, features along one side


@dataclass(frozen=True)
class Origin:
    """Where a model comes from; ends up in the file's metadata."""

    name: str
    architecture: str
    training_data: str
    license: str = "Apache-2.0"
    source_commit: str = "unknown"


def export_onnx(
    model: SegmentationModel,
    table: LabelTable,
    origin: Origin,
    out: Path,
    images: list[np.ndarray],
    precision: str = "float32",
    form: str | None = None,
    calibration: list[np.ndarray] | None = None,
    device: torch.device | None = None,
) -> dict[str, float]:
    """Write the deployment model after checking it.

    Args:
        model: any architecture, put into eval mode; its `image_size` becomes the file's input size. The batch stays free.
        table: names and palette of its K classes.
        origin: written into the metadata.
        out: the file; written only if the check passes, and then at once.
        images: RGB uint8 (h, w, 3) of any size, resized here; real ones, on noise an agreement says little.
        precision: "float32", or "float16" for GPUs (see `seg_onnx.half_precision`), half the size and checked less strictly;
            "int8" (see `int8.py`; of a model that was trained for it `learned_int8.py`).
        form: "labels" or "association"; None for `association` where the model has it, and else `labels`.
        calibration: for int8, images like `images` but others: what the ranges of activations are taken from.
        device: that PyTorch's side of the check computes on; None for the model's. The file is made on the CPU and is the same.

    Returns:
        the figures of `compare`.

    Raises:
        ExportError: no images, classes that do not match, an unknown precision, or disagreement.
    """
    if precision not in TOLERANCES:
        raise ExportError(f"precision is {precision!r}; expected one of {', '.join(TOLERANCES)}")
    if not images:
        raise ExportError("no images to check the export with; name a folder of real photos or views with --images")
    if len(table.names) != model.num_classes:
        raise ExportError(
            f"the label table has {len(table.names)} classes, the model {model.num_classes}; they must match"
        )
    if not out.parent.is_dir():
        raise ExportError(f"{out.parent} is not a folder; make it first")
    deployment = deployment_model(model.eval().cpu().deployed(), form)
    values = metadata(deployment, table, origin, precision)
    check_metadata(values)
    proto = deployment_graph(deployment)
    if precision == "float16":
        proto = to_half(proto)
    elif precision == "int8" and (learned := ranges(model)):
        proto = learned_int8(proto, {path: float(each.step().detach()) for path, each in learned.items()})
    elif precision == "int8":
        size = model.image_size
        proto, method = best_int8(proto, resized(calibration or [], size), resized(images, size))
        logger.info("int8 calibrated by %s", method)
    onnx.helper.set_model_props(proto, values)
    onnx.checker.check_model(proto)
    with written_whole(out) as file:
        onnx.save(proto, str(file))
        figures = compare(model, deployment, file, images, device)
        require_agreement(figures, TOLERANCES[precision], len(images))
    return figures


def metadata(deployment: DeploymentModel, table: LabelTable, origin: Origin, precision: str) -> dict[str, str]:
    """The contract's metadata_props."""
    model = deployment.model
    values = {
        "format_version": deployment.format_version,
        "form": deployment.form,
        "name": origin.name,
        "architecture": origin.architecture,
        "class_names": json.dumps(list(table.names)),
        "palette": json.dumps([list(colour) for colour in table.palette]),
        "input_size": json.dumps(list(model.image_size)),
        "normalization": json.dumps(model.normalization),
        "training_data": origin.training_data,
        "license": origin.license,
        "source_commit": origin.source_commit,
        "precision": precision,
    }
    if model.superpixel_grid:
        values["superpixel_grid"] = json.dumps(list(model.superpixel_grid))
    if deployment.form == "association":
        assert isinstance(model, AssociationModel)
        values["feature_cell"] = json.dumps(list(model.feature_cell))
        values["cell"] = json.dumps(list(model.cell))
    return values


def check_metadata(values: dict[str, str]) -> None:
    """Raise ExportError for what the reader on a robot would refuse."""
    names, palette = json.loads(values["class_names"]), json.loads(values["palette"])
    if not 1 <= len(names) <= MAX_CLASSES:
        raise ExportError(f"the label table has {len(names)} classes; a deployment model takes 1 to {MAX_CLASSES}")
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in names) or len(set(names)) != len(names):
        raise ExportError(
            f"the label table has empty, repeated or endless names: {', '.join(map(str, names))[:200]!r}; expected different "
            f"ones of 1 to {MAX_NAME} letters"
        )
    if len(palette) != len(names) or not all(
        len(colour) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in colour) for colour in palette
    ):
        raise ExportError("the label table's palette is not [r, g, b] with values 0 to 255 for every class")
    for key in ("input_size", "superpixel_grid", "cell", "feature_cell"):
        if key in values and not all(0 < side <= MAX_SIDE for side in json.loads(values[key])):
            raise ExportError(f"{key} is {values[key]}; a deployment model takes 1 to {MAX_SIDE} along each side")
    rows, columns = json.loads(values.get("superpixel_grid", "[1, 1]"))
    if rows * columns > MAX_SUPERPIXELS:
        raise ExportError(
            f"a superpixel grid of {rows}x{columns} = {rows * columns} cells; superpixels are published as 16-bit ids, at most "
            f"{MAX_SUPERPIXELS}"
        )
    normalization = json.loads(values["normalization"])
    if not all(math.isfinite(v) for key in ("mean", "std") for v in normalization[key]):
        raise ExportError(f"the normalisation is {values['normalization']}; expected finite numbers")
    for key, value in values.items():
        try:  # JSON hides half of a surrogate pair in an escape
            (value + "".join(names)).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ExportError(f"{key} is {value!r:.80}, which is no text that a file can hold") from error
