"""What one camera publishes, and how that changes with the model."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from seg_perception.capture import CaptureBuffer
from seg_perception.classes import ClassMap
from seg_perception.model.model_file import ModelInfo
from seg_perception.ros.capture_service import TappedPublisher
from seg_perception.ros.label_info import label_info_message
from seg_perception.ros.outputs import LATCHED_QOS, OUTPUT_QOS, POINTS_QOS, Outputs, mask_names
from seg_perception.ros.publication import Serving
from seg_perception.ros.topic_error import TopicError
from seg_perception.ros.topic_match import TopicMatch


class CameraPublishers:
    """The publishers of one camera, from configure to cleanup.

    All is called in the executor's thread, but for `begin_model`, which is called between two frames.

    Args:
        node: that they are on.
        prefix: of their topics, such as "~/front/".
        capture: keeps what passes.
        info: of the model that serves.
        classes: what becomes of its classes.
        with_camera_info, with_points: whether there are topics `camera_info` and `points`.
        match: makes them, and warns of consumers that ask for more than is offered.

    Raises:
        TopicError: one of them cannot be made; none was then.

    Attributes:
        camera_info: None where there is none.
        points: the lifecycle publisher itself, since captures would hold little else; None where there is none.
    """

    def __init__(
        self,
        node: LifecycleNode,
        prefix: str,
        capture: CaptureBuffer,
        info: ModelInfo,
        classes: ClassMap,
        with_camera_info: bool,
        with_points: bool,
        match: TopicMatch,
    ) -> None:
        self._node = node
        self._prefix = prefix
        self._capture = capture
        self._match = match
        self._active = False
        self._made: list[Any] = []
        try:
            self._make_all(info, classes, with_camera_info, with_points)
        except TopicError:
            self.destroy()
            raise

    def _make_all(self, info: ModelInfo, classes: ClassMap, with_camera_info: bool, with_points: bool) -> None:
        self._changing = threading.Lock()  # of these three, which `begin_model` changes in another thread
        self._serving = Serving(info, classes, Outputs({}).changed_to(mask_names(info, classes), self._mask))
        self._next: Serving | None = None  # of a model on its way in
        self._before: Serving | None = None  # of the model before, until its publishers are destroyed
        self._label_info = self._publisher(type(self._label_info_message()), "label_info", LATCHED_QOS)
        self.camera_info = self._publisher(CameraInfo, "camera_info") if with_camera_info else None
        self.points = self._untapped(PointCloud2, "points", POINTS_QOS) if with_points else None

    @property
    def serving(self) -> Serving:
        """What the camera is served with at present."""
        return self._serving

    def activate(self, active: bool) -> None:
        """Follow the node, which activates its publishers itself, but for those that come late."""
        self._active = active
        if active:
            self._publish_label_info()

    def prepare_model(self, info: ModelInfo, classes: ClassMap) -> None:
        """Make the publishers that they need and those before have not. Of several models on their way the last one counts."""
        unused = self._next
        self._next = Serving(info, classes, self._serving.outputs.changed_to(mask_names(info, classes), self._mask))
        self._destroy_leftovers(unused)

    def begin_model(self, info: ModelInfo) -> None:
        """The names of its labels go out before its first mask.

        Args:
            info: as it was prepared; of a model that another one has overtaken since, nothing is begun.
        """
        with self._changing:
            if self._next is None or self._next.info is not info:
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

        def changed(serving: Serving) -> Serving:
            return replace(serving, classes=serving.classes.with_confidence_threshold(confidence_threshold))

        with self._changing:
            self._serving = changed(self._serving)
            self._next = None if self._next is None else changed(self._next)

    def destroy(self) -> None:
        """All of them."""
        for publisher in self._made:
            self._node.destroy_lifecycle_publisher(publisher)
        self._made = []

    def _mask(self, name: str) -> TappedPublisher:
        return self._publisher(Image, name)

    def _publisher(self, kind: Any, name: str, qos: QoSProfile = OUTPUT_QOS) -> TappedPublisher:
        publisher = self._untapped(kind, name, qos)
        return TappedPublisher(publisher, self._capture, qos.durability == DurabilityPolicy.TRANSIENT_LOCAL)

    def _untapped(self, kind: Any, name: str, qos: QoSProfile) -> Any:
        publisher = self._match.publisher(kind, self._prefix + name, qos)
        self._made.append(publisher)
        if self._active:
            publisher.on_activate(None)  # one that comes late misses the transition
        return publisher

    def _label_info_message(self) -> Any:
        serving = self._serving
        return label_info_message(serving.info.name, serving.classes, self._node.get_clock().now().to_msg())

    def _publish_label_info(self) -> None:
        self._label_info.publish(self._label_info_message())

    def _destroy_leftovers(self, unused: Serving | None) -> None:
        for publisher in [] if unused is None else unused.outputs.not_in(self._serving.outputs):
            self._made.remove(publisher.publisher)
            self._node.destroy_lifecycle_publisher(publisher.publisher)
