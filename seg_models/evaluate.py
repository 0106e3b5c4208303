"""Score a checkpoint or a deployment model on a folder data set: `python -m seg_models.evaluate --checkpoint last.ckpt`.

Predictions are made at the network's size and scored at the size of each mask, as a robot's labels would be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from seg_models.data.folder import FolderDataset
from seg_models.export import DeploymentModel, ExportError
from seg_models.metrics import ConfusionMatrix

# uint8 RGB (1, H, W, 3) at the network's size -> uint8 labels (H, W)
Predict = Callable[[np.ndarray], np.ndarray]


def checkpoint_predictor(path: Path) -> tuple[Predict, tuple[int, int], int]:
    """Labels by PyTorch, the network's size and its number of classes."""
    from seg_models.train import load_task

    task = load_task(path)
    deployment = DeploymentModel(task.model).eval()

    def predict(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return deployment(torch.from_numpy(batch))[0][0].numpy()

    return predict, task.model.image_size, task.model.num_classes


def onnx_predictor(path: Path) -> tuple[Predict, tuple[int, int], int]:
    """Labels by ONNX Runtime, the file's input size and its number of classes.

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

    def predict(batch: np.ndarray) -> np.ndarray:
        return session.run(["labels"], {"image": batch})[0][0]

    return predict, (height, width), len(json.loads(properties["class_names"]))


def evaluate(
    predict: Predict, size: tuple[int, int], data: FolderDataset, show_progress: bool = True
) -> ConfusionMatrix:
    """Score every image of a data set at the size of its mask (nearest)."""
    confusion = ConfusionMatrix(len(data.table.names))
    for index in tqdm(range(len(data)), desc="evaluate", unit="image", disable=not show_progress):
        image, labels = data.read(index)
        predicted = predict(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)[None])
        predicted = cv2.resize(predicted, labels.shape[::-1], interpolation=cv2.INTER_NEAREST)
        confusion.add(torch.from_numpy(predicted), torch.from_numpy(labels))
    return confusion


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.evaluate", description=(__doc__ or "").splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="checkpoint of seg_models.train")
    source.add_argument("--onnx", type=Path, help="deployment model of seg_models.export")
    parser.add_argument("--data", type=Path, default=Path("data/rooms"), help="folder data set")
    parser.add_argument("--split", default="val", help="the split to score; say in reports which")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args(arguments)
    try:
        data = FolderDataset([args.data], args.split)
        predict, size, classes = onnx_predictor(args.onnx) if args.onnx else checkpoint_predictor(args.checkpoint)
        if classes != len(data.table.names):
            raise ExportError(
                f"the model has {classes} classes, {args.data} has {len(data.table.names)}; they must match"
            )
        scores = evaluate(predict, size, data).scores()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, iou in zip(data.table.names, scores.iou, strict=True):
        print(f"{name:>12}  " + ("not in the labels" if iou is None else f"{iou:.3f}"))
    print(
        f"mIoU {scores.miou:.4f}  pixel accuracy {scores.pixel_accuracy:.4f}  ({len(data)} images of {args.data}/{args.split})"
    )
    if args.json:
        figures = {
            "miou": scores.miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "iou": dict(zip(data.table.names, scores.iou, strict=True)),
            "images": len(data),
            "split": args.split,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
