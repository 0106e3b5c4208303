"""The masks of one frame, made of its segmentation and published."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import cv2
import numpy as np

from seg_perception.body_mask import BodyMask
from seg_perception.cdr import Header
from seg_perception.classes import ClassMap
from seg_perception.labelled_points import MaskedImage
from seg_perception.labels import overlay
from seg_perception.model.model_file import UNLABELLED, ModelInfo
from seg_perception.ros.camera_health import CameraHealth
from seg_perception.ros.frame_decoder import DecodedFrame
from seg_perception.ros.outputs import Outputs
from seg_perception.ros.work_in_hand import PUBLISH, WorkInHand
from seg_perception.segmenter import Segmentation
from seg_perception.superpixel_labels import superpixel_labels, voted_superpixel_labels

POINTS = "points"
NEED_LABELS = {"labels", "foreground", "overlay", POINTS}


@dataclass(frozen=True)
class Serving:
    """What a camera's masks are made and published with; changes between two frames.

    Attributes:
        info: of the model that serves.
        classes: what becomes of the model's classes.
        outputs: publishers.
    """

    info: ModelInfo
    classes: ClassMap
    outputs: Outputs


class PointSink(Protocol):
    """What makes points of masks."""

    @property
    def wanted(self) -> bool:
        """Whether somebody wants points now."""

    def offer(self, masked: MaskedImage) -> None:
        """Masks of an image, which it may keep."""


class Publication:
    """Makes and publishes the masks that somebody subscribes to.

    Args:
        image: of the camera.
        serving: what they are made with.
        wanted: names of the masks, see `outputs.ENCODINGS`.
        body: pixels that get no label; None: there are none.
        overlay_alpha: weight of the colours in the overlay.
        hand: asked before anything is published whether it still may be.
        points: given the masks; None where nobody wants points.
        health: shown the masks; None where it has seen enough.

    Attributes:
        spent_s: what `publish_labels` has taken.
    """

    def __init__(
        self,
        image: DecodedFrame,
        serving: Serving,
        wanted: set[str],
        body: BodyMask | None,
        overlay_alpha: float,
        hand: WorkInHand,
        points: PointSink | None,
        health: CameraHealth | None,
    ) -> None:
        self._image = image
        self._serving = serving
        self._wanted = wanted
        self._body = body
        self._overlay_alpha = overlay_alpha
        self._hand = hand
        self._points = points
        self._health = health if self.needs_labels else None
        self._labels = np.empty((0, 0), np.uint8)  # the robot's
        self.spent_s = 0.0

    @property
    def header(self) -> Header:
        """Of the image."""
        return self._image.header

    @property
    def image(self) -> DecodedFrame:
        """The camera's."""
        return self._image

    @property
    def needs_labels(self) -> bool:
        """Whether any mask is made of the labels of pixels."""
        return bool(self._wanted & NEED_LABELS) or self._needs_votes

    @property
    def is_by_confidence(self) -> bool:
        """Whether the labels depend on the confidence."""
        return self.needs_labels and self._serving.classes.has_thresholds

    @property
    def needs_confidence(self) -> bool:
        """Whether the confidence of pixels is needed."""
        return (
            "confidence" in self._wanted
            or self.is_by_confidence
            or self._points is not None
            or self._health is not None
        )

    @property
    def needs_superpixels(self) -> bool:
        """Whether the superpixels of pixels are needed."""
        return "superpixels" in self._wanted or self._needs_votes

    @property
    def _needs_votes(self) -> bool:
        """Whether superpixels have the class of most of their pixels, since the model has no scores of its superpixels."""
        return "superpixel_labels" in self._wanted and self._serving.info.geometry is None

    def publish_labels(self, result: Segmentation) -> None:
        """Labels, and what goes out with them."""
        start_s = perf_counter()
        if self.needs_labels:
            self._labels = self._own_labels(result)
            self._publish("labels", self._labels)
        if "foreground" in self._wanted:
            self._publish("foreground", self._serving.classes.foreground_of(self._labels))
        if "superpixel_labels" in self._wanted:
            self._publish("superpixel_labels", self._superpixel_labels(result))
        if result.superpixels is not None:
            self._publish("superpixels", result.superpixels)
        self.spent_s += perf_counter() - start_s

    def publish_rest(self, result: Segmentation) -> None:
        """What can wait until the labels are out."""
        if "confidence" in self._wanted and result.confidence is not None:
            self._publish("confidence", self._outside_body(result.confidence))
        if "overlay" in self._wanted:
            rgb = self._image.rgb
            if _size(rgb) != _size(self._labels):
                rgb = cv2.resize(rgb, self._labels.shape[::-1], interpolation=cv2.INTER_AREA)
            self._publish("overlay", overlay(rgb, self._labels, self._serving.classes.palette, self._overlay_alpha))
        if self._points is not None and result.confidence is not None:
            self._hand.at(PUBLISH)
            confidence = self._outside_body(result.confidence)
            # Points are made while the decoder's next image comes into the same memory.
            rgb = self._image.rgb if self._image.bgr else self._image.rgb.copy()
            self._points.offer(MaskedImage(self.header, rgb, self._labels, confidence))
        if self._health is not None:
            self._hand.at(PUBLISH)
            self._health.look(self._image.rgb, self._labels, result.confidence)

    def _own_labels(self, result: Segmentation) -> np.ndarray:
        """The robot's labels of the model's: uint8 [H, W]."""
        labels = self._serving.classes.apply(result.labels, result.confidence)
        return labels if self._body is None else cv2.bitwise_or(labels, self._body.at(_size(labels)))  # 255: no label

    def _superpixel_labels(self, result: Segmentation) -> np.ndarray:
        """The robot's class of each superpixel: uint8 [R, C]."""
        info = self._serving.info
        if info.geometry is None:
            assert result.superpixels is not None
            assert info.superpixel_grid is not None
            return voted_superpixel_labels(result.superpixels, self._labels, info.superpixel_grid)
        assert result.class_logits is not None
        labels = self._serving.classes.apply(*superpixel_labels(result.class_logits))
        if self._body is None:
            return labels
        body = self._body.in_cells(info.geometry.input_size, info.geometry.grid, info.geometry.cell)
        return np.where(body, np.uint8(UNLABELLED), labels)

    def _outside_body(self, mask: np.ndarray) -> np.ndarray:
        """0 on the robot's body."""
        return mask if self._body is None else cv2.subtract(mask, self._body.at(_size(mask)))

    def _publish(self, name: str, pixels: np.ndarray) -> None:
        if name in self._wanted:
            self._hand.at(PUBLISH)
            self._serving.outputs.publish(name, self._image.header, pixels)


def _size(mask: np.ndarray) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]
