"""The demo: plays a recording through the real node over DDS and scores the masks that it publishes.

The node is a process of its own, as on a robot. This process is the camera and the listener: it publishes the recorded
images with their timing, takes the masks, and compares them with the recording's own label topic.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, sleep

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from seg_perception.bag.evaluation import Evaluation
from seg_perception.bag.frames import FrameSource, find_image_topic, header_stamp_ns
from seg_perception.bag.reader import BagMessage, BagReader, open_bag
from seg_perception.bag.replay import Replay, spinning
from seg_perception.bag.report import write_report
from seg_perception.bag.result import EvaluationResult
from seg_perception.bag.video import SegmentationVideo
from seg_perception.model.model_file import ModelInfo
from seg_perception.process.environment import describe_environment
from seg_perception.process.mask_listener import MaskListener
from seg_perception.process.node_process import NodeProcess, NodeProcessError
from seg_perception.process.ros_environment import free_domain_id, ros_process_environment
from seg_perception.progress import Progress
from seg_perception.segmenter import Segmentation, Segmenter

logger = logging.getLogger(__name__)

DEMO_LABEL_TOPIC = "/camera/labels"
LATENCY_MEANING = "from publishing the image to the arrival of its mask, over DDS, through the node's process"
START_LIMIT_S = 120.0  # loading a model on a small board takes its time
LAST_MASK_LIMIT_S = 10.0
_DIAGNOSTICS_PERIOD_S = 0.2


@dataclass(frozen=True)
class DemoOptions:
    """What `run_demo` takes.

    Attributes:
        bag, model: a recording and a deployment model.
        out: folder for the results; it is made.
        image_topic, label_topic: None for the only image topic, and for /camera/labels where the bag has it.
        rate: recorded seconds a second.
        seconds: recorded seconds to play; 0 for all.
        engine, threads: parameters of the node.
        progress: show progress on stderr.
    """

    bag: Path
    model: Path
    out: Path
    image_topic: str | None = None
    label_topic: str | None = None
    rate: float = 1.0
    seconds: float = 0.0
    engine: str = "auto"
    threads: int = 0
    progress: bool = True





def run_demo(options: DemoOptions) -> EvaluationResult:
    """Play, listen, score, and write report.json, report.html and demo.mp4 into `options.out`.

    Raises:
        ModelFileError, EngineError, BagError, ValueError: what was given cannot be used.
        NodeProcessError: the node did not come up, or ended.
    """
    if not 0 <= options.seconds < float("inf"):
        raise ValueError(f"--seconds is {options.seconds:g}, expected 0 or more")
    model = options.model.absolute()
    info = Segmenter(model, options.engine, options.threads).info  # says what is wrong before anything is started
    options.out.mkdir(parents=True, exist_ok=True)
    environment = ros_process_environment(free_domain_id())
    os.environ.update(environment)
    with open_bag(options.bag) as bag:
        label_topic = options.label_topic
        if label_topic is not None:
            bag.topic(label_topic)  # a name that the recording has not is said as such
        elif DEMO_LABEL_TOPIC in bag.topics():
            label_topic = DEMO_LABEL_TOPIC
        image_topic = options.image_topic or find_image_topic(bag, label_topic)
        frames = FrameSource(bag, image_topic, label_topic)
        parameters: dict[str, str | bool | int | float] = {
            "model": str(model),
            "image": image_topic,
            "image_type": "compressed" if bag.topic(image_topic).type.endswith("CompressedImage") else "raw",
            "engine": options.engine,
            "threads": options.threads,
            "autostart": True,
            "diagnostics_period_s": _DIAGNOSTICS_PERIOD_S,
        }
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = Node("demo", start_parameter_services=False)
            published_s: dict[int, float] = {}
            replay = _camera(options, bag, image_topic, node, published_s)
            listener = MaskListener(node, "/segmentation", info.has_superpixels)
            with spinning(node), NodeProcess(parameters, environment, options.out / "node.log") as process:
                _wait_until_active(process, listener, options.progress)
                wall_s = _play(replay, published_s, process, listener, options.progress)
                counts = _counts(process, listener, len(published_s))
        finally:
            rclpy.try_shutdown()
        result = _score(options, frames, info, listener, published_s, wall_s, counts)
        result.source = {
            "bag": str(options.bag),
            "image topic": image_topic,
            "label topic": label_topic or "none",
            "played": f"over DDS at {options.rate:g} times the recorded speed",
        }
        if bag.damage:
            result.warnings.append(f"bag {options.bag}: {bag.damage}")
        result.truncated = bag.truncated
    write_report(options.out, result)
    return result


def _wait_until_active(process: NodeProcess, listener: MaskListener, progress: bool) -> None:
    """Until the node has loaded its model, listens, and is listened to.

    Raises:
        NodeProcessError: it ended, cannot be configured, or takes longer than START_LIMIT_S.
    """
    with Progress("starting the node", None, "second", progress) as job:
        begin_s = monotonic()
        while not (
            listener.values.get("lifecycle") == "active"
            and all(subscription.get_publisher_count() for subscription in listener.subscriptions)
        ):
            process.check()
            status = listener.status
            if status is not None and status.level == DiagnosticStatus.ERROR:
                raise NodeProcessError(f"the node cannot start: {status.message}")
            waited_s = monotonic() - begin_s
            if waited_s > START_LIMIT_S:
                raise NodeProcessError(
                    f"the node is not active after {START_LIMIT_S:.0f} s; its last lines:\n{process.last_lines()}"
                )
            sleep(0.05)
            if waited_s >= job.done + 1:
                job.step()


def _camera(
    options: DemoOptions, bag: BagReader, image_topic: str, node: Node, published_s: dict[int, float]
) -> Replay:
    """The replay of the images; it notes in `published_s` when each one went out (perf_counter), by header stamp."""

    def note(message: BagMessage) -> None:
        stamp_ns = header_stamp_ns(message)
        if stamp_ns is None or stamp_ns in published_s:
            raise ValueError(
                f"bag {bag.path}: images on {image_topic} share the header stamp {stamp_ns} ns, expected one a stamp; "
                "masks are paired with images by it (evaluate-bag needs no stamps)"
            )
        published_s[stamp_ns] = perf_counter()

    return Replay(node, bag, [image_topic], options.rate, duration_s=options.seconds or None, on_publish=note)


def _play(
    replay: Replay, published_s: dict[int, float], process: NodeProcess, listener: MaskListener, show_progress: bool
) -> float:
    """Publish the images; returns the seconds from the first one to the last mask."""
    _wait_for(lambda: replay.subscriptions() > 0, process, START_LIMIT_S)
    replay.wait_for_subscribers(1)  # returns after the time that the other side may need to know of the match
    with Progress("playing", replay.total, "image", show_progress) as job:

        def progress() -> None:
            process.check()
            job.step(f"{len(listener.labels)} masks")

        begin_s = perf_counter()
        replay.play(progress)
        # The last image is never overtaken by another: with its mask, all that will come have come.
        last_ns = next(reversed(published_s), None)
        if not _wait_for(lambda: last_ns is None or last_ns in listener.labels, process, LAST_MASK_LIMIT_S):
            logger.warning("no mask for the last image within %.0f s", LAST_MASK_LIMIT_S)
        wall_s = perf_counter() - begin_s
    return wall_s


def _counts(process: NodeProcess, listener: MaskListener, images: int) -> dict[str, int]:
    """Why images have no mask, by the node's own account of it in its next diagnostics."""
    before = listener.status
    _wait_for(lambda: listener.status is not before, process, 10 * _DIAGNOSTICS_PERIOD_S)
    values = listener.values
    received = int(values.get("received", 0))
    reasons = {
        "lost before the node took them": images - received,
        "overtaken by a newer image while the node was busy": int(values.get("dropped", 0)),
        f"failed in the node: {values.get('last_error', '')}": int(values.get("failed", 0)),
    }
    return {reason: count for reason, count in reasons.items() if count > 0}


