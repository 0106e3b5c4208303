"""`seg_perception evaluate-folder`: scores a model on a folder of images and masks, through the engine that a robot runs.

The folder is the one that `seg_models` trains on (docs/data.md): classes.yaml, images/SPLIT and labels/SPLIT. Beside the report
of a recording it writes figures.json, with the names that `python -m seg_models.evaluate --json` gives the same figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from seg_perception.bag.evaluation import Evaluation
from seg_perception.bag.frames import prefetch
from seg_perception.bag.metrics import LabelIdError
from seg_perception.bag.report import write_report
from seg_perception.bag.result import EvaluationResult
from seg_perception.engines.select import ENGINE_KINDS, PRECISION_CHOICES
from seg_perception.images import ImageError, decode_compressed, decode_compressed_label
from seg_perception.model.model_file import UNLABELLED
from seg_perception.plain_yaml import PlainYamlError, read_plain_yaml
from seg_perception.process.environment import describe_environment
from seg_perception.progress import Progress
from seg_perception.segmenter import Segmenter

FIGURES_NAME = "figures.json"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
CALIBRATION_BINS = 15
_LARGEST_CLASSES_FILE = 1_000_000  # bytes
_AHEAD = 4  # images that are decoded while one is segmented


class FolderError(ValueError):
    """A folder that cannot be scored; one line says what came and what was expected."""


@dataclass(frozen=True)
class LabelledImage:
    """An image with its mask: uint8 [H, W, 3] RGB, uint8 [H, W] with 255 for pixels without a label."""

    name: str
    rgb: np.ndarray
    labels: np.ndarray
    decode_ms: float


class LabelledFolder:
    """Images and index masks of one split.

    Args:
        root: the folder.
        split: such as "val".

    Raises:
        FolderError: no such folder, split or classes.yaml, another layout, no images, or an image without its mask.
    """

    def __init__(self, root: Path, split: str) -> None:
        path = root / "classes.yaml"
        try:
            content = read_plain_yaml(path, _LARGEST_CLASSES_FILE)
            classes = sorted(content["classes"], key=lambda entry: entry["id"])
            self.names = tuple(str(entry["name"]) for entry in classes)
            self._unlabelled = int(content.get("ignore_index", UNLABELLED))
            ids = [entry["id"] for entry in classes]
        except PlainYamlError as error:
            raise FolderError(f"{path} {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FolderError(f"{path} has no list `classes` of id, name and color ({error})") from error
        if ids != list(range(len(ids))) or content.get("masks", "index") != "index" or "images" in content:
            raise FolderError(
                f"{path}: expected ids from 0 on without gaps, index masks, and images/SPLIT and labels/SPLIT; "
                "python -m seg_models.evaluate --onnx reads the other layouts"
            )
        folder = root / "images" / split
        if not folder.is_dir():
            raise FolderError(f"no folder {folder}; expected images/SPLIT and labels/SPLIT in {root}")
        self.images = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not self.images:
            raise FolderError(f"no image in {folder}; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        self._masks = [root / "labels" / split / f"{image.stem}.png" for image in self.images]
        missing = [mask for mask in self._masks if not mask.is_file()]
        if missing:
            raise FolderError(
                f"{len(missing)} of {len(self.images)} images have no mask; the first is missing at {missing[0]}"
            )

    def __iter__(self) -> Iterator[LabelledImage]:
        """The images, in the order of their names. Raises FolderError for one that cannot be used."""
        for image, mask in zip(self.images, self._masks, strict=True):
            start = perf_counter()
            try:
                # As seg_models reads it: masks are drawn over the picture as its EXIF data turns it.
                rgb = decode_compressed(image.read_bytes(), image.suffix[1:], turned=True)
                labels = decode_compressed_label(mask.read_bytes())
            except (ImageError, OSError) as error:
                raise FolderError(f"{image} or its mask: {error}") from error
            if labels.shape != rgb.shape[:2]:
                raise FolderError(
                    f"{mask} is {labels.shape[1]}x{labels.shape[0]}, its image {rgb.shape[1]}x{rgb.shape[0]}; expected one size"
                )
            if self._unlabelled != UNLABELLED:
                labels = np.where(labels == self._unlabelled, np.uint8(UNLABELLED), labels)
            yield LabelledImage(image.name, rgb, labels, 1e3 * (perf_counter() - start))


def evaluate_folder(
    root: Path, split: str, model: Path, engine: str = "auto", threads: int = 0, precision: str = "f32"
) -> tuple[EvaluationResult, dict[str, Any]]:
    """Segment and score every image.

    Args:
        root, split: see `LabelledFolder`.
        model: the deployment model.
        engine, threads, precision: see `Segmenter`.

    Returns:
        the result of `evaluate_bag`, and the figures under the names of `seg_models.evaluate`.

    Raises:
        FolderError: the folder cannot be scored, or has other classes than the model.
        ModelFileError, EngineError: the model cannot be used.
    """
    folder = LabelledFolder(root, split)
    with Segmenter(model, engine, threads, precision) as segmenter:
        if folder.names != segmenter.info.class_names:
            raise FolderError(
                f"{root} has the classes {', '.join(folder.names)}, the model {', '.join(segmenter.info.class_names)}; "
                "they must be the same, in this order"
            )
        evaluation = Evaluation(segmenter.info, "from the file to the masks: decode, resize, infer, paint")
        levels = np.zeros((256, 2), np.int64)
        segmenter.warm_up()
        start = perf_counter()
        with Progress("evaluate-folder", len(folder.images), "image", True) as job:
            for number, image in enumerate(prefetch(iter(folder), _AHEAD)):
                found = segmenter.segment(image.rgb)
                found.timings_ms = {"decode": image.decode_ms, **found.timings_ms}
                try:
                    evaluation.add(
                        image.rgb, found, image.labels, latency_ms=found.total_ms, stamp_ns=number * 1_000_000_000
                    )
                except LabelIdError as error:
                    raise FolderError(f"{root}, mask of {image.name}: {error}") from error
                if found.confidence is not None:
                    levels += confidence_counts(found.labels, found.confidence, image.labels)
                job.step()
        result = evaluation.result(
            engine=segmenter.engine_name,
            engine_description=segmenter.engine_description,
            frames_in=len(folder.images),
            source={"folder": str(root), "split": split, "time in plots": "one image a second, in the order of names"},
            wall_s=perf_counter() - start,
            environment=describe_environment(),
        )
    figures = {
        "miou": result.miou,
        "pixel_accuracy": result.pixel_accuracy,
        "iou": result.iou,
        "images": result.frames_out,
        "model": str(model),
        "data": str(root),
        "split": split,
        "engine": result.engine_description,
        "confusion": None if result.confusion is None else result.confusion.tolist(),
        "calibration": calibration(levels),
    }
    return result, figures


def confidence_counts(labels: np.ndarray, confidence: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Labelled pixels of one image by confidence, wrong and right ones: uint8 [H, W] thrice -> int64 [256, 2]."""
    known = truth != UNLABELLED
    pairs = 2 * confidence[known].astype(np.int64) + (labels == truth)[known]
    return np.bincount(pairs, minlength=512).reshape(256, 2)


