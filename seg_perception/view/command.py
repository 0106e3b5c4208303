"""`seg_perception view`: its options, and which source and outlet they make."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import sleep
from typing import Any

from seg_perception.engines.select import ENGINE_KINDS
from seg_perception.segmenter import Segmenter
from seg_perception.share import share_path
from seg_perception.view.choose import ACCEPTED, Chosen, choose
from seg_perception.view.folder import FolderSource
from seg_perception.view.picture import Clock, PictureSource, SourceError
from seg_perception.view.recorded import RecordedSource
from seg_perception.view.recording import SERVE_LOCALLY, Outlet, ViewRecording
from seg_perception.view.show import Shown, show_pictures
from seg_perception.view.video_file import VideoFileSource
from seg_perception.view.webcam import WebcamSource

logger = logging.getLogger(__name__)

SHIPPED_MODEL = "models/rooms_spt_lite0.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `seg_perception view`."""
    parser.add_argument("source", metavar="SOURCE", help=ACCEPTED)
    parser.add_argument("--model", type=Path, help="the deployment model (default: the shipped one); not for a node")
    parser.add_argument("--record", type=Path, metavar="FILE.rrd", help="write a recording; without --serve, no window")
    parser.add_argument(
        "--serve",
        nargs="?",
        const=SERVE_LOCALLY,
        default="",
        metavar="ADDRESS:PORT",
        help=f"wait for viewers there instead of opening one (default address: {SERVE_LOCALLY})",
    )
    parser.add_argument(
        "--connect",
        default="",
        metavar="URL",
        help="show in a viewer that runs elsewhere: rerun+http://desk:9876/proxy",
    )
    parser.add_argument("--window", action="store_true", help="with --record: open the viewer as well")
    parser.add_argument("--image-topic", default="", help="of a recording with several topics of images")
    parser.add_argument("--depth-topic", default="", help="raw depth images, registered to the camera: shows points")
    parser.add_argument("--info-topic", default="", help="camera_info of the camera, for points")
    parser.add_argument("--no-points", action="store_true", help="of a node: do not ask for ~/points")
    parser.add_argument(
        "--jpeg", type=int, default=90, metavar="QUALITY", help="of camera images; 0: raw (%(default)s)"
    )
    parser.add_argument("--wait", type=float, default=5.0, metavar="S", help="for a topic to show up (%(default)s)")
    parser.add_argument("--max-frames", type=int, default=0, help="stop after so many images; 0: all")
    parser.add_argument("--engine", choices=ENGINE_KINDS, default="auto", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0: its own choice")


def run(options: argparse.Namespace) -> int:
    """Run `seg_perception view`; Ctrl-C and SIGTERM are its ordinary end."""
    for name, value, most in (("jpeg", options.jpeg, 100), ("threads", options.threads, 256)):
        if not 0 <= value <= most:
            raise ValueError(f"--{name} is {value}, expected 0 to {most}")
    if options.max_frames < 0 or not 0 <= options.wait <= 3600:
        raise ValueError("--max-frames must be 0 or more and --wait 0 to 3600 seconds")
    chosen = choose(options.source)
    counts = Shown()
    signal.signal(signal.SIGTERM, _end)
    try:
        _view(options, chosen, counts)
    except KeyboardInterrupt:
        print("", file=sys.stderr)
    finally:
        if counts.shown:
            print(counts.summary())
            if options.record is not None:
                print(f"recording   {options.record}; look at it with: rerun {options.record}")
    return 0


def _view(options: argparse.Namespace, chosen: Chosen, counts: Shown) -> None:
    if chosen.kind == "topic":
        _view_topic(options, chosen.name, counts)
    else:
        with closing(_file_source(options, chosen)) as source:
            _segment_and_show(options, source, counts)


def _file_source(options: argparse.Namespace, chosen: Chosen) -> Any:
    if chosen.kind == "webcam":
        return WebcamSource(chosen.device)
    assert chosen.path is not None
    if chosen.kind == "bag":
        return RecordedSource(chosen.path, options.image_topic, options.depth_topic, options.info_topic)
    return VideoFileSource(chosen.path) if chosen.kind == "video" else FolderSource(chosen.path)


def _segment_and_show(options: argparse.Namespace, source: PictureSource, counts: Shown) -> None:
    segmenter = Segmenter(options.model or share_path(SHIPPED_MODEL), options.engine, options.threads)
    with _opened(options, source.clock, bool(options.depth_topic)) as recording, segmenter:
        segmenter.warm_up()
        logger.info("%s, %s", source.description, segmenter.engine_description)
        show_pictures(source, segmenter, recording, counts, options.max_frames)
        if options.serve:
            _keep_serving(recording)


def _view_topic(options: argparse.Namespace, name: str, counts: Shown) -> None:
    try:
        from seg_perception.view.node_outputs import NodeOutputs
        from seg_perception.view.topics import COMPRESSED, NODE, ImageTopicSource, listening, what_is_there
    except ImportError as error:
        install = "source a ROS 2 installation, or pip install 'seg_perception[ros]'"
        raise SourceError(f"topic {name} needs ROS 2 ({error}); {install}") from error
    if options.depth_topic and not options.info_topic:
        raise SourceError("--depth-topic needs --info-topic, the camera_info of the same camera")
    with listening() as node:
        found = what_is_there(node, name, options.wait)
        if found.kind == NODE:
            with _opened(options, "epoch", not options.no_points, found.cameras) as recording:
                cameras = f", cameras {', '.join(found.cameras)}" if any(found.cameras) else ""
                logger.info("node %s%s, as it publishes", name, cameras)
                outputs = NodeOutputs(node, name, recording, counts, not options.no_points, found.cameras)
                outputs.run(options.max_frames)
            return
        compressed = found.kind == COMPRESSED
        source = ImageTopicSource(node, name, compressed, logger.warning, options.depth_topic, options.info_topic)
        with closing(source):
            _segment_and_show(options, source, counts)


@contextmanager
def _opened(
    options: argparse.Namespace, clock: Clock, points: bool, cameras: tuple[str, ...] = ("",)
) -> Iterator[ViewRecording]:
    window = options.window or (options.record is None and not options.serve and not options.connect)
    outlet = Outlet(options.record, options.connect, options.serve, window)
    with ViewRecording(outlet, clock, options.jpeg, points, cameras) as recording:
        if options.serve:
            print(f"viewers     rerun {recording.address}", flush=True)
        yield recording


def _keep_serving(recording: ViewRecording) -> None:
    print(f"all shown; served until Ctrl-C at {recording.address}", flush=True)
    while True:
        sleep(1.0)


def _end(number: int, frame: object) -> None:
    raise KeyboardInterrupt
