"""Pictures of a source segmented one after the other and shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from time import monotonic, perf_counter

import numpy as np

from seg_perception.cloud import CloudError, DepthProjector
from seg_perception.segmenter import Segmenter
from seg_perception.view.camera_view import CameraView
from seg_perception.view.picture import Depth, Picture, PictureSource
from seg_perception.view.recording import ViewRecording

TELL_EVERY_S = 5.0  # that pictures were dropped


@dataclass
class Shown:
    """What came of a run.

    Attributes:
        shown, dropped: pictures.
        segment_ms: of the last pictures shown.
    """

    shown: int = 0
    dropped: int = 0
    segment_ms: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def summary(self) -> str:
        """One line."""
        median = f", {np.median(self.segment_ms):.1f} ms an image (median)" if self.segment_ms else ""
        dropped = f", {self.dropped} dropped or damaged" if self.dropped else ""
        return f"shown       {self.shown} images{dropped}{median}"


def show_pictures(
    source: PictureSource, segmenter: Segmenter, recording: ViewRecording, counts: Shown, max_frames: int = 0
) -> None:
    """Until the source ends.

    Args:
        source: of the pictures.
        segmenter: open.
        recording: takes what is seen.
        counts: kept while it runs, so that it is known too where something ends the run.
        max_frames: to end after so many; 0: all.
    """
    info = segmenter.info
    camera = recording.camera()
    camera.classes(info.class_names, info.palette)
    projector = DepthProjector()
    told, told_s = 0, monotonic()
    stream: Iterator[Picture] = iter(source)
    with closing(stream):  # type: ignore[type-var]  # every source's iterator is a generator
        for picture in stream:
            result = segmenter.segment(picture.rgb)
            begin_s = perf_counter()
            recording.at(picture.stamp_ns, counts.shown)
            camera.image(picture.rgb)
            camera.labels(result.labels)
            if result.superpixels is not None:
                camera.superpixels(result.superpixels)
            if result.confidence is not None:
                camera.confidence(result.confidence)
            if picture.depth is not None:
                _show_points(recording, camera, projector, picture.depth, picture.rgb, result.labels, counts)
            counts.shown += 1
            counts.dropped = max(counts.dropped, source.dropped)
            counts.segment_ms.append(result.total_ms)
            camera.latencies({**result.timings_ms, "total": result.total_ms, "show": 1e3 * (perf_counter() - begin_s)})
            camera.counts({"shown": counts.shown, "dropped": counts.dropped})
            if counts.dropped > told and monotonic() - told_s >= TELL_EVERY_S:
                recording.tell(
                    f"{counts.dropped - told} images dropped or damaged: they come faster than they can be segmented, "
                    f"{result.total_ms:.0f} ms each"
                )
                told, told_s = counts.dropped, monotonic()
            if counts.shown == max_frames:
                break
    counts.dropped = source.dropped


def _show_points(
    recording: ViewRecording,
    camera: CameraView,
    projector: DepthProjector,
    depth: Depth,
    rgb: np.ndarray,
    labels: np.ndarray,
    counts: Shown,
) -> None:
    try:
        points = projector.points(depth.metric, depth.intrinsics, rgb, labels)
    except CloudError as error:
        if not counts.shown:
            recording.tell(f"no points: {error}")
        return
    xyz = np.stack([points["x"], points["y"], points["z"]], axis=1)  # (N, 3)
    camera.points(xyz, points["label"])
