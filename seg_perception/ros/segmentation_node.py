"""SegmentationNode: lifecycle, parameters and topics around `Segmenter`. Nothing else is in here.

    unconfigured --configure--> inactive (model loaded and warm) --activate--> active (subscribed, publishing)

A configure that fails says why in one line, on the log and on /diagnostics, and leaves the node up and unconfigured;
put right what is wrong (`ros2 param set`) and configure again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
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

from seg_perception.capture import Channel
from seg_perception.engines.base import EngineError
from seg_perception.model.model_file import read_model_info
from seg_perception.ros import parameters
from seg_perception.ros.build_reports import BuildReports
from seg_perception.ros.capture_service import CaptureService, TappedPublisher, channel
from seg_perception.ros.diagnostics import NodeState, diagnostic_status
from seg_perception.ros.frame_decoder import FrameDecoder
from seg_perception.ros.frame_statistics import FrameStatistics
from seg_perception.ros.label_info import label_info_message
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.model_loader import ModelLoader
from seg_perception.ros.model_slot import ModelSlot
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
        self._slot: ModelSlot | None = None
        self._asked = self._loaded = self._values  # of the model made last, and of the one in the slot
        self._putting_back = False
        self._build: BuildReports | None = None  # while configure may be building
        self._outputs: Outputs | None = None
        self._next_outputs: Outputs | None = None  # of a model on its way in
        self._label_info: Any = None
        self._camera_info: Any = None
        self._camera_subscriptions: list[Any] = []
        self._image_channel: Channel | None = None
        self._mailbox: Mailbox[Frame] | None = None
        self._worker: Worker | None = None
        self._statistics: FrameStatistics | None = None
        self._reported: dict[str, tuple[float, int]] = {}
        self._refuse_what_is_not_allowed()
        self._loader = ModelLoader(self, self)
        self._capture = CaptureService(self, self._values)
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
            segmenter = self.make_segmenter()
            segmenter.open()
            warm_ms = segmenter.warm_up()
        except (ValueError, OSError, EngineError) as error:
            self._problem = " ".join(str(error).split())
            self.get_logger().error(f"cannot configure: {self._problem}")
            return TransitionCallbackReturn.FAILURE
        finally:
            self._build = None
        self._problem = ""
        self._slot, self._loaded = ModelSlot(segmenter), self._asked
        self._make_publishers(segmenter)
        self._lifecycle = "inactive"
        self.get_logger().info(
            f"configured: model {segmenter.info.name}, {segmenter.engine_description}, {warm_ms:.1f} ms an image"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        result = super().on_activate(state)
        assert self._slot is not None
        assert self._outputs is not None
        compressed = self._values.compressed
        self._mailbox = Mailbox()
        self._statistics = FrameStatistics()
        self._worker = Worker(
            self._mailbox,
            self._slot,
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
        image_topic = self._camera_subscriptions[0].topic_name
        self._image_channel = channel(image_topic, CompressedImage if compressed else Image, reliable=False)
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
        self._publish_label_info(self._slot.segmenter)
        self._lifecycle = "active"
        self.get_logger().info(f"active: listening to {image_topic}")
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

    # What the model loader asks for

    @property
    def slot(self) -> ModelSlot | None:
        """The model that serves; None while unconfigured."""
        return self._slot

    def make_segmenter(self) -> Segmenter:
        """As the parameters ask for; not open. Raises what `Segmenter` does."""
        values = parameters.read(self)
        self._build = BuildReports(self.get_logger().info, self._publish_diagnostics)
        model = values.model or share_path(SHIPPED_MODEL)
        segmenter = Segmenter(model, values.engine, values.threads, values.precision, values.tensorrt, self._build)
        self._asked = values
        return segmenter

    def prepare_model(self, segmenter: Segmenter) -> None:
        """Make the publishers that a model needs and the one before has not."""
        assert self._outputs is not None
        superpixels = self._outputs.superpixels
        if not segmenter.info.has_superpixels:
            superpixels = None
        elif superpixels is None:
            superpixels = self._output(Image, "~/superpixels")
        self._next_outputs = replace(self._outputs, superpixels=superpixels)

    def begin_model(self, segmenter: Segmenter) -> None:
        """Between two frames: its labels' names go out before its first mask."""
        self._publish_label_info(segmenter)
        if self._worker is not None and self._next_outputs is not None:
            self._worker.publish_to(self._next_outputs)

    def model_loaded(self, segmenter: Segmenter) -> None:
        """Let go of what belonged to the model before."""
        before, self._outputs, self._next_outputs = self._outputs, self._next_outputs, None
        if self._worker is not None and self._outputs is not None:
            self._worker.publish_to(self._outputs)  # where it was started after `begin_model`
        self._destroy_outputs(before, keep=self._outputs)
        self._loaded, self._build = self._asked, None

    def model_refused(self) -> None:
        """Let go of what was prepared, and put the parameters back to what serves."""
        unused, self._next_outputs, self._build = self._next_outputs, None, None
        self._destroy_outputs(unused, keep=self._outputs)
        if self._slot is None:
            return  # cleaned up meanwhile: what is asked for is for the next configure
        names = [p.name for p in parameters.PARAMETERS if p.loadable]
        present = parameters.read(self)
        back = [n for n in names if getattr(present, n) != getattr(self._loaded, n)]
        if back:
            self._putting_back = True
            self.set_parameters([Parameter(name, value=getattr(self._loaded, name)) for name in back])
            self._putting_back = False

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

    def _output(self, kind: Any, topic: str, qos: QoSProfile = OUTPUT_QOS) -> TappedPublisher:
        publisher = self.create_lifecycle_publisher(kind, topic, qos, qos_overriding_options=OVERRIDABLE)
        if self._lifecycle == "active":
            publisher.on_activate(None)  # one that comes late misses the transition
        latched = qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
        return TappedPublisher(publisher, self._capture.buffer, latched)

    def _make_publishers(self, segmenter: Segmenter) -> None:
        self._outputs = Outputs(
            labels=self._output(Image, "~/labels"),
            confidence=self._output(Image, "~/confidence"),
            superpixels=self._output(Image, "~/superpixels") if segmenter.info.has_superpixels else None,
            overlay=self._output(Image, "~/overlay"),
        )
        info = label_info_message(segmenter.info, self.get_clock().now().to_msg())
        self._label_info = self._output(type(info), "~/label_info", LATCHED_QOS)
        self._camera_info = self._output(CameraInfo, "~/camera_info") if self._values.camera_info else None

    def _publish_label_info(self, segmenter: Segmenter) -> None:
        self._label_info.publish(label_info_message(segmenter.info, self.get_clock().now().to_msg()))

    def _destroy_outputs(self, outputs: Outputs | None, keep: Outputs | None = None) -> None:
        """Those of `outputs` that are not among `keep`."""
        kept = [] if keep is None else list(vars(keep).values())
        for output in [] if outputs is None else vars(outputs).values():
            if output is not None and output not in kept:
                self.destroy_lifecycle_publisher(output.publisher)

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
        self._destroy_outputs(self._outputs)
        for publisher in (self._label_info, self._camera_info):
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher.publisher)
        self._outputs = self._label_info = self._camera_info = None
        if self._slot is not None:
            self._slot.close().close()
        self._slot = None
        self._lifecycle = "unconfigured"

    # Callbacks

    def _on_image(self, serialized: bytes) -> None:
        if self._capture.buffer.enabled and self._image_channel is not None:
            self._capture.buffer.add(self._image_channel, serialized)
        if self._mailbox is not None and self._statistics is not None:
            self._statistics.arrived(self._mailbox.put(Frame(serialized, perf_counter())))

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        problem = parameters.problem_with(changes, self._slot is not None) or self._problem_with_model(changes)
        if problem:
            return SetParametersResult(successful=False, reason=problem)
        for change in changes:
            self._problems.pop(change.name, None)
        # The change is stored after this callback; the copy that the worker reads follows in the next cycle.
        self.executor.create_task(self._refresh_parameters) if self.executor else self._refresh_parameters()
        return SetParametersResult(successful=True)

    def _problem_with_model(self, changes: list[Parameter]) -> str:
        """Why `~/load_model` could not load what is set now, as far as the file's head says; empty if nothing is known."""
        if self._slot is None or self._putting_back:
            return ""
        for change in changes:
            if change.name == "model":
                try:
                    read_model_info(change.value or share_path(SHIPPED_MODEL))
                except (ValueError, OSError) as error:
                    return " ".join(str(error).split())
        return ""

    def _refresh_parameters(self) -> None:
        self._values = parameters.read(self)
        self._capture.refresh(self._values)
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
        if self._slot is not None:
            segmenter = self._slot.segmenter
            model, engine, engine_problem = segmenter.info.name, segmenter.engine_description, segmenter.engine_problem
        state = NodeState(
            lifecycle=self._lifecycle,
            problem=self._problem,
            image_topic=self._image_topic(),
            model=model,
            engine=engine,
            stale_after_s=self._values.stale_after_s,
            late_after_ms=self._values.late_after_ms,
            engine_problem=engine_problem,
            busy=self._loader.busy or ("" if self._build is None else self._build.state),
        )
        summary = None if self._statistics is None else self._statistics.summary()
        message = DiagnosticArray(status=[diagnostic_status(self.get_fully_qualified_name(), state, summary)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self._capture.diagnosed(message)
