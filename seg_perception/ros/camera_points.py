"""The labelled points of one camera: depth or a cloud in, `~/points` out, and only while somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from seg_perception.labelled_points import CloudGeometry, DepthGeometry, MaskedImage, PointMaker
from seg_perception.ros.parameter_values import CameraParameters
from seg_perception.ros.point_worker import PointWorker
from seg_perception.ros.topic_error import TopicError

LOOK_EVERY_S = 0.25  # whether somebody listens

Subscribe = Callable[[Any, str, Callable[[bytes], None]], Any]


class CameraPoints:
    """Makes them from activation to deactivation.

    Args:
        node: whose timers it uses.
        values: the camera's parameters at present; `has_points` holds.
        publisher: of serialized sensor_msgs/PointCloud2.
        subscribe: (message class, topic, callback of serialized messages) -> subscription.
        report: takes one line for what cannot become points.
    """

    def __init__(
        self,
        node: LifecycleNode,
        values: Callable[[], CameraParameters],
        publisher: Any,
        subscribe: Subscribe,
        report: Callable[[str], object],
    ) -> None:
        self._node = node
        self._present = values
        self._values = present = values()  # topics stay as they are until the next configure
        self._publisher = publisher
        self._subscribe = subscribe
        self._report = report
        self._depth = DepthGeometry(present.points_keep_invalid) if present.depth else None
        geometry = self._depth or CloudGeometry(present.points_keep_invalid)
        self._worker = PointWorker(
            PointMaker(geometry, present.points_max_gap_s),
            publisher.publish,
            lambda error: report(f"points left out: {error}"),
        )
        self._worker.start()
        self._subscriptions: list[Any] = []
        self._timer = node.create_timer(LOOK_EVERY_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def wanted(self) -> bool:
        """Whether somebody subscribes, and the camera is enabled."""
        return self._present().enabled and bool(self._publisher.get_subscription_count() > 0)

    def offer(self, masked: MaskedImage) -> None:
        """Masks of an image, from the worker's thread."""
        self._worker.add(masked)

    def values(self) -> dict[str, str]:
        """For diagnostics."""
        return {
            "points_published": str(self._worker.published),
            "points_failed": str(self._worker.failed),
            "points_ms": f"{self._worker.last_ms:.1f}",
        }

    def stop(self) -> None:
        """Publish nothing more."""
        self._node.destroy_timer(self._timer)
        self._unsubscribe()
        self._worker.close()

    def _look(self) -> None:
        """Depth that nobody needs is not even received."""
        try:
            self._follow()
        except TopicError as error:
            self._unsubscribe()
            self._report(f"points left out: {error}")

    def _follow(self) -> None:
        if not self.wanted:
            self._unsubscribe()
        elif not self._subscriptions and self._depth is not None:
            self._listen(CameraInfo, self._values.calibration, self._depth.camera_info_came)
            self._listen(Image, self._values.depth, self._worker.add)
        elif not self._subscriptions:
            self._listen(PointCloud2, self._values.cloud, self._worker.add)

    def _listen(self, kind: Any, topic: str, callback: Callable[[bytes], None]) -> None:
        self._subscriptions.append(self._subscribe(kind, topic, callback))

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
