"""What `precision: fast` costs in accuracy and brings in time, on labelled images.

    .venv-test/bin/python -m benchmarks.precision models/rooms_spt_lite0.onnx --data data/rooms

Every image of a split goes through two `Segmenter`s in turn, which differ in nothing but the precision. The verdict is the
rule that `precision: auto` stands for: less than 0.3 points of mIoU lost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from seg_perception.bag.metrics import ConfusionMatrix
from seg_perception.engines.openvino import has_native_bfloat16
from seg_perception.model.model_file import UNLABELLED
from seg_perception.segmenter import Segmenter

ALLOWED_LOSS = 0.003  # of mIoU, 0..1
PRECISIONS = ("f32", "fast")


def labelled_images(data: Path, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(RGB uint8 [H, W, 3], class ids uint8 [H, W]) of every image of a folder data set that has labels.

    Raises:
        ValueError: no images, or one without a readable label image of its size.
    """
    paths = sorted((data / "images" / split).iterdir()) if (data / "images" / split).is_dir() else []
    if not paths:
        raise ValueError(
            f"no images in {data / 'images' / split}; expected a data set of images/SPLIT and labels/SPLIT"
        )
    for path in paths:
        label_path = data / "labels" / split / f"{path.stem}.png"
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        labels = cv2.imread(str(label_path), cv2.IMREAD_UNCHANGED)
        if image is None or labels is None or image.shape[:2] != labels.shape:
            raise ValueError(f"{path} and {label_path} are not an image and its labels of the same size")
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), labels


def compare(model: Path, data: Path, split: str, engine: str, threads: int) -> tuple[list[dict[str, object]], float]:
    """A row for each of PRECISIONS, and the share of pixels with the same label."""
    segmenters = [Segmenter(model, engine, threads, precision) for precision in PRECISIONS]
    for segmenter in segmenters:
        segmenter.open()
        segmenter.warm_up()
    classes = len(segmenters[0].info.class_names)
    matrices = [ConfusionMatrix(classes) for _ in segmenters]
    times: list[list[float]] = [[] for _ in segmenters]
    equal = pixels = 0
    for image, labels in labelled_images(data, split):
        results = [segmenter(image, want_superpixels=False) for segmenter in segmenters]
        for result, matrix, elapsed in zip(results, matrices, times, strict=True):
            matrix.add(labels, result.labels)
            elapsed.append(result.timings_ms["infer"])
        labelled = labels != UNLABELLED
        equal += int((results[0].labels == results[1].labels)[labelled].sum())
        pixels += int(labelled.sum())
    rows: list[dict[str, object]] = []
    for segmenter, matrix, elapsed in zip(segmenters, matrices, times, strict=True):
        scores = matrix.scores()
        row = {"engine": segmenter.engine_description, "miou": scores.miou, "accuracy": scores.pixel_accuracy}
        rows.append(row | {"ms": float(np.median(elapsed)), "range": (min(elapsed), max(elapsed))})
        segmenter.close()
    return rows, equal / pixels


def table(rows: list[dict[str, object]], equal: float) -> str:
    """The rows and the verdict as markdown."""
    lines = ["| engine | mIoU % | pixel accuracy % | engine ms, median (range) |", "|---|---|---|---|"]
    for row in rows:
        low, high = row["range"]  # type: ignore[misc]
        figures = f"{100 * row['miou']:.2f} | {100 * row['accuracy']:.2f} | {row['ms']:.1f} ({low:.1f}-{high:.1f})"  # type: ignore[operator]
        lines.append(f"| {row['engine']} | {figures} |")
    loss = float(rows[0]["miou"]) - float(rows[1]["miou"])  # type: ignore[arg-type]
    verdict = "within" if loss < ALLOWED_LOSS else "MORE than"
    lines.append("")
    lines.append(
        f"Equal labels on {100 * equal:.3f} % of the labelled pixels; fast loses {100 * loss:.2f} points of mIoU, {verdict} "
        f"the {100 * ALLOWED_LOSS:.1f} that `precision: auto` may cost."
    )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="deployment model (.onnx)")
    parser.add_argument("--data", type=Path, default=Path("data/rooms"), help="folder data set (default: data/rooms)")
    parser.add_argument("--split", default="val")
    parser.add_argument("--engine", default="openvino", help="openvino (default) or onnxruntime")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    if args.engine == "openvino" and not has_native_bfloat16():
        print("note: this processor has no bfloat16 of its own; fast is f32 here", file=sys.stderr)
    try:
        print(table(*compare(args.model, args.data, args.split, args.engine, args.threads)))
    except (ValueError, RuntimeError) as error:  # files and engines that do not do
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
