"""What is seen, given to Rerun: times, layout, a place for each camera; to a viewer, to a file, or both."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import numpy as np

from seg_perception.view.camera_view import CameraView
from seg_perception.view.picture import Clock

logger = logging.getLogger(__name__)

FILE_SUFFIX = ".rrd"
SERVE_LOCALLY = "127.0.0.1:9876"
# What viewer and server keep of a run that is long; the oldest goes first.
VIEWER_MEMORY, SERVER_MEMORY = "2GiB", "256MiB"
# Now and then it is waited until everything is out, so that no more than this piles up in memory where a viewer is slow. One
# that takes nothing for so long has gone.
SETTLE_EVERY_S = 0.5
GONE_AFTER_S = 10.0
LOG = "log"


class ViewerError(ValueError):
    """There is nothing to look with. One line: what is missing, and what to do."""


class ViewerGoneError(ViewerError):
    """What is recorded does not get out any more: the viewer was closed or cannot be reached, or the disk is full."""


@dataclass(frozen=True)
class Outlet:
    """Where a recording goes.

    Attributes:
        file: an .rrd file to write; None: none.
        connect: address of a viewer that runs elsewhere, such as rerun+http://desk:9876/proxy; empty: none.
        serve: ADDRESS:PORT to wait on for viewers; empty: none.
        window: a window of the viewer on this machine.
    """

    file: Path | None = None
    connect: str = ""
    serve: str = ""
    window: bool = False


class ViewRecording:
    """One run. Use it as a context manager, or call `close`.

    Args:
        outlet: where it goes.
        clock: of the stamps that `at` takes.
        jpeg_quality: of the camera's images, 1..100; 0: they are kept as they are.
        points: whether there will be points: a place of their own beside the pictures.
        cameras: names of several cameras, each with a tab of its own; the one empty name: there is one camera.

    Raises:
        ViewerError: Rerun is not installed, or what is to be shown with cannot be reached. `at` raises ViewerGoneError.
    """

    def __init__(
        self,
        outlet: Outlet,
        clock: Clock,
        jpeg_quality: int = 90,
        points: bool = True,
        cameras: Sequence[str] = ("",),
    ) -> None:
        self._rr = _rerun()
        self._cameras = tuple(cameras)
        self._clock = clock
        self._jpeg_quality = jpeg_quality
        self._with_points = points
        self._recording: Any = self._rr.RecordingStream("seg_perception")
        self._settled_s = monotonic()
        self._gone = False
        self._targets: list[str] = []
        self.address = ""
        try:
            self._open(outlet)
        except ViewerError:
            raise
        except (RuntimeError, OSError, ValueError) as error:  # all that Rerun raises
            raise ViewerError(f"the view cannot be opened: {' '.join(str(error).split())}") from error
        self._settle()

    def __enter__(self) -> ViewRecording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write out what is on its way. Raises ViewerGoneError where that does not get out."""
        if not self._gone:
            self._settle()
            self._recording.disconnect()

    def camera(self, name: str = "") -> CameraView:
        """The place of one of the cameras; of the one without a name, everything."""
        return CameraView(self._rr, self._recording, name, self._jpeg_quality, self._with_points)

    def at(self, stamp_ns: int | None, frame: int | None = None) -> None:
        """The time of what is shown next.

        Args:
            stamp_ns: by the source's clock; None: it has none.
            frame: number of the picture; None: it is not counted here.
        """
        if monotonic() - self._settled_s >= SETTLE_EVERY_S:
            self._settle()
        self._recording.reset_time()
        if frame is not None:
            self._recording.set_time("frame", sequence=frame)
        if stamp_ns is not None and self._clock == "epoch":
            self._recording.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))
        elif stamp_ns is not None:
            self._recording.set_time("stamp", duration=np.timedelta64(stamp_ns, "ns"))

    def tell(self, text: str) -> None:
        """A line of text beside the pictures, and in the log."""
        logger.warning("%s", text)
        self._recording.log(LOG, self._rr.TextLog(text, level="WARN"))

    def _settle(self) -> None:
        try:
            self._recording.flush(timeout_sec=GONE_AFTER_S)
        except (RuntimeError, ValueError) as error:
            self._gone = True
            raise ViewerGoneError(
                f"nothing gets out to {' and '.join(self._targets)} any more: {' '.join(str(error).split())}; does the "
                "viewer run, has the disk room?"
            ) from error
        self._settled_s = monotonic()

    def _open(self, outlet: Outlet) -> None:
        rr, sinks = self._rr, []
        if outlet.file is not None:
            sinks.append(rr.FileSink(_writable(outlet.file)))
            self._targets.append(str(outlet.file))
        if outlet.serve:
            host, port = _address(outlet.serve)
            sinks.append(rr.GrpcServerSink(host, port, server_memory_limit=SERVER_MEMORY))
            self.address = f"rerun+http://{host}:{port}/proxy"
            self._targets.append(f"those who look at {self.address}")
        if outlet.connect:
            sinks.append(rr.GrpcSink(outlet.connect))
            self.address = outlet.connect
            self._targets.append(f"the viewer at {outlet.connect}")
        if outlet.window:
            if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
                raise ViewerError(
                    "no display (neither DISPLAY nor WAYLAND_DISPLAY is set); give --record FILE, --serve ADDRESS:PORT or "
                    "--connect URL"
                )
            rr.spawn(connect=False, memory_limit=VIEWER_MEMORY, hide_welcome_screen=True)
            sinks.append(rr.GrpcSink())
            self._targets.append("the viewer's window")
        rr.set_sinks(*sinks, default_blueprint=self._layout(), recording=self._recording)

    def _layout(self) -> Any:
        """One camera's views; of several, the labels of all, and a tab for each."""
        import rerun.blueprint as rrb

        views = [self.camera(name) for name in self._cameras]
        log = rrb.TextLogView(name="log", origin=LOG)
        if len(views) == 1:
            return rrb.Blueprint(views[0].layout(log), collapse_panels=True)
        together = rrb.Vertical(rrb.Grid(*(view.labels_view(view.name) for view in views)), log, row_shares=[5, 1])
        tabs = rrb.Tabs(rrb.Vertical(together, name="all cameras"), *(view.layout(log) for view in views))
        return rrb.Blueprint(tabs, collapse_panels=True)


def _rerun() -> Any:
    os.environ.setdefault("RUST_LOG", "error")  # its other lines say nothing that ours do not
    try:
        import rerun
    except ImportError as error:
        raise ViewerError(
            f"view needs Rerun ({error}); install it with `pip install 'seg_perception[view]'`"
        ) from error
    return rerun


def _writable(path: Path) -> Path:
    if path.suffix != FILE_SUFFIX:
        raise ViewerError(f"--record is {path}, expected a name ending in {FILE_SUFFIX}, Rerun's recordings")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb"):  # Rerun itself only logs that it cannot write
        return path


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ViewerError(f"--serve is {text!r}, expected ADDRESS:PORT such as {SERVE_LOCALLY} or 0.0.0.0:9876")
    return host, int(port)
