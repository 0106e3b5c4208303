"""SegmentationNode: lifecycle, parameters, the model, and the cameras it serves. What is of one camera is in `camera.py`.

    unconfigured --configure--> inactive (model loaded and warm) --activate--> active (subscribed, publishing)

A configure that fails says why in one line, on the log and on /diagnostics, and leaves the node up and unconfigured;
put right what is wrong (`ros2 param set`) and configure again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from seg_perception.classes import ClassMap, read_class_map, unchanged
from seg_perception.engines.base import EngineError
from seg_perception.model.model_file import ModelInfo, read_model_info
from seg_perception.ros import parameter_values
from seg_perception.ros.build_reports import BuildReports
from seg_perception.ros.camera import Camera, CameraMailbox
from seg_perception.ros.capture_service import CaptureService
from seg_perception.ros.diagnostics import NodeState, diagnostic_status
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.model_loader import ModelLoader
from seg_perception.ros.model_slot import ModelSlot
from seg_perception.ros.parameter_values import NodeParameters
from seg_perception.ros.parameters import PARAMETERS
from seg_perception.ros.transitions import refuse_what_is_not_allowed
from seg_perception.ros.worker import Worker
from seg_perception.segmenter import Segmenter
from seg_perception.share import share_path

SHIPPED_MODEL = "models/rooms_spt_lite0.onnx"


class SegmentationNode(LifecycleNode):
    """Segments the images of one camera or several; see docs/parameters.md and the topic table in docs/node.md."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__("segmentation", **arguments)
        self._problems = parameter_values.declare(self)
        names = parameter_values.camera_names(self)
        self._problems |= parameter_values.declare_cameras(self, names)
        self._problem = "; ".join(self._problems.values())
        self.add_on_set_parameters_callback(self._check_parameters)
        self._values = parameter_values.read(self, names)
        self._refreshing = False
        self._lifecycle = "unconfigured"
        self._slot: ModelSlot | None = None
        self._asked = self._loaded = self._values  # of the model made last, and of the one in the slot
        self._asked_classes: ClassMap | None = None
        self._putting_back = False
        self._build: BuildReports | None = None  # while configure may be building
        self._mailbox: CameraMailbox | None = None
        self._worker: Worker | None = None
        refuse_what_is_not_allowed(self)
        self._loader = ModelLoader(self, self)
        self._capture = CaptureService(self, self._values)
        self._cameras = self._made_cameras()
        # Diagnostics come in every state and on a clock that runs even where simulated time stands still.
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._diagnostics_timer = self.create_timer(
            self._values.diagnostics_period_s, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and make the publishers."""
        try:
            self._refresh_parameters()
            if self._problems:
                raise ValueError("; ".join(self._problems.values()))
            segmenter = self.make_segmenter()
            assert self._asked_classes is not None
            for camera in self._cameras:
                camera.configure(self._values.cameras[camera.name], segmenter.info, self._asked_classes)
            segmenter.open()
            warm_ms = segmenter.warm_up()
        except (ValueError, OSError, EngineError) as error:
            for camera in self._cameras:
                camera.release()
            self._problem = " ".join(str(error).split())
            self.get_logger().error(f"cannot configure: {self._problem}")
            return TransitionCallbackReturn.FAILURE
        finally:
            self._build = None
        self._problem = ""
        self._slot, self._loaded = ModelSlot(segmenter), self._asked
        self._lifecycle = "inactive"
        self.get_logger().info(
            f"configured: model {segmenter.info.name}, {segmenter.engine_description}, {warm_ms:.1f} ms an image"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        result = super().on_activate(state)
        assert self._slot is not None
        self._mailbox = Mailbox()
        self._worker = Worker(self._mailbox, self._slot)
        self._worker.start()
        for camera in self._cameras:
            camera.start(self._mailbox)
        self._lifecycle = "active"
        topics = [camera.image_topic for camera in self._cameras if camera.values.enabled]
        self.get_logger().info(f"active: listening to {', '.join(topics) or 'no camera, all are disabled'}")
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
        """As the parameters ask for; not open. Raises what `Segmenter` does, and ClassMapError."""
        self._refresh_parameters()
        values = self._values
        self._build = BuildReports(self.get_logger().info, self._publish_diagnostics)
        model = values.model or share_path(SHIPPED_MODEL)
        segmenter = Segmenter(model, values.engine, values.threads, values.precision, values.tensorrt, self._build)
        self._asked_classes = _class_map(values, segmenter.info)
        self._asked = values
        return segmenter

    def prepare_model(self, segmenter: Segmenter) -> None:
        """Make the publishers that a model needs and the one before has not."""
        assert self._asked_classes is not None
        for camera in self._cameras:
            camera.prepare_model(segmenter.info, self._asked_classes)

    def begin_model(self, segmenter: Segmenter) -> None:
        """Between two frames: its labels' names go out before its first mask."""
        for camera in self._cameras:
            camera.begin_model()

    def model_loaded(self, segmenter: Segmenter) -> None:
        """Let go of what belonged to the model before."""
        for camera in self._cameras:
            camera.model_loaded()
        self._loaded, self._build = self._asked, None

    def model_refused(self) -> None:
        """Let go of what was prepared, and put the parameters back to what serves."""
        self._build = None
        for camera in self._cameras:
            camera.model_refused()
        if self._slot is None:
            return  # cleaned up meanwhile: what is asked for is for the next configure
        self._refresh_parameters()
        names = [p.name for p in PARAMETERS if p.loadable]
        back = [n for n in names if getattr(self._values, n) != getattr(self._loaded, n)]
        if back:
            self._putting_back = True
            self.set_parameters([Parameter(name, value=getattr(self._loaded, name)) for name in back])
            self._putting_back = False

    def _stop(self, timeout_s: float | None = None) -> None:
        for camera in self._cameras:
            camera.stop()
        if self._mailbox is not None and self._worker is not None:
            self._mailbox.close()
            if not self._worker.join(timeout_s):
                return
        for camera in self._cameras:
            camera.forget()
        self._mailbox = self._worker = None

    def _release(self) -> None:
        for camera in self._cameras:
            camera.release()
        if self._slot is not None:
            self._slot.close().close()
        self._slot = None
        self._lifecycle = "unconfigured"

    # Parameters

    def _made_cameras(self) -> list[Camera]:
        return [Camera(self, name, values, self._capture.buffer) for name, values in self._values.cameras.items()]

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        problem = parameter_values.problem_with(changes, self._slot is not None) or self._problem_with_model(changes)
        if problem:
            return SetParametersResult(successful=False, reason=problem)
        for change in changes:
            self._problems.pop(change.name, None)
        # The change is stored after this callback; the copies that are worked with follow in the next cycle.
        if self.executor is not None and not self._refreshing:
            self._refreshing = True
            self.executor.create_task(self._refresh_parameters)
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
        self._refreshing = False
        names = parameter_values.camera_names(self)
        if names != tuple(self._values.cameras):
            self._change_cameras(names)
        before, self._values = self._values, parameter_values.read(self, names)
        following = parameter_values.followers(before, self._values)
        if following:
            self.set_parameters([Parameter(name, value=value) for name, value in following])
            self._values = parameter_values.read(self, names)
        for camera in self._cameras:
            camera.refresh(self._values.cameras[camera.name])
        if self._slot is not None and before.confidence_threshold != self._values.confidence_threshold:
            for camera in self._cameras:
                camera.change_threshold(self._values.confidence_threshold)
        self._capture.refresh(self._values)
        self._diagnostics_timer.timer_period_ns = round(1e9 * self._values.diagnostics_period_s)

    def _change_cameras(self, names: tuple[str, ...]) -> None:
        """Others than before, while the node is not configured."""
        for camera in self._cameras:
            camera.destroy()
        for gone in parameter_values.undeclare_cameras(self, tuple(self._values.cameras)):
            self._problems.pop(gone, None)
        self._problems |= parameter_values.declare_cameras(self, names)
        self._values = parameter_values.read(self, names)
        self._cameras = self._made_cameras()

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray(status=[self._status(camera) for camera in self._cameras])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self._capture.diagnosed(message)

    def _status(self, camera: Camera) -> DiagnosticStatus:
        model = engine = engine_problem = ""
        if self._slot is not None:
            segmenter = self._slot.segmenter
            model, engine, engine_problem = segmenter.info.name, segmenter.engine_description, segmenter.engine_problem
        state = NodeState(
            lifecycle=self._lifecycle,
            problem=self._problem,
            image_topic=camera.image_topic,
            model=model,
            engine=engine,
            stale_after_s=camera.values.stale_after_s,
            late_after_ms=camera.values.late_after_ms,
            engine_problem=engine_problem,
            busy=self._loader.busy or ("" if self._build is None else self._build.state),
            enabled=camera.values.enabled,
        )
        name = self.get_fully_qualified_name()
        summary = None if camera.statistics is None else camera.statistics.summary()
        return diagnostic_status(f"{name}: {camera.name}" if camera.name else name, state, summary)


def _class_map(values: NodeParameters, info: ModelInfo) -> ClassMap:
    """The robot's classes of a model's. Raises ClassMapError."""
    settings = (info.class_names, info.palette, values.confidence_threshold, values.foreground)
    return read_class_map(values.classes, *settings) if values.classes else unchanged(*settings)