def calibration(levels: np.ndarray) -> dict[str, Any]:
    """Expected calibration error (Guo et al., 2017) of int64 [256, 2] as `confidence_counts` gives them, in bins that hold their
    upper edge; None where no pixel has a label."""
    pixels, right = levels.sum(axis=1), levels[:, 1]
    value = np.arange(256)
    bins = np.maximum(np.ceil(value * CALIBRATION_BINS / 255 - 1e-9).astype(int) - 1, 0)
    total = int(pixels.sum())
    if not total:
        return dict.fromkeys(("ece", "mean_confidence", "accuracy"))
    gaps = np.bincount(bins, pixels * value / 255 - right, CALIBRATION_BINS)
    return {
        "ece": float(np.abs(gaps).sum() / total),
        "mean_confidence": float((pixels * value).sum() / 255 / total),
        "accuracy": float(right.sum() / total),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "folder", type=Path, help="classes.yaml, images/SPLIT/ and labels/SPLIT/, as seg_models trains on"
    )
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--model", type=Path, required=True, help="the deployment model (.onnx)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the reports; it is made")
    parser.add_argument("--engine", choices=ENGINE_KINDS, default="auto", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0: its own choice")
    parser.add_argument(
        "--precision",
        choices=PRECISION_CHOICES,
        default="f32",
        help="fast: shorter floats; auto: what the node does by default (default: %(default)s, which compares between machines)",
    )


def run(options: argparse.Namespace) -> int:
    """Score, write, and say what came out."""
    if options.threads < 0:
        raise ValueError("--threads must be 0 or more")
    options.out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written shows now, not after the work
    result, figures = evaluate_folder(
        options.folder, options.split, options.model, options.engine, options.threads, options.precision
    )
    _, page = write_report(options.out, result)
    path = options.out / FIGURES_NAME
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(path)
    print("\n".join(result.summary()))
    error = figures["calibration"]["ece"]
    print(f"calibration {'none' if error is None else f'ECE {error:.4f}'}")
    print(f"report      {page}, {path}")
    return 0
