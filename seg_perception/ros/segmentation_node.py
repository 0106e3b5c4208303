"""SegmentationNode: lifecycle, parameters and topics around `Segmenter`. Nothing else is in here.

    unconfigured --configure--> inactive (model loaded and warm) --activate--> active (subscribed, publishing)

A configure that fails says why in one line, on the log and on /diagnostics, and leaves the node up and unconfigured;
put right what is wrong (`ros2 param set`) and configure again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.engines.base import EngineError
from seg_perception.ros import parameters
from seg_perception.ros.build_reports import BuildReports
from seg_perception.ros.diagnostics import NodeState, diagnostic_status
from seg_perception.ros.frame_decoder import FrameDecoder
from seg_perception.ros.frame_statistics import FrameStatistics
from seg_perception.ros.label_info import label_info_message
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.worker import Frame, Outputs, Worker
from seg_perception.segmenter import Segmenter
from seg_perception.share import share_path

SHIPPED_MODEL = "models/rooms_spt_lite0.onnx"
REPORT_INTERVAL_S = 10.0  # the same error is logged at most this often

# Masks are small and each one counts; depth lets a slow subscriber lag without blocking the publisher.
OUTPUT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OVERRIDABLE = QoSOverridingOptions.with_default_policies()
_NUMBERS = re.compile(r"\b[0-9a-f]{2}( [0-9a-f]{2})+\b|\d+")


class SegmentationNode(LifecycleNode):
    """Segments one camera's images; see docs/parameters.md and the topic table in the README."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__("segmentation", **arguments)
        self._problems = parameters.declare(self)
        self._problem = "; ".join(self._problems.values())
        self.add_on_set_parameters_callback(self._check_parameters)
        self._values = parameters.read(self)
        self._lifecycle = "unconfigured"
        self._segmenter: Segmenter | None = None
        self._build: BuildReports | None = None  # while configure may be building
        self._outputs: Outputs | None = None
        self._label_info: Any = None
        self._camera_info: Any = None
        self._camera_subscriptions: list[Any] = []
        self._mailbox: Mailbox[Frame] | None = None
        self._worker: Worker | None = None
        self._statistics: FrameStatistics | None = None
        self._reported: dict[str, tuple[float, int]] = {}
        self._refuse_what_is_not_allowed()
        # Diagnostics come in every state and on a clock that runs even where simulated time stands still.
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._diagnostics_timer = self.create_timer(
            self._values.diagnostics_period_s, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and make the publishers."""
        try:
            if self._problems:
                raise ValueError("; ".join(self._problems.values()))
            self._values = parameters.read(self)
            if not self._values.image:
                raise ValueError("parameter image is empty, expected the topic of the camera images")
            model = self._values.model or share_path(SHIPPED_MODEL)
            self._build = BuildReports(self.get_logger().info, self._publish_diagnostics)
            values = self._values
            segmenter = Segmenter(model, values.engine, values.threads, values.precision, values.tensorrt, self._build)
            segmenter.open()
            warm_ms = segmenter.warm_up()
        except (ValueError, OSError, EngineError) as error:
            self._problem = " ".join(str(error).split())
            self.get_logger().error(f"cannot configure: {self._problem}")
            return TransitionCallbackReturn.FAILURE
        finally:
            self._build = None
        self._problem = ""
        self._segmenter = segmenter
        self._make_publishers(segmenter)
        self._lifecycle = "inactive"
        self.get_logger().info(
            f"configured: model {segmenter.info.name}, {segmenter.engine_description}, {warm_ms:.1f} ms an image"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        result = super().on_activate(state)
        assert self._segmenter is not None
        assert self._outputs is not None
        compressed = self._values.compressed
        self._mailbox = Mailbox()
        self._statistics = FrameStatistics()
        self._worker = Worker(
            self._mailbox,
            self._segmenter,
            self._outputs,
            FrameDecoder(compressed, self._values.max_image_pixels),
            self._statistics,
            lambda: self._values.overlay_alpha,
            lambda: self.get_clock().now().nanoseconds,
            self._report,
        )
        self._worker.start()
        self._camera_subscriptions = [
            # Raw: an image that a newer one overtakes is never deserialized, and the callback stays cheap.
            self.create_subscription(
                CompressedImage if compressed else Image,
                self._values.image,
                self._on_image,
                qos_profile_sensor_data,
                raw=True,
                qos_overriding_options=OVERRIDABLE,
            )
        ]
        if self._camera_info is not None:
            self._camera_subscriptions.append(
                self.create_subscription(
                    CameraInfo,
                    self._values.camera_info,
                    self._camera_info.publish,
                    qos_profile_sensor_data,
                    raw=True,
                    qos_overriding_options=OVERRIDABLE,
                )
            )
        self._label_info.publish(label_info_message(self._segmenter.info, self.get_clock().now().to_msg()))
        self._lifecycle = "active"
        self.get_logger().info(f"active: listening to {self._camera_subscriptions[0].topic_name}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and let the worker finish the image in hand."""
        self._stop()
        self._lifecycle = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free model and publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup, from any state."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected error in a transition: back to unconfigured, ready for another try."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def autostart(self, stopping: Callable[[], bool]) -> None:
        """Configure and activate, as a lifecycle manager would, if the parameter says so and nobody stops it."""
        if not self._values.autostart or self.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            return
        if not stopping():
            self.trigger_activate()

    def close(self, timeout_s: float) -> None:
        """Stop the worker; for the end of the process.

        Args:
            timeout_s: to wait for the image in hand; what takes longer is left to the end of the process.
        """
        self._stop(timeout_s)
        if not self.is_working:
            self._release()

    @property
    def is_working(self) -> bool:
        """Whether the worker has an image in hand, also after it was stopped."""
        return self._worker is not None and self._worker.is_alive

    # Parts of the transitions

    def _refuse_what_is_not_allowed(self) -> None:
        """Answer a transition that the present state does not have, as one that failed.

        rclpy raises it out of the executor instead, and never answers (ros2/rclpy issue 1209).
        """
        service = self._service_change_state
        change_state = service.callback

        def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            try:
                return change_state(request, response)
            except Exception as error:
                asked = request.transition.label or f"with id {request.transition.id}"
                allowed = ", ".join(f"{t[1]} ({t[0]})" for t in self._state_machine.available_transitions)
                self.get_logger().warning(
                    f"transition {asked} refused: the node is {self._state_machine.current_state[1]}, expected one of: "
                    f"{allowed}; {' '.join(str(error).split())}"
                )
                response.success = False
                return response

        service.callback = answer

    def _make_publishers(self, segmenter: Segmenter) -> None:
        def publisher(kind: Any, topic: str, qos: QoSProfile = OUTPUT_QOS) -> Any:
            return self.create_lifecycle_publisher(kind, topic, qos, qos_overriding_options=OVERRIDABLE)

        self._outputs = Outputs(
            labels=publisher(Image, "~/labels"),
            confidence=publisher(Image, "~/confidence"),
            superpixels=publisher(Image, "~/superpixels") if segmenter.info.has_superpixels else None,
            overlay=publisher(Image, "~/overlay"),
        )
        info = label_info_message(segmenter.info, self.get_clock().now().to_msg())
        self._label_info = publisher(type(info), "~/label_info", LATCHED_QOS)
        self._camera_info = publisher(CameraInfo, "~/camera_info") if self._values.camera_info else None

    def _stop(self, timeout_s: float | None = None) -> None:
        for subscription in self._camera_subscriptions:
            self.destroy_subscription(subscription)
        self._camera_subscriptions = []
        if self._mailbox is not None and self._worker is not None:
            self._mailbox.close()
            if not self._worker.join(timeout_s):
                return
        self._mailbox = self._worker = self._statistics = None

    def _release(self) -> None:
        if self._outputs is not None:
            outputs = self._outputs
            publishers = (outputs.labels, outputs.confidence, outputs.superpixels, outputs.overlay)
            for publisher in (*publishers, self._label_info, self._camera_info):
                if publisher is not None:
                    self.destroy_publisher(publisher)
        self._outputs = self._label_info = self._camera_info = None
        if self._segmenter is not None:
            self._segmenter.close()
        self._segmenter = None
        self._lifecycle = "unconfigured"

    # Callbacks

    def _on_image(self, serialized: bytes) -> None:
        if self._mailbox is not None and self._statistics is not None:
            self._statistics.arrived(self._mailbox.put(Frame(serialized, perf_counter())))

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        problem = parameters.problem_with(changes, self._segmenter is not None)
        if problem:
            return SetParametersResult(successful=False, reason=problem)
        for change in changes:
            self._problems.pop(change.name, None)
        # The change is stored after this callback; the copy that the worker reads follows in the next cycle.
        self.executor.create_task(self._refresh_parameters) if self.executor else self._refresh_parameters()
        return SetParametersResult(successful=True)

    def _refresh_parameters(self) -> None:
        self._values = parameters.read(self)
        self._diagnostics_timer.timer_period_ns = round(1e9 * self._values.diagnostics_period_s)

    def _report(self, error: str) -> None:
        """Log an error, of one kind at most every REPORT_INTERVAL_S with the number left out in between."""
        now = monotonic()
        kind = _NUMBERS.sub("#", error)  # sizes and bytes differ from image to image
        last, left_out = self._reported.get(kind, (-REPORT_INTERVAL_S, 0))
        if now - last < REPORT_INTERVAL_S:
            self._reported[kind] = (last, left_out + 1)
            return
        if len(self._reported) > 100:  # messages that differ each time must not fill the memory
            self._reported.clear()
        self._reported[kind] = (now, 0)
        more = f" ({left_out} more like it)" if left_out else ""
        self.get_logger().error(f"{self._values.image}: image left out: {error}{more}")

    def _image_topic(self) -> str:
        """Resolved; empty where the parameter names none."""
        if not self._values.image or "image" in self._problems:
            return ""
        return str(self.resolve_topic_name(self._values.image))

    def _publish_diagnostics(self) -> None:
        model = engine = engine_problem = ""
        if self._segmenter is not None:
            model, engine = self._segmenter.info.name, self._segmenter.engine_description
            engine_problem = self._segmenter.engine_problem
        state = NodeState(
            lifecycle=self._lifecycle,
            problem=self._problem,
            image_topic=self._image_topic(),
            model=model,
            engine=engine,
            stale_after_s=self._values.stale_after_s,
            late_after_ms=self._values.late_after_ms,
            engine_problem=engine_problem,
            busy="" if self._build is None else self._build.state,
        )
        summary = None if self._statistics is None else self._statistics.summary()
        message = DiagnosticArray(status=[diagnostic_status(self.get_fully_qualified_name(), state, summary)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
