"""An MP4 of a run, a `RunCanvas` a frame."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seg_perception.bag.canvas import RunCanvas
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
        self._canvas: RunCanvas | None = None

    def add(self, rgb: np.ndarray, segmentation: Segmentation) -> None:
        """Write one frame.

        Args:
            rgb: uint8 [H, W, 3].
            segmentation: of the same size.
        """
        if self._problem:
            return
        try:
            if self._canvas is None:
                self._canvas = RunCanvas(self._info, (rgb.shape[0], rgb.shape[1]))
                self._open(self._canvas.size)
            self._encode(self._canvas.compose(rgb, segmentation))
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

    def _open(self, size: tuple[int, int]) -> None:
        import av  # where a robot has no use for videos it need not be installed

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(self.frames_per_second).limit_denominator(1001)
        stream = self._container.add_stream(CODEC, rate=rate, options=CODEC_OPTIONS)
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.gop_size = max(1, round(KEY_FRAME_EVERY_S * self.frames_per_second))

    def _encode(self, canvas: np.ndarray) -> None:
        from av import VideoFrame

        assert self._container is not None
        self._container.mux(self._stream.encode(VideoFrame.from_ndarray(canvas, format="rgb24")))

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