def _wait_for(condition: Callable[[], bool], process: NodeProcess, limit_s: float) -> bool:
    """Whether the condition came true in time, with the node alive."""
    deadline_s = monotonic() + limit_s
    while not condition():
        process.check()
        if monotonic() > deadline_s:
            return False
        sleep(0.02)
    return True


def _score(
    options: DemoOptions,
    frames: FrameSource,
    info: ModelInfo,
    listener: MaskListener,
    published_s: dict[int, float],
    wall_s: float,
    drop_reasons: dict[str, int],
) -> EvaluationResult:
    """Compare the masks with the recording's labels and make the video. After the play, to leave the node the cores."""
    evaluation = Evaluation(info, LATENCY_MEANING)
    video = SegmentationVideo(options.out / "demo.mp4", info, frames.frames_per_second * options.rate)
    with Progress("scoring", len(listener.labels), "mask", options.progress) as job:
        for frame in frames:
            stamp_ns = frame.stamp_ns
            if stamp_ns not in published_s or stamp_ns not in listener.labels:
                continue
            mask = Segmentation(listener.labels[stamp_ns], superpixels=listener.superpixels.get(stamp_ns))
            latency_ms = 1e3 * (listener.arrivals_s[stamp_ns] - published_s[stamp_ns])
            evaluation.add(frame.rgb, mask, frame.labels, latency_ms=latency_ms, stamp_ns=stamp_ns)
            video.add(frame.rgb, mask)
            job.step()
    problem = video.close()
    values = listener.values
    result = evaluation.result(
        engine=values.get("engine", "").split(" ")[0] or options.engine,
        engine_description=values.get("engine", ""),
        frames_in=len(published_s),
        drop_reasons=drop_reasons,
        warnings=[*frames.warnings, *([problem] if problem else [])],
        wall_s=wall_s,
        environment=describe_environment(),
    )
    if not problem:
        result.files["video"] = video.path.name
        result.video_frames_per_second = video.frames_per_second
    return result
