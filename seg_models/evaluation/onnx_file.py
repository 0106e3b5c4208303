"""A deployment file in ONNX Runtime, as a robot uses it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from seg_models.evaluation.measures import Segmented
from seg_models.evaluation.predictors import CPU, painted, squeezed
from seg_models.evaluation.protocol import LARGEST_SIDE, ProtocolError
from seg_models.messages import one_line
from seg_models.ops.painting import PaintingGeometry


@dataclass(frozen=True)
class DeploymentFile:
    """An open file.

    Attributes:
        path: of the file.
        session: ONNX Runtime's.
        size: (H, W) of the network's input.
        names: of the classes.
        grid: (rows, columns) of superpixels, None for a model without.
        geometry: of painting, None for the form `labels`.
    """

    path: Path
    session: Any
    size: tuple[int, int]
    names: tuple[str, ...]
    grid: tuple[int, int] | None
    geometry: PaintingGeometry | None

    def predict(self, image: np.ndarray) -> Segmented:
        """What a robot makes of an image uint8 RGB (H, W, 3): at the image's size in the form `association`, else at the
        network's."""
        batch = squeezed(image, self.size)[None]
        if self.geometry is not None:
            association, class_logits = self.session.run(["association", "class_logits"], {"image": batch})
            scores = torch.from_numpy(association).float(), torch.from_numpy(class_logits).float()
            return painted(*scores, self.geometry, (image.shape[0], image.shape[1]))
        outputs = ["labels", "confidence"] if self.grid is None else ["labels", "confidence", "superpixels"]
        labels, confidence, *owner = (made[0] for made in self.session.run(outputs, {"image": batch}))
        return Segmented(labels, confidence, owner[0].astype(np.uint16) if owner else None, self.grid)


def open_deployment_file(path: Path, device: torch.device = CPU, content: bytes | None = None) -> DeploymentFile:
    """Open a file of `seg_models.export`.

    Args:
        path: of the file.
        device: that computes; a GPU needs ONNX Runtime's CUDA provider.
        content: bytes to open in place of the file's.

    Raises:
        ProtocolError: no such file, a broken one, one without the contract's metadata, or no CUDA provider.
    """
    if content is None and not path.is_file():
        raise ProtocolError(f"no model at {path}")
    try:
        session = onnxruntime.InferenceSession(content or str(path), providers=providers_on(device))
    except ProtocolError:
        raise
    except Exception as error:  # ONNX Runtime has a type of its own for each way in which a file can be broken
        raise ProtocolError(f"{path} is no model that ONNX Runtime loads: {one_line(error, 300)}") from error
    properties = session.get_modelmeta().custom_metadata_map
    if not {"input_size", "class_names"} <= properties.keys():
        raise ProtocolError(
            f"{path} has no input_size and class_names in its metadata; expected a file of seg_models.export"
        )
    try:
        size = sides(properties, "input_size")
        names = tuple(map(str, json.loads(properties["class_names"])))
        paints = properties.get("form") == "association"
        geometry = painting_geometry(properties) if paints else None
        has_superpixels = paints or "superpixels" in [output.name for output in session.get_outputs()]
        grid = sides(properties, "superpixel_grid") if has_superpixels else None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProtocolError(f"{path} has damaged metadata, {one_line(error, 200)}; export it again") from error
    return DeploymentFile(path, session, size, names, grid, geometry)


def providers_on(device: torch.device) -> list[Any]:
    """ONNX Runtime's execution providers for a device.

    Raises:
        ProtocolError: a GPU, and this ONNX Runtime has no CUDA.
    """
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ProtocolError(
            f"ONNX Runtime has no CUDA here, so a file cannot run on {device}; pip install onnxruntime-gpu, or --device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": device.index or 0})]


def sides(properties: dict[str, str], key: str) -> tuple[int, int]:
    """Two sides in a file's metadata. Raises ValueError, TypeError or KeyError for none."""
    value = json.loads(properties[key])
    if len(value) != 2 or not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in value):
        raise ValueError(f"{key} is {value}")
    return value[0], value[1]


def painting_geometry(properties: dict[str, str]) -> PaintingGeometry:
    """The geometry in a file's metadata. Raises ValueError, TypeError or KeyError for none."""
    return PaintingGeometry(
        *(sides(properties, key) for key in ("input_size", "superpixel_grid", "cell", "feature_cell"))
    )
