"""SegmentationNode: lifecycle, parameters, the model, and the cameras it serves. What is of one camera is in `camera.py`.

    unconfigured --configure--> inactive (model loaded and warm) --activate--> active (subscribed, publishing)

A configure that fails says why in one line, on the log and on /diagnostics, and leaves the node up and unconfigured;
put right what is wrong (`ros2 param set`) and configure again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from seg_perception.classes import ClassMap, read_class_map, unchanged
from seg_perception.engines.base import EngineError
from seg_perception.machine_watch import MachineWatch
from seg_perception.model.model_file import ModelInfo
from seg_perception.ros.background import telling_how_long
from seg_perception.ros.build_reports import BuildReports
from seg_perception.ros.camera import Camera
from seg_perception.ros.camera_status import CameraStatuses, Present
from seg_perception.ros.capture_service import CaptureService
from seg_perception.ros.engine_opening import OpeningHangsError, open_in_time
from seg_perception.ros.guarded_node import Limits
from seg_perception.ros.live_parameters import LiveParameters
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.model_loader import ModelLoader
from seg_perception.ros.model_slot import ModelSlot
from seg_perception.ros.parameter_values import NodeParameters
from seg_perception.ros.topic_match import TopicMatch
from seg_perception.ros.transitions import refuse_what_is_not_allowed, told
from seg_perception.ros.worker import CameraMailbox
from seg_perception.ros.worker_guard import WorkerGuard
from seg_perception.segmenter import Segmenter


@dataclass(frozen=True)
class Origin:
    """What a segmenter was made with.

    Attributes:
        values: parameters that stand for it while it serves.
        classes: the robot's, of its model's.
    """

    values: NodeParameters
    classes: ClassMap


class SegmentationNode(LifecycleNode):
    """Segments the images of one camera or several; see docs/parameters.md and the topic table in docs/node.md."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__("segmentation", **arguments)
        self._settings = LiveParameters(self, lambda: self._slot is not None, self._parameters_changed)
        self._problem = self._settings.problem
        self._lifecycle = "unconfigured"
        self._slot: ModelSlot | None = None
        self._loaded = self._settings.values  # of the model in the slot
        # Several may be on their way, one that is loaded and one that is started anew.
        self._origins: WeakKeyDictionary[Segmenter, Origin] = WeakKeyDictionary()
        self._build: BuildReports | None = None  # while configure may be building
        self._mailbox: CameraMailbox | None = None
        self._guard = WorkerGuard(self, self, self._limits)
        self._match = TopicMatch(self)
        machine = MachineWatch()
        machine.start()
        self._statuses = CameraStatuses(self, self._guard, machine, self._match)
        refuse_what_is_not_allowed(self)
        self._loader = ModelLoader(self, self)
        self._capture = CaptureService(self, self._settings.values)
        self._cameras = self._made_cameras()
        # Diagnostics come in every state and on a clock that runs even where simulated time stands still.
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._diagnostics_timer = self.create_timer(
            self._settings.values.diagnostics_period_s,
            self._publish_diagnostics,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    # Transitions

    @told("configure")
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and make the publishers."""
        try:
            self._settings.refresh()
            if self._settings.problem:
                raise ValueError(self._settings.problem)
            segmenter = self.make_segmenter()
            origin = self._origins[segmenter]
            for camera in self._cameras:
                camera.configure(self._settings.values.cameras[camera.name], segmenter.info, origin.classes)
            warm_ms = self._open(segmenter)
        except (ValueError, OSError, EngineError) as error:
            for camera in self._cameras:
                camera.release()
            self.tell("configure", error)
            return TransitionCallbackReturn.FAILURE
        finally:
            self._build = None
        self._problem = ""
        self._slot, self._loaded = ModelSlot(segmenter), origin.values
        self._guard.configured(self._slot, origin.values.engine)
        self._lifecycle = "inactive"
        self.get_logger().info(
            f"configured: model {segmenter.info.name}, {segmenter.engine_description}, {warm_ms:.1f} ms an image"
        )
        return TransitionCallbackReturn.SUCCESS

    @told("activate")
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the device again where deactivate has given it back, subscribe, and start the worker."""
        assert self._slot is not None
        segmenter = self._slot.segmenter
        try:
            if not segmenter.is_open and not self._guard.engine_is_in_use:
                self._open(segmenter)
        except (ValueError, OSError, EngineError) as error:
            self.tell("activate", error)
            return TransitionCallbackReturn.FAILURE
        result = super().on_activate(state)
        self._mailbox = Mailbox()
        try:
            for camera in self._cameras:
                camera.start(self._mailbox)
        except ValueError as error:
            self._stop()
            super().on_deactivate(state)
            self.tell("activate", error)
            return TransitionCallbackReturn.FAILURE
        self._guard.start(self._mailbox)
        self._problem = ""
        self._lifecycle = "active"
        topics = [camera.image_topic for camera in self._cameras if camera.values.enabled]
        self.get_logger().info(f"active: listening to {', '.join(topics) or 'no camera, all are disabled'}")
        return result

    @told("deactivate")
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, let the worker finish the image in hand, if that is soon, and give the memory of a GPU back."""
        self._stop()
        self._lifecycle = "inactive"
        if self._slot is not None and not self._guard.engine_is_in_use:
            self._slot.segmenter.release_device()
        return super().on_deactivate(state)

    @told("clean up")
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free model and publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @told("shut down")
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup, from any state."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @told("recover")
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected error in a transition: back to unconfigured, ready for another try."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def tell(self, doing: str, error: BaseException) -> None:
        """That something could not be done, on the log and in the diagnostics."""
        said = " ".join(str(error).split())
        expected = isinstance(error, ValueError | OSError | EngineError)
        self._problem = said if expected else f"unexpected {type(error).__name__}: {said}"
        self.get_logger().error(f"cannot {doing}: {self._problem}")

    def autostart(self, stopping: Callable[[], bool]) -> None:
        """Configure and activate, as a lifecycle manager would, if the parameter says so and nobody stops it."""
        if not self._settings.values.autostart or self.trigger_configure() != TransitionCallbackReturn.SUCCESS:
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
        """Whether a worker has an image in hand, also one that was stopped or hangs."""
        return self._guard.is_working

    # What the model loader asks for

    @property
    def slot(self) -> ModelSlot | None:
        """The model that serves; None while unconfigured, or while its engine is started anew."""
        return None if self._guard.is_paused else self._slot

    def make_segmenter(self) -> Segmenter:
        """As the parameters ask for; not open. Raises what `Segmenter` does, and ClassMapError."""
        self._settings.refresh()
        return self._made(self._settings.values, self._settings.values.engine)

    def _made(self, values: NodeParameters, engine: str) -> Segmenter:
        self._build = BuildReports(self.get_logger().info, self._publish_diagnostics)
        segmenter = Segmenter(
            values.model_path, engine, values.threads, values.precision, values.tensorrt, self._build
        )
        self._origins[segmenter] = Origin(values, _class_map(values, segmenter.info))
        return segmenter

    def prepare_model(self, segmenter: Segmenter) -> None:
        """Make the publishers that a model needs and the one before has not."""
        # The threshold may have been changed since it was made.
        threshold = self._settings.values.confidence_threshold
        classes = self._origins[segmenter].classes.with_confidence_threshold(threshold)
        for camera in self._cameras:
            camera.publishers.prepare_model(segmenter.info, classes)

    def begin_model(self, segmenter: Segmenter) -> None:
        """Between two frames: its labels' names go out before its first mask."""
        for camera in self._cameras:
            camera.publishers.begin_model(segmenter.info)

    def model_loaded(self, segmenter: Segmenter) -> None:
        """Let go of what belonged to the model before."""
        for camera in self._cameras:
            camera.model_loaded()
        self._loaded, self._build = self._origins[segmenter].values, None
        self._guard.model_changed(self._loaded.engine)
        if self._lifecycle != "active":
            segmenter.release_device()

    def model_refused(self) -> None:
        """Let go of what was prepared, and put the parameters back to what serves."""
        self._build = None
        if self._slot is None:
            return  # cleaned up meanwhile: what is asked for is for the next configure
        for camera in self._cameras:
            camera.publishers.model_refused()
        self._settings.put_back(self._loaded)

    @property
    def opening_s(self) -> float:
        """How long an engine may take to open."""
        return self._limits().opening_s

    def opening_hangs(self, thread: threading.Thread) -> None:
        """An engine was given up while it was opened."""
        self._guard.opening_hangs(thread)

    # What the guard of the worker asks for

    def make_again(self, engine: str) -> Segmenter:
        """A segmenter as the one that serves, with another engine; not open. Raises what `make_segmenter` does."""
        return self._made(self._loaded, engine)

    def model_renewed(self) -> None:
        """A segmenter made again serves: let go of what belonged to the one before."""
        for camera in self._cameras:
            camera.model_loaded()
        self._build = None

    def serve_with(self, slot: ModelSlot) -> None:
        """From now on this serves."""
        self._slot = slot

    def renew_cameras(self) -> None:
        """Give every camera a decoder of its own again."""
        for camera in self._cameras:
            camera.renew()

    def _limits(self) -> Limits:
        return Limits(self._settings.values.hang_timeout_s, self._settings.values.hang_restarts)

    @property
    def is_changing_model(self) -> bool:
        """Whether a model that `~/load_model` has opened waits for the frame in hand."""
        return self._loader.is_changing

    @property
    def is_building(self) -> bool:
        """Whether TensorRT tells of progress in building an engine."""
        return self._build is not None and bool(self._build.state)

    def _open(self, segmenter: Segmenter) -> float:
        """Milliseconds of an image. Raises as `open_in_time`."""
        try:
            with telling_how_long(self.get_logger().info, "opening the engine"):
                return open_in_time(segmenter, self.opening_s, lambda: self.is_building)
        except OpeningHangsError as error:
            self._guard.opening_hangs(error.thread, of_slot=self._slot is not None)
            raise

    def _stop(self, timeout_s: float | None = None) -> None:
        for camera in self._cameras:
            camera.stop()
        self._guard.stop(timeout_s)
        for camera in self._cameras:
            camera.forget()
        self._mailbox = None

    def _release(self) -> None:
        for camera in self._cameras:
            camera.release()
        self._guard.release()
        self._slot = None
        self._lifecycle = "unconfigured"

    def _made_cameras(self) -> list[Camera]:
        cameras = self._settings.values.cameras
        return [Camera(self, name, values, self._capture.buffer, self._match) for name, values in cameras.items()]

    def _parameters_changed(self, before: NodeParameters, now: NodeParameters) -> None:
        if tuple(before.cameras) != tuple(now.cameras):  # while the node is not configured
            for camera in self._cameras:
                camera.destroy()
            self._cameras = self._made_cameras()
        for camera in self._cameras:
            camera.refresh(now.cameras[camera.name])
            if self._slot is not None and before.confidence_threshold != now.confidence_threshold:
                camera.publishers.change_threshold(now.confidence_threshold)
        self._capture.refresh(now)
        if before.diagnostics_period_s != now.diagnostics_period_s:
            self._diagnostics_timer.timer_period_ns = round(1e9 * now.diagnostics_period_s)
            self._diagnostics_timer.reset()  # else what is left of the period before passes first

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        busy = self._loader.busy or ("" if self._build is None else self._build.state)
        segmenter = None if self._slot is None else self._slot.segmenter
        present = Present(self._lifecycle, self._problem, busy, segmenter)
        message = DiagnosticArray(status=[self._statuses.of(camera, present) for camera in self._cameras])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self._match.look()
        self._capture.diagnosed(message)


def _class_map(values: NodeParameters, info: ModelInfo) -> ClassMap:
    """The robot's classes of a model's. Raises ClassMapError."""
    settings = (info.class_names, info.palette, values.confidence_threshold, values.foreground)
    return read_class_map(values.classes, *settings) if values.classes else unchanged(*settings)
