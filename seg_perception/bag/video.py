"""An MP4 of a run: camera, labels and superpixels side by side, with the classes' colours named below."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from seg_perception.bag.panels import fitted, superpixel_panel
from seg_perception.labels import colours, overlay
from seg_perception.model.model_file import ModelInfo
from seg_perception.segmenter import Segmentation

logger = logging.getLogger(__name__)

# MPEG-4 Part 2 is what every OpenCV writes, and quickly; the wheels from PyPI have no H.264 encoder, and their VP9
# takes 100 ms a frame. H.264 second, for builds that have only that.
CODECS = ("mp4v", "avc1")
PANEL_WIDTH = 480
CAPTION_HEIGHT = 28
LEGEND_ROW_HEIGHT = 26
BACKGROUND = (22, 24, 29)
TEXT = (235, 235, 235)
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.5


class SegmentationVideo:
    """Writes frames to an MP4 file. The first frame fixes the panels' size; later ones of another size are fitted in.

    Args:
        path: of the .mp4; its folder is made.
        info: the model, for names and colours.
        frames_per_second: of the video, held within 1 to 60.

    Attributes:
        frames: written so far.
    """

    def __init__(self, path: Path, info: ModelInfo, frames_per_second: float) -> None:
        self.path = path
        self.frames = 0
        self._info = info
        self._rate = min(max(frames_per_second, 1.0), 60.0)
        self._writer: cv2.VideoWriter | None = None
        self._problem = ""
        self._panel_size = (0, 0)  # (width, height)
        self._legend = np.zeros((0, 0, 3), np.uint8)

    def add(self, rgb: np.ndarray, segmentation: Segmentation) -> None:
        """Write one frame.

        Args:
            rgb: uint8 [H, W, 3].
            segmentation: of the same size.
        """
        if self._problem:
            return
        if self._writer is None and not self._open(rgb):
            return
        assert self._writer is not None
        canvas = self._compose(rgb, segmentation)
        self._writer.write(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self) -> str:
        """Finish the file and read it back. Returns one line on what is wrong with it; empty for a good video."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._check()
        elif not self._problem:
            self._problem = f"video {self.path}: no frame came"
        if self._problem:
            logger.warning("%s", self._problem)
        return self._problem

    def _open(self, rgb: np.ndarray) -> bool:
        height, width = rgb.shape[:2]
        panel_height = max(2, round(PANEL_WIDTH * height / width))
        self._panel_size = (PANEL_WIDTH, panel_height)
        panels = 3 if self._info.has_superpixels else 2
        canvas_width = panels * PANEL_WIDTH
        self._legend = _legend(self._info, canvas_width)
        canvas_height = CAPTION_HEIGHT + panel_height + len(self._legend)
        canvas_height += canvas_height % 2  # codecs take even sizes only
        self._canvas = np.full((canvas_height, canvas_width, 3), BACKGROUND, np.uint8)
        self._canvas[CAPTION_HEIGHT + panel_height :][: len(self._legend)] = self._legend
        titles = ("camera", f"labels: {self._info.name}", "superpixels")[:panels]
        for number, title in enumerate(titles):
            cv2.putText(self._canvas, title, (number * PANEL_WIDTH + 10, 19), FONT, FONT_SCALE, TEXT, 1, cv2.LINE_AA)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for codec in CODECS:
            fourcc = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(self.path), fourcc, self._rate, (canvas_width, canvas_height))
            if writer.isOpened():
                self._writer = writer
                return True
        self._problem = f"video {self.path}: this OpenCV writes none of the codecs {', '.join(CODECS)}; none is made"
        return False

    def _compose(self, rgb: np.ndarray, segmentation: Segmentation) -> np.ndarray:
        width, height = self._panel_size
        camera = fitted(rgb, self._panel_size)
        labels = fitted(segmentation.labels, self._panel_size, cv2.INTER_NEAREST_EXACT)
        rows = self._canvas[CAPTION_HEIGHT : CAPTION_HEIGHT + height]
        rows[:, :width] = camera
        rows[:, width : 2 * width] = overlay(camera, labels, self._info.palette, 0.6)
        if segmentation.superpixels is not None:
            superpixels = fitted(segmentation.superpixels, self._panel_size, cv2.INTER_NEAREST_EXACT)
            rows[:, 2 * width :] = superpixel_panel(camera, superpixels, colours(labels, self._info.palette))
        return self._canvas

    def _check(self) -> None:
        capture = cv2.VideoCapture(str(self.path))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        readable, _ = capture.read()
        capture.release()
        if not readable or count != self.frames:
            self._problem = (
                f"video {self.path}: wrote {self.frames} frames, {count if readable else 0} can be read back"
            )


def _legend(info: ModelInfo, width: int) -> np.ndarray:
    """Colours with the classes' names in as many rows as it takes: uint8 [h, width, 3]."""
    margin, swatch, gap = 10, 14, 18
    places: list[tuple[int, int]] = []
    left, row = margin, 0
    for name in info.class_names:
        extent = swatch + 6 + cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0]
        if left + extent > width - margin and left > margin:
            left, row = margin, row + 1
        places.append((left, row))
        left += extent + gap
    legend = np.full(((row + 1) * LEGEND_ROW_HEIGHT + 4, width, 3), BACKGROUND, np.uint8)
    for name, colour, (left, row) in zip(info.class_names, info.palette.tolist(), places, strict=True):
        top = row * LEGEND_ROW_HEIGHT + 8
        cv2.rectangle(legend, (left, top), (left + swatch, top + swatch), colour, cv2.FILLED)
        cv2.putText(legend, name, (left + swatch + 6, top + 12), FONT, FONT_SCALE, TEXT, 1, cv2.LINE_AA)
    return legend
