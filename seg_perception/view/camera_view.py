"""One camera's place in a recording: its pictures, points and measurements as entities of Rerun, and how they are laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from seg_perception.model.model_file import UNLABELLED

MOST_POINTS = 50_000  # of a frame; more are thinned out evenly

IMAGE, LABELS, SUPERPIXELS, CONFIDENCE = "camera/image", "camera/labels", "camera/superpixels", "camera/confidence"
POINTS, LATENCY, COUNTS = "points", "latency", "counts"


class CameraView:
    """Logs what is seen of one camera, below its name where it has one. Times are the recording's.

    Args:
        rr: the module of Rerun.
        recording: its stream.
        name: of the camera; empty: the only one.
        jpeg_quality: of the images, 1..100; 0: they are kept as they are.
        points: whether there will be points.
    """

    def __init__(self, rr: Any, recording: Any, name: str, jpeg_quality: int, points: bool) -> None:
        self.name = name
        self._rr, self._recording = rr, recording
        self._jpeg_quality, self._with_points = jpeg_quality, points

    def classes(self, names: Sequence[str], palette: np.ndarray) -> None:
        """Names and colours of the labels' ids.

        Args:
            names: K names.
            palette: uint8 [K, 3], RGB.
        """
        rr = self._rr
        known = [
            rr.AnnotationInfo(id=index, label=name, color=tuple(int(c) for c in colour))
            for index, (name, colour) in enumerate(zip(names, palette, strict=True))
        ]
        context = rr.AnnotationContext(
            [*known, rr.AnnotationInfo(id=UNLABELLED, label="not labelled", color=(0, 0, 0))]
        )
        if self._with_points:
            self._recording.log(self._at(POINTS), rr.ViewCoordinates.RDF, static=True)
        for entity in (LABELS, POINTS) if self._with_points else (LABELS,):
            self._recording.log(self._at(entity), context, static=True)

    def image(self, rgb: np.ndarray) -> None:
        """The camera's image, uint8 [H, W, 3]."""
        if not self._jpeg_quality:
            self._recording.log(self._at(IMAGE), self._rr.Image(rgb))
            return
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self._jpeg_quality])[1]
        self._recording.log(self._at(IMAGE), self._rr.EncodedImage(contents=jpeg.tobytes(), media_type="image/jpeg"))

    def labels(self, labels: np.ndarray) -> None:
        """Class ids, uint8 [H, W]."""
        self._recording.log(self._at(LABELS), self._rr.SegmentationImage(labels))

    def superpixels(self, superpixels: np.ndarray) -> None:
        """Ids of the superpixels, uint16 [H, W]; the viewer gives each a colour of its own."""
        self._recording.log(self._at(SUPERPIXELS), self._rr.SegmentationImage(superpixels))

    def confidence(self, confidence: np.ndarray) -> None:
        """Probability of the class x 255, uint8 [H, W]."""
        self._recording.log(self._at(CONFIDENCE), self._rr.Image(confidence, "L"))

    def points(self, xyz: np.ndarray, labels: np.ndarray) -> None:
        """Points in the camera's frame, float32 [N, 3] in metres, with their classes, uint8 [N]."""
        step = max(1, -(-len(xyz) // MOST_POINTS))
        self._recording.log(
            self._at(POINTS), self._rr.Points3D(xyz[::step], class_ids=labels[::step].astype(np.uint16))
        )

    def latencies(self, stages_ms: Mapping[str, float]) -> None:
        """Milliseconds of each stage."""
        for stage, value in stages_ms.items():
            self._recording.log(self._at(f"{LATENCY}/{stage}_ms"), self._rr.Scalars(value))

    def counts(self, counts: Mapping[str, int]) -> None:
        """How many pictures were shown and how many were not."""
        for name, count in counts.items():
            self._recording.log(self._at(f"{COUNTS}/{name}"), self._rr.Scalars(count))

    def labels_view(self, title: str = "labels") -> Any:
        """The labels over the image."""
        return self._over_image(LABELS, title)

    def layout(self, log: Any) -> Any:
        """Pictures above; below, what is measured and the view `log`."""
        import rerun.blueprint as rrb

        views: list[Any] = [
            rrb.Spatial2DView(name="camera", contents=[self._at(IMAGE)]),
            self.labels_view(),
            self._over_image(SUPERPIXELS, "superpixels"),
            rrb.Spatial2DView(name="confidence", contents=[self._at(CONFIDENCE)]),
        ]
        if self._with_points:
            views.append(rrb.Spatial3DView(name="points", origin=self._at(POINTS)))
        pictures = rrb.Grid(*views, grid_columns=3 if self._with_points else 2)
        measured = rrb.Horizontal(
            rrb.TimeSeriesView(name="latency, ms", origin=self._at(LATENCY)),
            rrb.TimeSeriesView(name="pictures", origin=self._at(COUNTS)),
            log,
        )
        return rrb.Vertical(pictures, measured, row_shares=[3, 1], name=self.name or None)

    def _over_image(self, entity: str, title: str) -> Any:
        import rerun.blueprint as rrb

        overrides: Any = {self._at(entity): self._rr.SegmentationImage.from_fields(opacity=0.6)}
        return rrb.Spatial2DView(name=title, contents=[self._at(IMAGE), self._at(entity)], overrides=overrides)

    def _at(self, entity: str) -> str:
        return f"{self.name}/{entity}" if self.name else entity
