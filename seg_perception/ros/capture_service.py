"""The service `~/save_capture`, what it keeps of the node's topics, and the captures that an error makes by itself."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.serialization import serialize_message
from rclpy.task import Future
from std_srvs.srv import Trigger

from seg_perception.capture import CaptureBuffer, CaptureError, CaptureWriter, Channel
from seg_perception.ros.parameter_values import NodeParameters

ERROR_EVENT = "error"
DIAGNOSTICS = Channel("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")


def channel(topic: str, kind: type, reliable: bool = True, latched: bool = False) -> Channel:
    """The channel of a topic by its resolved name and message class."""
    return Channel(topic, f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}", reliable, latched)


class TappedPublisher:
    """A publisher of serialized messages, or of message objects, whose messages are kept, too.

    Args:
        publisher: of rclpy.
        buffer: keeps them while it is enabled; a latched topic's always.
        latched: whether the publisher's last message goes to late subscribers.
    """

    def __init__(self, publisher: Any, buffer: CaptureBuffer, latched: bool = False) -> None:
        self.publisher = publisher
        self._buffer = buffer
        self._channel = channel(publisher.topic_name, publisher.msg_type, latched=latched)

    def publish(self, message: Any) -> None:
        """Publish it, then keep it."""
        self.publisher.publish(message)
        if self._buffer.enabled or self._channel.latched:
            self._buffer.add(self._channel, message if isinstance(message, bytes) else serialize_message(message))

    def get_subscription_count(self) -> int:
        """How many subscribe; as of rclpy's publishers."""
        count: int = self.publisher.get_subscription_count()
        return count


class CaptureService:
    """The node's capture: buffer, service, and what happens when diagnostics turn to error.

    Args:
        node: that the service is on.
        values: the parameters at the start.

    Attributes:
        buffer: what passes is added to.
    """

    def __init__(self, node: LifecycleNode, values: NodeParameters) -> None:
        self.buffer = CaptureBuffer(0, 0.0)
        self._node = node
        self._writer = CaptureWriter(self.buffer, node.get_fully_qualified_name().strip("/").replace("/", "_"))
        self._in_error: set[str] = set()
        self._saved_s = -float("inf")
        self._values = values
        self.refresh(values)
        # In the node's own group an answer that takes seconds would hold up every other callback.
        node.create_service(Trigger, "~/save_capture", self._save, callback_group=ReentrantCallbackGroup())

    def refresh(self, values: NodeParameters) -> None:
        """The parameters' present values."""
        before, self._values = self._values, values
        if before is values or (before.capture_mb, before.capture_s) != (values.capture_mb, values.capture_s):
            self.buffer.limit(values.capture_mb * 1_000_000, values.capture_s)

    def diagnosed(self, message: DiagnosticArray) -> None:
        """Diagnostics went out: kept, and where they turned to error, the capture is saved if the parameters say so."""
        if not self.buffer.enabled:
            return
        self.buffer.add(DIAGNOSTICS, serialize_message(message))
        # Of several cameras one may be in error for long, and another turn to it.
        in_error = {status.name for status in message.status if status.level == DiagnosticStatus.ERROR}
        turned, self._in_error = in_error - self._in_error, in_error
        if not turned or not self._values.capture_on_error:
            return
        if monotonic() - self._saved_s < self._values.capture_pause_s or self._writer.busy:
            return
        self._saved_s = monotonic()
        log, names = self._node.get_logger(), ", ".join(sorted(turned))
        try:
            self._writer.save(
                self._folder(),
                lambda path, said: log.info(f"diagnostics turned to error ({names}), saved {said}") if path else None,
                ERROR_EVENT,
                self._values.capture_files,
            )
        except CaptureError as error:
            log.error(f"capture not saved: {error}")

    async def _save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        executor = self._node.executor
        assert executor is not None  # this runs in it
        answer = Future(executor=executor)

        def done(path: Path | None, said: str) -> None:
            executor.create_task(answer.set_result, (path, said))

        try:
            self._writer.save(self._folder(), done)
        except CaptureError as error:
            response.message = str(error)
            return response
        path, response.message = await answer
        response.success = path is not None
        return response

    def _folder(self) -> Path:
        if self._values.capture_folder:
            return Path(self._values.capture_folder).expanduser()
        return Path(os.environ.get("ROS_HOME") or Path.home() / ".ros") / "captures"
