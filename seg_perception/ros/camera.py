"""One camera of the node: its topics, its parameters' effect, its errors, and nothing of any other camera.

    made --configure--> has publishers --start--> subscribed, its frames go to the mailbox --stop--> --release--> made

All is called in the executor's thread, but for `process` and `failed` (the worker's) and `begin_model` (between two frames).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool

from seg_perception.body_mask import BodyMask, read_body_mask
from seg_perception.capture import CaptureBuffer, Channel
from seg_perception.classes import ClassMap
from seg_perception.model.model_file import ModelInfo
from seg_perception.rate_limit import RateLimit
from seg_perception.ros.capture_service import TappedPublisher, channel
from seg_perception.ros.frame_decoder import FrameDecoder
from seg_perception.ros.frame_pipeline import Frame, FramePipeline, Serving
from seg_perception.ros.frame_statistics import Drop, FrameStatistics
from seg_perception.ros.label_info import label_info_message
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.outputs import LATCHED_QOS, OUTPUT_QOS, OVERRIDABLE, Outputs, mask_names
from seg_perception.ros.parameter import TOPIC
from seg_perception.ros.parameter_values import CameraParameters
from seg_perception.ros.report_limit import ReportLimit
from seg_perception.ros.worker import FrameSource
from seg_perception.segmenter import Segmenter

CameraMailbox = Mailbox[FrameSource, Frame]


class Camera:
    """One camera.

    Args:
        node: whose topics and parameters it has.
        name: among several cameras; empty: the one without a name, whose topics are the node's own.
        values: its parameters at the start.
        capture: keeps what passes.

    Attributes:
        statistics: of its frames since activation; None while inactive.
    """

    def __init__(self, node: LifecycleNode, name: str, values: CameraParameters, capture: CaptureBuffer) -> None:
        self.name = name
        self.statistics: FrameStatistics | None = None
        self._node = node
        self._prefix = f"~/{name}/" if name else "~/"
        self._values = values
        self._capture = capture
        self._body: BodyMask | None = None
        self._serving: Serving | None = None
        self._next: Serving | None = None  # of a model on its way in
        self._before: Serving | None = None  # of the model before, until its publishers are destroyed
        self._changing = threading.Lock()  # of these three, which `begin_model` changes in another thread
        self._label_info: TappedPublisher | None = None
        self._camera_info: TappedPublisher | None = None
        self._subscriptions: list[Any] = []
        self._image_channel: Channel | None = None
        self._mailbox: CameraMailbox | None = None
        self._pipeline: FramePipeline | None = None
        self._rate = RateLimit()
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
        if not values.image:
            raise ValueError(f"parameter {self.parameter('image')} is empty, expected the topic of the camera images")
        self._body = read_body_mask(values.body_mask) if values.body_mask else None
        self._values = values
        self._serving = Serving(info, classes, Outputs({}).changed_to(mask_names(info, classes), self._mask))
        kind = type(self._label_info_message(self._serving))
        self._label_info = self._publisher(kind, "label_info", LATCHED_QOS)
        self._camera_info = self._publisher(CameraInfo, "camera_info") if values.camera_info else None

    def start(self, mailbox: CameraMailbox) -> None:
        """Leave frames in the mailbox from now on, if the camera is enabled."""
        self._mailbox = mailbox
        self.statistics = FrameStatistics()
        self._pipeline = FramePipeline(
            FrameDecoder(self._values.compressed, self._values.max_image_pixels),
            self.statistics,
            lambda: self._values,
            self._present,
            self._body,
            lambda: self._node.get_clock().now().nanoseconds,
        )
        self._publish_label_info()
        if self._values.enabled:
            self._subscribe()

    def stop(self) -> None:
        """No more frames; those in the mailbox, and one in hand, are the worker's."""
        self._unsubscribe()
        self._mailbox = None

    def forget(self) -> None:
        """Once the worker is done with the camera: its statistics go."""
        self._pipeline = self.statistics = None

    def release(self) -> None:
        """Destroy the publishers."""
        servings = [serving for serving in (self._serving, self._next, self._before) if serving is not None]
        publishers = {publisher for serving in servings for publisher in serving.outputs.publishers.values()}
        publishers |= {publisher for publisher in (self._label_info, self._camera_info) if publisher is not None}
        for publisher in publishers:
            self._node.destroy_lifecycle_publisher(publisher.publisher)
        self._serving = self._next = self._before = self._label_info = self._camera_info = self._body = None

    def destroy(self) -> None:
        """For good, from the state that it was made in."""
        self._node.destroy_service(self._service)

    # Another model, or other classes, while it runs; see `ModelHost`

    def prepare_model(self, info: ModelInfo, classes: ClassMap) -> None:
        """Make the publishers that they need and those before have not."""
        outputs = self._present().outputs.changed_to(mask_names(info, classes), self._mask)
        self._next = Serving(info, classes, outputs)

    def begin_model(self) -> None:
        """Between two frames: the names of its labels go out before its first mask."""
        with self._changing:
            if self._next is None:
                return
            self._before, self._serving, self._next = self._serving, self._next, None
        self._publish_label_info()

    def model_loaded(self) -> None:
        """Let go of what belonged to the model before."""
        before, self._before = self._before, None
        self._destroy_leftovers(before)

    def model_refused(self) -> None:
        """Let go of what was prepared; what was begun ends."""
        unused, self._next = self._next, None
        if self._before is not None:
            unused, self._serving, self._before = self._serving, self._before, None
        self._destroy_leftovers(unused)

    def change_threshold(self, confidence_threshold: float) -> None:
        """The parameter of that name: it holds from the next frame on."""

        def changed(serving: Serving | None) -> Serving | None:
            if serving is None:
                return None
            return replace(serving, classes=serving.classes.with_confidence_threshold(confidence_threshold))

        with self._changing:
            self._serving, self._next = changed(self._serving), changed(self._next)

    # The worker's

    def process(self, frame: Frame, segmenter: Segmenter) -> None:
        """Segment a frame and publish its masks; raises what `FramePipeline.process` does."""
        assert self._pipeline is not None
        self._pipeline.process(frame, segmenter)

    def failed(self, error: str) -> None:
        """A frame could not be used: counted, and logged if its kind was not just now."""
        if self.statistics is not None:
            self.statistics.failed(error)
        camera = f"camera {self.name}: " if self.name else ""
        self._reports.report(f"{camera}{self._values.image}: image left out: {error}")

    # Callbacks

    def refresh(self, values: CameraParameters) -> None:
        """Take over what its parameters are now."""
        before, self._values = self._values, values
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
        arrival_s = perf_counter()
        if not self._rate.admits(arrival_s, self._values.max_rate_hz):
            self.statistics.dropped(Drop.RATE)
        elif self._mailbox.put(self, Frame(serialized, arrival_s)):
            self.statistics.dropped(Drop.OVERTAKEN)

    def _on_camera_info(self, serialized: bytes) -> None:
        if self._camera_info is not None:
            self._camera_info.publish(serialized)

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
        # Raw: an image that a newer one overtakes is never deserialized, and the callback stays cheap.
        image = self._subscription(kind, self._values.image, self._on_image)
        self._image_channel = channel(image.topic_name, kind, reliable=False)
        self._subscriptions = [image]
        if self._camera_info is not None:
            self._subscriptions.append(self._subscription(CameraInfo, self._values.camera_info, self._on_camera_info))

    def _subscription(self, kind: Any, topic: str, callback: Callable[[bytes], None]) -> Any:
        return self._node.create_subscription(
            kind, topic, callback, qos_profile_sensor_data, raw=True, qos_overriding_options=OVERRIDABLE
        )

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _present(self) -> Serving:
        assert self._serving is not None  # there is a worker only while there is a model
        return self._serving

    def _mask(self, name: str) -> TappedPublisher:
        return self._publisher(Image, name)

    def _publisher(self, kind: Any, name: str, qos: QoSProfile = OUTPUT_QOS) -> TappedPublisher:
        publisher = self._node.create_lifecycle_publisher(
            kind, self._prefix + name, qos, qos_overriding_options=OVERRIDABLE
        )
        if self._mailbox is not None:
            publisher.on_activate(None)  # one that comes late misses the transition
        return TappedPublisher(publisher, self._capture, qos.durability == DurabilityPolicy.TRANSIENT_LOCAL)

    def _label_info_message(self, serving: Serving) -> Any:
        return label_info_message(serving.info.name, serving.classes, self._node.get_clock().now().to_msg())

    def _publish_label_info(self) -> None:
        if self._label_info is not None:
            self._label_info.publish(self._label_info_message(self._present()))

    def _destroy_leftovers(self, unused: Serving | None) -> None:
        if unused is not None and self._serving is not None:
            for publisher in unused.outputs.not_in(self._serving.outputs):
                self._node.destroy_lifecycle_publisher(publisher.publisher)
