"""Score a model on a folder data set: `python -m seg_models.evaluate --checkpoint last.ckpt --data data/rooms`.

As a robot sees (the default): the image is squeezed into the network's input, and labels are scored at the size of each
mask. As the papers do: `--mode whole` or `slide`, with `--short-side`, `--scales` and `--flip` (see `inference.py`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from seg_models.architectures.regproxy.model import RegProxy
from seg_models.architectures.segmenter import Segmenter
from seg_models.data.folder import FolderDataset
from seg_models.evaluation.inference import (
    SMALL_INPUTS,
    Windows,
    multi_scale,
    regproxy_windows,
    rescaled,
    segmenter_windows,
    segvit_windows,
)
from seg_models.export.graph import DeploymentModel, ExportError
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.metrics import ConfusionMatrix

# uint8 RGB (H, W, 3) -> uint8 labels (h, w), at any size
Predict = Callable[[np.ndarray], np.ndarray]
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


def deployment_predictor(model: SegmentationModel) -> Predict:
    """Labels of the squeezed image by PyTorch."""
    deployment = DeploymentModel(model).eval()

    def predict(image: np.ndarray) -> np.ndarray:
        batch = cv2.resize(image, model.image_size[::-1], interpolation=cv2.INTER_LINEAR)[None]
        with torch.inference_mode():
            return deployment(torch.from_numpy(batch))[0][0].numpy()

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
        return deployment_predictor(model)
    if not protocol.scales or min(protocol.scales) <= 0:
        raise ProtocolError(f"scales are {protocol.scales}; expected positive numbers")
    if protocol.min_short_side < 0:
        raise ProtocolError(f"the smallest short side is {protocol.min_short_side}; expected pixels, such as 480")
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

    Raises:
        ExportError: no such file, or one without the contract's metadata.
    """
    import onnxruntime

    if not path.is_file():
        raise ExportError(f"no model at {path}")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    if not {"input_size", "class_names"} <= properties.keys():
        raise ExportError(
            f"{path} has no input_size and class_names in its metadata; expected a file of seg_models.export"
        )
    height, width = json.loads(properties["input_size"])

    def predict(image: np.ndarray) -> np.ndarray:
        batch = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)[None]
        return session.run(["labels"], {"image": batch})[0][0]

    return predict, len(json.loads(properties["class_names"]))


def evaluate(predict: Predict, data: FolderDataset, show_progress: bool = True) -> ConfusionMatrix:
    """Score every image of a data set at the size of its mask (labels of another size are resized to the nearest)."""
    confusion = ConfusionMatrix(len(data.table.names))
    for index in tqdm(range(len(data)), desc="evaluate", unit="image", disable=not show_progress):
        image, labels = data.read(index)
        predicted = cv2.resize(predict(image), labels.shape[::-1], interpolation=cv2.INTER_NEAREST)
        confusion.add(torch.from_numpy(predicted), torch.from_numpy(labels))
    return confusion


def model_of(args: argparse.Namespace, num_classes: int) -> SegmentationModel:
    """The model of --checkpoint, or of --released with --recipe.

    Raises:
        ValueError: what `load_task`, `released_recipe` and `released_model` raise.
    """
    from seg_models.train import load_task, released_model, released_recipe

    if args.checkpoint:
        return load_task(args.checkpoint).model
    return released_model(released_recipe(args.recipe), args.released, num_classes)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.evaluate", description=(__doc__ or "").splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="checkpoint of seg_models.train")
    source.add_argument("--onnx", type=Path, help="deployment model of seg_models.export")
    source.add_argument("--released", type=Path, help="the authors' released file, with --recipe")
    parser.add_argument("--recipe", type=Path, help="recipe of the model that --released holds")
    parser.add_argument("--data", type=Path, default=Path("data/rooms"), help="folder data set")
    parser.add_argument("--split", default="val", help="the split to score; say in reports which")
    parser.add_argument("--mode", choices=MODES, default="resize", help="default: %(default)s, as the robot does")
    parser.add_argument("--window", type=int, help="side of the windows of slide (default: the network's input)")
    parser.add_argument("--stride", type=int, help="of slide (default: the window; 32 less for Segmenter)")
    parser.add_argument(
        "--small-inputs", choices=SMALL_INPUTS, help="of slide (default: the architecture's released way)"
    )
    parser.add_argument("--short-side", type=int, default=0, help="resize the shorter side to this first, e.g. 512")
    parser.add_argument("--longest-ratio", type=float, default=4.0, help="of long to short side, at most (%(default)s)")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="e.g. 0.5 0.75 1.0 1.25 1.5 1.75")
    parser.add_argument(
        "--min-short-side", type=int, help="no scale makes the shorter side smaller, e.g. 480 (default: no limit)"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args(arguments)
    for option in ("window", "stride", "small_inputs"):
        if getattr(args, option) is not None and args.mode != "slide":
            parser.error(f"--{option.replace('_', '-')} is of --mode slide; the mode is {args.mode}")
    if args.recipe and not args.released:
        parser.error("--recipe is of --released; a checkpoint carries its own")
    protocol = Protocol(
        mode=args.mode,
        short_side=args.short_side,
        longest_ratio=args.longest_ratio,
        scales=tuple(args.scales),
        flip=args.flip,
        min_short_side=args.min_short_side or 0,
    )
    try:
        data = FolderDataset([args.data], args.split)
        if args.onnx:
            if protocol != Protocol(longest_ratio=args.longest_ratio):
                raise ProtocolError(
                    "a deployment model has one input size; the other modes need --checkpoint or --released"
                )
            predict, classes = onnx_predictor(args.onnx)
        else:
            model = model_of(args, len(data.table.names))
            if args.mode == "slide":
                window, stride, small = default_windows(model, args.window, args.stride, args.small_inputs)
                protocol = dataclasses.replace(protocol, window=window, stride=stride, small_inputs=small)
            predict, classes = protocol_predictor(model, protocol), model.num_classes
        if classes != len(data.table.names):
            raise ExportError(
                f"the model has {classes} classes, {args.data} has {len(data.table.names)}; they must match"
            )
        scores = evaluate(predict, data).scores()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, iou in zip(data.table.names, scores.iou, strict=True):
        print(f"{name:>12}  " + ("not in the labels" if iou is None else f"{iou:.3f}"))
    print(
        f"mIoU {scores.miou:.4f}  pixel accuracy {scores.pixel_accuracy:.4f}  ({len(data)} images of {args.data}/{args.split})"
    )
    if args.mode == "resize":
        print("each image squeezed into the network's input")
    else:
        print(", ".join(f"{key} {value}" for key, value in dataclasses.asdict(protocol).items()))
    if args.json:
        figures = {
            "miou": scores.miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "iou": dict(zip(data.table.names, scores.iou, strict=True)),
            "images": len(data),
            "data": str(args.data),
            "split": args.split,
            "protocol": dataclasses.asdict(protocol),
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
