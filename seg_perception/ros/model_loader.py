"""The service `~/load_model`: another model is built and warmed beside the one that serves, then takes its place.

Frames go on all the while. Where the new model cannot serve, the answer says why and nothing has changed: neither the model
nor the parameters that ask for it.
"""

from __future__ import annotations

from threading import Thread
from time import perf_counter
from typing import Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import Trigger

from seg_perception.engines.base import EngineError
from seg_perception.ros.background import in_background
from seg_perception.ros.engine_opening import OpeningHangsError, open_in_time
from seg_perception.ros.model_slot import ModelSlot, SlotClosedError
from seg_perception.segmenter import Segmenter


class ModelHost(Protocol):
    """What the loader asks of the node; all of it is called in the executor, `begin_model` alone between two frames."""

    @property
    def slot(self) -> ModelSlot | None:
        """The model that serves; None while unconfigured."""

    @property
    def opening_s(self) -> float:
        """How long an engine may take to open."""

    @property
    def is_building(self) -> bool:
        """Whether TensorRT tells of progress in building one, which may take long."""

    def opening_hangs(self, thread: Thread) -> None:
        """An engine was given up while it was opened."""

    def make_segmenter(self) -> Segmenter:
        """As the parameters ask for now; not open."""

    def prepare_model(self, segmenter: Segmenter) -> None:
        """Make the publishers that a model needs and has not."""

    def begin_model(self, segmenter: Segmenter) -> None:
        """Tell listeners and cameras of the model, before its first frame."""

    def model_loaded(self, segmenter: Segmenter) -> None:
        """It serves: let go of what belonged to the one before."""

    def model_refused(self) -> None:
        """It does not serve: let go of what was prepared, and put the parameters back."""


class ModelLoader:
    """Answers `~/load_model`, one request at a time.

    Args:
        node: that the service is on.
        host: the node's side of it.

    Attributes:
        busy: what it is at; empty: nothing.
        is_changing: whether a model that is open waits for the frame in hand to take the other's place.
    """

    def __init__(self, node: LifecycleNode, host: ModelHost) -> None:
        self._node = node
        self._host = host
        self.busy = ""
        self.is_changing = False
        # In the node's own group an answer that takes seconds would hold up every other callback.
        node.create_service(Trigger, "~/load_model", self._load, callback_group=ReentrantCallbackGroup())

    async def _load(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        slot = self._host.slot
        if slot is None:
            response.message = (
                "the node has no model now: configure it, it then loads what the parameter model names; or wait until the "
                "engine that hung is started anew"
            )
            return response
        if self.busy:
            response.message = f"{self.busy}; ask again when it is done"
            return response
        try:
            segmenter = self._host.make_segmenter()
        except (ValueError, OSError, EngineError) as error:
            return self._refuse(response, error)
        self.busy = f"loading model {segmenter.info.name}"
        self._node.get_logger().info(f"{self.busy}; {slot.segmenter.info.name} serves meanwhile")
        try:
            warm_ms = await in_background(self._node, lambda: self._opened(segmenter), "loading a model")
            if self._host.slot is not slot:
                raise SlotClosedError("the node let its model go while another one was loaded")
            self.is_changing = True
            self._host.prepare_model(segmenter)
            before, waited_ms = await in_background(
                self._node, lambda: self._replace(slot, segmenter), "changing models"
            )
        except OpeningHangsError as error:
            self._host.opening_hangs(error.thread)
            return self._refuse(response, error)
        except Exception as error:
            in_background(self._node, segmenter.close, "closing a model")
            return self._refuse(response, error)
        finally:
            self.busy, self.is_changing = "", False
        self._host.model_loaded(segmenter)
        in_background(self._node, before.close, "closing a model")
        response.success = True
        response.message = (
            f"model {segmenter.info.name}, {segmenter.engine_description}, {warm_ms:.1f} ms an image; "
            f"in place after {waited_ms:.1f} ms for the image in hand"
        )
        self._node.get_logger().info(f"loaded {response.message}")
        return response

    def _opened(self, segmenter: Segmenter) -> float:
        return open_in_time(segmenter, self._host.opening_s, lambda: self._host.is_building)

    def _replace(self, slot: ModelSlot, segmenter: Segmenter) -> tuple[Segmenter, float]:
        """The model before, and how long the frame in hand was waited for."""
        start = perf_counter()
        before = slot.replace(segmenter, lambda: self._host.begin_model(segmenter))
        return before, 1e3 * (perf_counter() - start)

    def _refuse(self, response: Trigger.Response, error: BaseException) -> Trigger.Response:
        expected = isinstance(error, ValueError | OSError | EngineError | SlotClosedError)
        said = " ".join(str(error).split())
        response.message = said if expected else f"unexpected {type(error).__name__}: {said}"
        self._host.model_refused()
        self._node.get_logger().error(f"model not loaded, nothing has changed: {response.message}")
        return response
