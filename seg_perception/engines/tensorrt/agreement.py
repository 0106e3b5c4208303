"""Whether an engine computes what the model says: its masks beside those of a reference engine, on real images."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np

from seg_perception.engines.base import Engine, MaskRequest
from seg_perception.model.model_file import ModelInfo
from seg_perception.painting import Painter

logger = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 0.99
CONFIDENCE_TOLERANCE = 12  # of 255; what a float16 file may differ by when it is exported


@dataclass(frozen=True)
class Agreement:
    """How far two engines agree.

    Attributes:
        images: how many were compared.
        labels: share of pixels with the same label.
        superpixels: share of pixels with the same superpixel; None for models without them.
        confidence: share of pixels whose confidences differ by at most CONFIDENCE_TOLERANCE.
        confidence_difference: the largest difference, of 255.
        reference: description of the engine that was believed.
    """

    images: int
    labels: float
    superpixels: float | None
    confidence: float
    confidence_difference: int
    reference: str

    @property
    def least(self) -> float:
        """The smallest of the three shares."""
        return min(share for share in (self.labels, self.superpixels, self.confidence) if share is not None)

    @classmethod
    def from_json(cls, kept: Any) -> Agreement | None:
        """What `to_json` gave; None for anything else, as another version of this package may have kept it."""
        names = {field.name for field in fields(cls)}
        return cls(**kept) if isinstance(kept, dict) and set(kept) == names else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        owners = "" if self.superpixels is None else f"superpixels {_percent(self.superpixels)}, "
        return (
            f"labels {_percent(self.labels)}, {owners}confidence {_percent(self.confidence)} (largest difference "
            f"{self.confidence_difference} of 255) equal to {self.reference} on {self.images} images"
        )


def compare_engines(reference: Engine, engine: Engine, images: Iterable[np.ndarray]) -> Agreement:
    """Run both engines, which are open, on the images.

    Args:
        reference: believed; for the same number of images at once as the other.
        engine: under test. A batch is filled with copies of one image.
        images: RGB uint8 [H, W, 3] of any size; they are resized.

    Raises:
        EngineError: one of them failed.
        ValueError: there are no images.
    """
    height, width = reference.info.input_size
    count = pixels = labels = superpixels = confident = largest = 0
    has_superpixels = reference.info.has_superpixels
    for image in images:
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        batch = np.repeat(resized[None], engine.batch_size, axis=0)  # (B, H, W, 3)
        expected = masks({name: array.copy() for name, array in reference.infer(batch).items()}, reference.info)
        came = masks(engine.infer(batch), engine.info)
        difference = np.abs(expected["confidence"].astype(int) - came["confidence"].astype(int))
        count += 1
        pixels += expected["labels"].size
        labels += int((expected["labels"] == came["labels"]).sum())
        confident += int((difference <= CONFIDENCE_TOLERANCE).sum())
        largest = max(largest, int(difference.max()))
        if has_superpixels:
            superpixels += int((expected["superpixels"] == came["superpixels"]).sum())
    if not count:
        raise ValueError("no images to compare the engine on")
    return Agreement(
        images=count,
        labels=labels / pixels,
        superpixels=superpixels / pixels if has_superpixels else None,
        confidence=confident / pixels,
        confidence_difference=largest,
        reference=reference.description,
    )


def masks(outputs: dict[str, np.ndarray], info: ModelInfo) -> dict[str, np.ndarray]:
    """Labels, confidence and superpixels [B, H, W] at network size, from what an engine of this model gives."""
    if info.geometry is None:
        return outputs
    painter = Painter(info.geometry)
    found: dict[str, list[np.ndarray]] = {"labels": [], "confidence": [], "superpixels": []}
    for association, class_logits in zip(outputs["association"], outputs["class_logits"], strict=True):
        painted = painter.paint(association, class_logits, info.input_size)
        assert painted.labels is not None
        assert painted.confidence is not None
        assert painted.superpixels is not None
        found["labels"].append(painted.labels)
        found["confidence"].append(painted.confidence)
        found["superpixels"].append(painted.superpixels)
    return {name: np.stack(arrays) for name, arrays in found.items()}


def batch_agreement(engine: Engine, images: Iterable[np.ndarray], count: int) -> float:
    """Share of pixels with the label that the same engine gives to each image alone when it gets several at once.

    Args:
        engine: open; it paints on its device.
        images: RGB uint8 [H, W, 3] of any size; they are resized, and repeated until there are enough.
        count: at once.

    Raises:
        EngineError: it failed.
        ValueError: there are no images.
    """
    height, width = engine.info.input_size
    resized = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    if not resized:
        raise ValueError("no images to compare the engine on")
    batch = np.stack([resized[i % len(resized)] for i in range(count)])  # (B, H, W, 3)
    request = MaskRequest((height, width), confidence=False, superpixels=False)
    together = engine.infer_painted_batch(batch, [request] * count)
    if together is None:
        return 1.0
    equal = []
    for image, came in zip(batch, together, strict=True):
        alone = engine.infer_painted(image[None], request.size, False, False)
        if alone is not None:
            equal.append(float((alone.labels == came.labels).mean()))  # type: ignore[union-attr]
    return min(equal, default=1.0)


def _percent(share: float) -> str:
    # Never rounded up to the threshold that it missed.
    return f"{np.floor(share * 1e5) / 1e3:g} %"
