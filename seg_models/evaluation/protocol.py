"""How an image becomes labels: as a robot does it, or by the papers' test protocols."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from seg_models.architectures.regproxy.model import RegProxy
from seg_models.architectures.segmenter import Segmenter
from seg_models.evaluation.inference import (
    Windows,
    multi_scale,
    regproxy_windows,
    rescaled,
    segmenter_windows,
    segvit_windows,
)
from seg_models.messages import one_line
from seg_models.ops.painting import PaintingGeometry, paint_association
from seg_models.segmentation_model import SegmentationModel

# uint8 RGB (H, W, 3) -> uint8 labels (h, w), at any size
Predict = Callable[[np.ndarray], np.ndarray]
LARGEST_SIDE = 16_384  # pixels
LARGEST_SCALE = 16
MODES = ("resize", "whole", "slide")


class ProtocolError(ValueError):
    """An evaluation that cannot be made as asked."""


@dataclass(frozen=True)
class Protocol:
    """How an image becomes labels.

    Attributes:
        mode: "resize" to the network's input, "whole" at its own size, or "slide" windows over it.
        window, stride: of "slide", in pixels.
        small_inputs: of "slide", see `inference.Windows`.
        short_side: pixels that the image's shorter side is resized to first; 0 leaves it.
        longest_ratio: the longer side is then at most this multiple of it.
        scales: sizes to average over, factors of the short side.
        flip: also average over the mirrored images.
        min_short_side: what no scale makes the shorter side smaller than (see `inference.rescaled`); 0 for none.
    """

    mode: str = "resize"
    window: int = 0
    stride: int = 0
    small_inputs: str = "keep"
    short_side: int = 0
    longest_ratio: float = 4.0
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    min_short_side: int = 0


def squeezed_predictor(model: SegmentationModel) -> Predict:
    """Labels of the image squeezed into the network's input, as a robot does."""
    mean = torch.tensor(model.normalization["mean"]).reshape(1, 3, 1, 1)
    scale = 1.0 / torch.tensor(model.normalization["std"]).reshape(1, 3, 1, 1)  # a factor, as in the deployment model

    def predict(image: np.ndarray) -> np.ndarray:
        squeezed = cv2.resize(image, model.image_size[::-1], interpolation=cv2.INTER_LINEAR)
        batch = torch.from_numpy(squeezed).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
        with torch.inference_mode():
            return model.decide((batch - mean) * scale).labels[0].to(torch.uint8).numpy()

    return predict


def protocol_predictor(model: SegmentationModel, protocol: Protocol) -> Predict:
    """Labels at the image's size, as the papers' test scripts make them.

    Raises:
        ProtocolError: an unknown mode, or one that a number does not fit.
    """
    if protocol.mode not in MODES:
        raise ProtocolError(f"mode is {protocol.mode!r}; expected one of {', '.join(MODES)}")
    if protocol.mode == "resize":
        if protocol.short_side or protocol.flip or protocol.scales != (1.0,) or protocol.min_short_side:
            raise ProtocolError("short sides, scales and flip are of the modes whole and slide; mode resize has none")
        return squeezed_predictor(model)
    if not protocol.scales or not all(0 < scale <= LARGEST_SCALE for scale in protocol.scales):
        raise ProtocolError(f"scales are {protocol.scales}; expected positive numbers up to {LARGEST_SCALE}")
    if not 0 <= protocol.min_short_side <= LARGEST_SIDE:
        raise ProtocolError(f"the smallest short side is {protocol.min_short_side}; expected pixels, such as 480")
    if not 0 <= protocol.short_side <= LARGEST_SIDE:
        raise ProtocolError(f"the short side is {protocol.short_side}; expected pixels, such as 512")
    if not 1 <= protocol.longest_ratio <= LARGEST_SCALE:
        raise ProtocolError(
            f"the longest ratio is {protocol.longest_ratio:g}; expected 1 to {LARGEST_SCALE}, such as 4"
        )
    windows = None
    if protocol.mode == "slide":
        windows = Windows(protocol.window, protocol.stride, protocol.small_inputs)

    def predict(image: np.ndarray) -> np.ndarray:
        size = (image.shape[0], image.shape[1])
        short = protocol.short_side or min(size)
        ratio = protocol.longest_ratio if protocol.short_side else max(size) / min(size)
        images = rescaled(image, model.normalization, short, protocol.scales, ratio, protocol.min_short_side)
        probabilities = multi_scale(model, images, size, windows, protocol.flip)
        return probabilities[0].argmax(0).to(torch.uint8).numpy()

    return predict


def default_windows(
    model: SegmentationModel, window: int | None, stride: int | None, small_inputs: str | None
) -> tuple[int, int, str]:
    """Window, stride and treatment of smaller images: as given, else the network's input and the released way.

    The stride is then the window, but 32 less for Segmenter. SegViT's differ by data set: see `inference.py`.

    Raises:
        ProtocolError: no window is given, and the network's input is no square that could be one.
        ValueError: a stride that does not fit the window.
    """
    if window is None:
        if model.image_size[0] != model.image_size[1]:
            raise ProtocolError(f"the network's input is {model.image_size}, no square; give the window's side")
        window = model.image_size[0]
    if isinstance(model, Segmenter):
        windows = segmenter_windows(window, stride)
    elif isinstance(model, RegProxy):
        windows = regproxy_windows(window, stride)
    else:
        windows = segvit_windows(window, window if stride is None else stride)
    return windows.size, windows.stride, small_inputs or windows.small_inputs


def onnx_predictor(path: Path) -> tuple[Predict, int]:
    """Labels of the squeezed image by ONNX Runtime, and the file's number of classes.

    A file of the form `association` is painted at the image's size, as on a robot.

    Raises:
        ProtocolError: no such file, a broken one, or one without the contract's metadata.
    """
    import onnxruntime

    if not path.is_file():
        raise ProtocolError(f"no model at {path}")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a type of its own for each way in which a file can be broken
        raise ProtocolError(f"{path} is no model that ONNX Runtime loads: {one_line(error, 300)}") from error
    properties = session.get_modelmeta().custom_metadata_map
    if not {"input_size", "class_names"} <= properties.keys():
        raise ProtocolError(
            f"{path} has no input_size and class_names in its metadata; expected a file of seg_models.export"
        )
    try:
        height, width = json.loads(properties["input_size"])
        classes = len(json.loads(properties["class_names"]))
        if not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in (height, width)):
            raise ValueError("sides of the input")
        geometry = painting_geometry(properties) if properties.get("form") == "association" else None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProtocolError(f"{path} has damaged metadata, {one_line(error, 200)}; export it again") from error

    def predict(image: np.ndarray) -> np.ndarray:
        batch = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)[None]
        if geometry is None:
            return session.run(["labels"], {"image": batch})[0][0]
        association, class_logits = session.run(["association", "class_logits"], {"image": batch})
        size = (image.shape[0], image.shape[1])
        scores = torch.from_numpy(association), torch.from_numpy(class_logits)
        return paint_association(scores[0], scores[1], geometry, size).labels[0].numpy()

    return predict, classes


def painting_geometry(properties: dict[str, str]) -> PaintingGeometry:
    """The geometry in a file's metadata. Raises ValueError, TypeError or KeyError for none."""
    sides = {key: json.loads(properties[key]) for key in ("input_size", "superpixel_grid", "cell", "feature_cell")}
    for key, value in sides.items():
        if len(value) != 2 or not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in value):
            raise ValueError(f"{key} is {value}")
    return PaintingGeometry(*(tuple(value) for value in sides.values()))
