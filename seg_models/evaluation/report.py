"""What an evaluation found: for a person, and for a program."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from seg_models.evaluation.protocol import Protocol
from seg_models.training.metrics import Scores


class TargetError(ValueError):
    """A file that could not be written when all is done."""


def check_target(path: Path) -> None:
    """See, before the work, that a file can be written.

    Raises:
        TargetError: its folder is not there or nothing may be written in it, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise TargetError(f"{path.parent} is not a folder; make it first, {path.name} is to be written there")
    if path.is_dir():
        raise TargetError(f"{path} is a folder; expected the name of a file to write")
    if not os.access(path.parent, os.W_OK):
        raise TargetError(f"nothing may be written to {path.parent}; choose another place for {path.name}")


def lines(scores: Scores, names: Sequence[str], data: str, images: int, protocol: Protocol) -> Iterator[str]:
    """IoU of each class, means, and how it was judged."""
    for name, iou in zip(names, scores.iou, strict=True):
        yield f"{name:>12}  " + ("not in the labels" if iou is None else f"{iou:.3f}")
    yield f"mIoU {scores.miou:.4f}  pixel accuracy {scores.pixel_accuracy:.4f}  ({images} images of {data})"
    if protocol.mode == "resize":
        yield "each image squeezed into the network's input"
    else:
        yield ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(protocol).items())


def write_figures(
    path: Path, scores: Scores, names: Sequence[str], data: str, split: str, images: int, protocol: Protocol
) -> None:
    """The same as JSON, written beside the target and renamed, so that nobody reads half of it; null where no pixel had a
    label."""
    figures = {
        "miou": None if math.isnan(scores.miou) else scores.miou,
        "pixel_accuracy": None if math.isnan(scores.pixel_accuracy) else scores.pixel_accuracy,
        "iou": dict(zip(names, scores.iou, strict=True)),
        "images": images,
        "data": data,
        "split": split,
        "protocol": dataclasses.asdict(protocol),
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
