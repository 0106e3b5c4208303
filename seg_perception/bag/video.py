"""An MP4 of a run: camera, labels and superpixels side by side, with the classes' colours named below."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_perception.bag.panels import fitted, superpixel_panel
from seg_perception.labels import colours, overlay
from seg_perception.model.model_file import ModelInfo
from seg_perception.segmenter import Segmentation

if TYPE_CHECKING:
    from av.container import OutputContainer

logger = logging.getLogger(__name__)

# VP9: plays in every browser, and its encoder in PyAV's wheel is BSD. A frame of three panels takes 10 ms on one core of an
# x86 processor and 15 kB with these settings; the encoder's slower ones take five times as long for a quarter less.
CODEC = "libvpx-vp9"
CODEC_OPTIONS = {"deadline": "realtime", "cpu-used": "8", "crf": "40", "b:v": "0"}
KEY_FRAME_EVERY_S = 1.0  # so that a scrubber finds its place at once
PANEL_WIDTH = 480
CAPTION_HEIGHT = 28
LEGEND_ROW_HEIGHT = 26
BACKGROUND = (22, 24, 29)
TEXT = (235, 235, 235)
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.5


class SegmentationVideo:
    """Writes frames to an MP4 file. The first frame fixes the panels' size; later ones of another size are fitted in.

    The file is written beside its name and takes it in `close`, when it has been read back: what was there before stays
    until there is a good new one.

    Args:
        path: of the .mp4; its folder is made.
        info: the model, for names and colours.
        frames_per_second: of the video, held within 1 to 60.

    Attributes:
        frames: written so far.
        frames_per_second: as held.
    """

    def __init__(self, path: Path, info: ModelInfo, frames_per_second: float) -> None:
        self.path = path
        self.frames = 0
        self.frames_per_second = min(max(frames_per_second, 1.0), 60.0)
        self._info = info
        self._part = path.with_name(f".{path.stem}.part.mp4")
        self._container: OutputContainer | None = None
        self._problem = ""
        self._panel_size = (0, 0)  # (width, height)

    def add(self, rgb: np.ndarray, segmentation: Segmentation) -> None:
        """Write one frame.

        Args:
            rgb: uint8 [H, W, 3].
            segmentation: of the same size.
        """
        if self._problem:
            return
        try:
            if self._container is None:
                self._open(rgb)
            self._encode(self._compose(rgb, segmentation))
        except ImportError as error:
            self._problem = (
                f"video {self.path}: it needs PyAV ({error}); install it with `pip install 'seg_perception[video]'`"
            )
        except (OSError, ValueError) as error:  # all that PyAV raises is one of these
            self._problem = f"video {self.path}: cannot be written: {error}"
        if not self._problem:
            self.frames += 1

    def close(self) -> str:
        """Finish the file and read it back. Returns one line on what is wrong with it; empty for a good video."""
        if self._container is not None:
            try:
                if not self._problem:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            except (OSError, ValueError) as error:
                self._problem = self._problem or f"video {self.path}: cannot be written: {error}"
            self._container = None
            if not self._problem:
                self._check()
        elif not self._problem:
            self._problem = f"video {self.path}: no frame came"
        if self._problem:
            self._part.unlink(missing_ok=True)
            logger.warning("%s", self._problem)
        else:
            self._part.replace(self.path)
        return self._problem

    def _open(self, rgb: np.ndarray) -> None:
        import av  # where a robot has no use for videos it need not be installed

        height, width = rgb.shape[:2]
        panel_height = max(2, round(PANEL_WIDTH * height / width))
        self._panel_size = (PANEL_WIDTH, panel_height)
        panels = 3 if self._info.has_superpixels else 2
        canvas_width = panels * PANEL_WIDTH
        legend = class_legend(self._info, canvas_width)
        canvas_height = CAPTION_HEIGHT + panel_height + len(legend)
        canvas_height += canvas_height % 2  # codecs take even sizes only
        self._canvas = np.full((canvas_height, canvas_width, 3), BACKGROUND, np.uint8)
        self._canvas[CAPTION_HEIGHT + panel_height :][: len(legend)] = legend
        titles = ("camera", f"labels: {self._info.name}", "superpixels")[:panels]
        for number, title in enumerate(titles):
            cv2.putText(self._canvas, title, (number * PANEL_WIDTH + 10, 19), FONT, FONT_SCALE, TEXT, 1, cv2.LINE_AA)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(self.frames_per_second).limit_denominator(1001)
        stream = self._container.add_stream(CODEC, rate=rate, options=CODEC_OPTIONS)
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        self._stream.width, self._stream.height, self._stream.pix_fmt = canvas_width, canvas_height, "yuv420p"
        self._stream.codec_context.gop_size = max(1, round(KEY_FRAME_EVERY_S * self.frames_per_second))

    def _encode(self, canvas: np.ndarray) -> None:
        from av import VideoFrame

        assert self._container is not None
        self._container.mux(self._stream.encode(VideoFrame.from_ndarray(canvas, format="rgb24")))

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
        import av

        try:
            with av.open(str(self._part)) as container:
                count = sum(1 for _ in container.decode(video=0))
        except (OSError, ValueError) as error:
            self._problem = f"video {self.path}: cannot be read back: {error}"
            return
        if count != self.frames:
            self._problem = f"video {self.path}: wrote {self.frames} frames, {count} can be read back"


def class_legend(info: ModelInfo, width: int) -> np.ndarray:
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
