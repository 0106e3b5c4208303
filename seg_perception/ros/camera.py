"""One camera of the node: its topics, its parameters' effect, its errors, and nothing of any other camera.

    made --configure--> has publishers --start--> subscribed, its frames go to the mailbox --stop--> --release--> made

All is called in the executor's thread, but for `prepare` and `failed` (the worker's).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool

from seg_perception.body_mask import BodyMask, read_body_mask
from seg_perception.capture import CaptureBuffer, Channel
from seg_perception.classes import ClassMap
from seg_perception.cloud import warm_up
from seg_perception.model.model_file import ModelInfo
from seg_perception.rate_limit import RateLimit
from seg_perception.ros.camera_checks import check_camera
from seg_perception.ros.camera_health import CameraHealth
from seg_perception.ros.camera_info import scaled_camera_info
from seg_perception.ros.camera_points import CameraPoints
from seg_perception.ros.camera_publishers import CameraPublishers
from seg_perception.ros.capture_service import channel
from seg_perception.ros.frame_decoder import FrameDecoder
from seg_perception.ros.frame_pipeline import Frame, FrameJob, FramePipeline
from seg_perception.ros.frame_statistics import Drop, FrameStatistics
from seg_perception.ros.parameter import TOPIC
from seg_perception.ros.parameter_values import CameraParameters
from seg_perception.ros.report_limit import ReportLimit
from seg_perception.ros.topic_match import TopicMatch
from seg_perception.ros.work_in_hand import WorkInHand
from seg_perception.ros.worker import CameraMailbox
from seg_perception.segmenter import Segmenter

# Topics by the naming of image_transport whose messages are none that are read here.
OTHER_TRANSPORTS = ("compressedDepth", "ffmpeg", "theora", "zstd")


class Camera:
    """One camera.

    Args:
        node: whose topics and parameters it has.
        name: among several cameras; empty: the one without a name, whose topics are the node's own.
        values: its parameters at the start.
        capture: keeps what passes.
        match: makes its topics, and warns of those whose two sides do not fit.

    Attributes:
        statistics: of its frames since activation; None while inactive.
        health: of its images and masks since activation.
    """

    def __init__(
        self, node: LifecycleNode, name: str, values: CameraParameters, capture: CaptureBuffer, match: TopicMatch
    ) -> None:
        self.name = name
        self.statistics: FrameStatistics | None = None
        self.health = CameraHealth()
        self._node = node
        self._prefix = f"~/{name}/" if name else "~/"
        self._values = values
        self._capture = capture
        self._match = match
        self._body: BodyMask | None = None
        self._publishers: CameraPublishers | None = None
        self._subscriptions: list[Any] = []
        self._image_channel: Channel | None = None
        self._mailbox: CameraMailbox | None = None
        self._pipeline: FramePipeline | None = None
        self._points: CameraPoints | None = None
        self._rate = RateLimit()
        self._hung: Callable[[], str] = lambda: ""
        self._reports = ReportLimit(node.get_logger().error)
        self._service = node.create_service(SetBool, f"{self._prefix}enable", self._on_enable)

    @property
    def values(self) -> CameraParameters:
        """Its parameters at present."""
        return self._values

    @property
    def image_topic(self) -> str:
        """Resolved; empty where the parameter names none."""
        image = self._values.image
        return str(self._node.resolve_topic_name(image)) if image and TOPIC.allows(image) else ""

    def parameter(self, plain: str) -> str:
        """The name of one of its parameters."""
        return f"{self.name}.{plain}" if self.name else plain

    # From configure to cleanup

    def configure(self, values: CameraParameters, info: ModelInfo, classes: ClassMap) -> None:
        """Make the publishers.

        Raises:
            ValueError: a parameter that cannot be used, in one line; nothing was made.
        """
        check_camera(values, self.parameter)
        self._body = read_body_mask(values.body_mask) if values.body_mask else None
        self._values = values
        self._publishers = CameraPublishers(
            self._node,
            self._prefix,
            self._capture,
            info,
            classes,
            bool(values.camera_info),
            values.has_points,
            self._match,
        )
        if values.has_points:
            warm_up()  # not while masks are made: compiling takes seconds, and Python's lock with it
        self._warn_of_smoothing()

    def start(self, mailbox: CameraMailbox) -> None:
        """Leave frames in the mailbox from now on, if the camera is enabled.

        Raises:
            TopicError: a subscription cannot be made.
        """
        self._mailbox = mailbox
        self.statistics, self.health = FrameStatistics(), CameraHealth()
        self._hung = lambda: ""
        self.publishers.activate(True)
        if self._values.has_points:
            subscribe = self._match.subscription
            self._points = CameraPoints(
                self._node, lambda: self._values, self.publishers.points, subscribe, self._report
            )
        self.renew()
        if self._values.enabled:
            self._subscribe()

    def renew(self) -> None:
        """Decode with nothing of what was used before, which a thread that hangs may have in hand still."""
        if self.statistics is None:
            return
        self._pipeline = FramePipeline(
            FrameDecoder(self._values.compressed, self._values.max_image_pixels),
            self.statistics,
            lambda: self._values,
            lambda: self.publishers.serving,
            self._body,
            self._now_ns,
            self.health,
            self._points,
        )

    def stop(self) -> None:
        """No more frames; those in the mailbox, and one in hand, are the worker's."""
        self._unsubscribe()
        if self._points is not None:
            self._points.stop()
        self._points = self._mailbox = None
        if self._publishers is not None:
            self._publishers.activate(False)

    def model_loaded(self) -> None:
        """Another model serves: let go of what belonged to the one before."""
        self.publishers.model_loaded()
        self._warn_of_smoothing()

    def forget(self) -> None:
        """Once the worker is done with the camera: its statistics go."""
        self._pipeline = self.statistics = None

    def release(self) -> None:
        """Destroy the publishers."""
        if self._publishers is not None:
            self._publishers.destroy()
        self._publishers = self._body = None

    def destroy(self) -> None:
        """For good, from the state that it was made in."""
        self._node.destroy_service(self._service)

    @property
    def publishers(self) -> CameraPublishers:
        """Its publishers; there are some from configure to cleanup."""
        assert self._publishers is not None
        return self._publishers

    # The worker's

    @property
    def label(self) -> str:
        """As log lines name it."""
        return f"camera {self.name}" if self.name else self.image_topic

    def prepare(self, frame: Frame, segmenter: Segmenter, hand: WorkInHand) -> FrameJob | None:
        """Decode a frame; raises what `FramePipeline.prepare` does."""
        assert self._pipeline is not None
        return self._pipeline.prepare(frame, segmenter, hand)

    def given_up(self, error: str, hung: Callable[[], str]) -> None:
        """A frame hung: counted, and none is taken while it still does; the log has it already.

        Args:
            error: for the count.
            hung: what hangs still, in one line; empty once it came back.
        """
        self._hung = hung
        if self.statistics is not None:
            self.statistics.failed(error)
            if hung() and self._mailbox is not None and self._mailbox.withdraw(self):
                self.statistics.dropped(Drop.SET_ASIDE)

    def overtaken(self) -> None:
        """A frame was let go for a newer one."""
        if self.statistics is not None:
            self.statistics.dropped(Drop.OVERTAKEN)

    @property
    def trouble(self) -> str:
        """Why it is not served although it is enabled, in one line; empty where it is."""
        hung = self._hung()
        return f"set aside: {hung}" if hung else ""

    def failed(self, error: str) -> None:
        """A frame could not be used: counted, and logged if its kind was not just now."""
        if self.statistics is not None:
            self.statistics.failed(error)
        self._report(f"image left out: {error}")

    def warnings(self) -> tuple[str, ...]:
        """What should be looked at now, in one line each."""
        missing = self.health.missing_camera_info() if self._values.camera_info else ""
        if missing:
            topic = str(self._node.resolve_topic_name(self._values.camera_info))
            reason = self._match.why_silent(topic)
            missing = f"no camera info on {topic} {missing}{f': {reason}' if reason else ''}"
        return (*self.health.warnings(), missing)

    def values_of_health(self) -> dict[str, str]:
        """For diagnostics: of its stamps, masks and points."""
        return {**self.health.values(), **({} if self._points is None else self._points.values())}

    # Callbacks

    def refresh(self, values: CameraParameters) -> None:
        """Take over what its parameters are now."""
        before, self._values = self._values, values
        if before.smoothing != values.smoothing and self._publishers is not None:
            self._warn_of_smoothing()
        if before.enabled == values.enabled or self._mailbox is None or self.statistics is None:
            return
        if values.enabled:
            self.statistics.resumed()
            self._subscribe()
        else:
            self._unsubscribe()
            if self._mailbox.withdraw(self):
                self.statistics.dropped(Drop.DISABLED)

    def _on_image(self, serialized: bytes) -> None:
        if self._image_channel is None or self._mailbox is None or self.statistics is None:
            return
        if self._capture.enabled:
            self._capture.add(self._image_channel, serialized)
        self.statistics.arrived()
        self.health.arrived(serialized, self._now_ns())
        arrival_s = perf_counter()
        if self._hung():
            self.statistics.dropped(Drop.SET_ASIDE)
        elif not self._rate.admits(arrival_s, self._values.max_rate_hz):
            self.statistics.dropped(Drop.RATE)
        elif self._mailbox.put(self, Frame(serialized, arrival_s)):
            self.statistics.dropped(Drop.OVERTAKEN)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _on_camera_info(self, serialized: bytes) -> None:
        self.health.camera_info_came()
        publisher, size = self.publishers.camera_info, self._values.size
        if publisher is None:
            return
        if size.kind == "camera":
            publisher.publish(serialized)
        elif publisher.get_subscription_count():
            try:
                info = deserialize_message(serialized, CameraInfo)
            except Exception as error:  # rclpy has no public class for what the middleware raises here
                said = " ".join(str(error).split())
                self._report(f"camera info of {len(serialized)} bytes cannot be deserialized: {said}")
                return
            publisher.publish(scaled_camera_info(info, size.of((0, 0), self.publishers.serving.info.input_size)))

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """By way of the parameter, so that both always say the same."""
        result = self._node.set_parameters([Parameter(self.parameter("enabled"), value=request.data)])[0]
        response.success, response.message = result.successful, result.reason
        if result.successful:
            self.refresh(replace(self._values, enabled=request.data))
            camera = f"camera {self.name}" if self.name else "the camera"
            now = "" if self._mailbox is not None else ", which shows when the node is active"
            response.message = f"{camera} is {'enabled' if request.data else 'disabled'}{now}"
        return response

    def _subscribe(self) -> None:
        kind = CompressedImage if self._values.compressed else Image
        image = self._match.subscription(kind, self._values.image, self._on_image)
        self._image_channel = channel(image.topic_name, kind, reliable=False)
        self._subscriptions = [image]
        if self.publishers.camera_info is not None:
            self._subscriptions.append(
                self._match.subscription(CameraInfo, self._values.camera_info, self._on_camera_info)
            )

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _report(self, error: str) -> None:
        camera = f"camera {self.name}: " if self.name else ""
        self._reports.report(f"{camera}{self.image_topic}: {error}")

    def _warn_of_smoothing(self) -> None:
        info = self.publishers.serving.info
        if self._values.smoothing and info.geometry is None:
            self._node.get_logger().warning(
                f"parameter {self.parameter('smoothing')} has no effect with model {info.name}: it is of the form {info.form}, "
                "only the form association has scores to take a mean of"
            )
