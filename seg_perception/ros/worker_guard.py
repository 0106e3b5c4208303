"""Sees to it that a worker works: one that hangs, or whose engine fails every image, is replaced while cameras go on.

What is done when is in `recovery_plan.py`; a thread that hangs cannot be ended, so it is left behind, told to touch nothing
any more, and its engine is freed if it ever comes back. All of this class is called in the executor's thread, which never
waits here longer than LET_GO_S.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode

from seg_perception.engines.base import EngineError
from seg_perception.ros.background import in_thread
from seg_perception.ros.engine_restart import RETRY_S, EngineRestart
from seg_perception.ros.guarded_node import GuardedNode, Limits
from seg_perception.ros.model_slot import ModelSlot, SlotClosedError
from seg_perception.ros.recovery_plan import RecoveryPlan, TooManyHangsError
from seg_perception.ros.work_in_hand import Work
from seg_perception.ros.worker import CameraMailbox, Worker
from seg_perception.segmenter import Segmenter

LOOK_EVERY_S = 0.1
STALL_S = 1.0  # that this look comes late: then the whole process stood still, not the worker
LET_GO_S = 2.0  # that a transition waits for the image in hand
_USUAL = 3.0  # times what frames take lately, before one is told to take long


class WorkerGuard:
    """Holds the worker while the node is active.

    Args:
        node: whose executor and log it uses.
        host: the same node.
        limits: at present.

    Attributes:
        hangs: workers given up since the node was configured.
    """

    def __init__(self, node: LifecycleNode, host: GuardedNode, limits: Callable[[], Limits]) -> None:
        self._node = node
        self._host = host
        self._limits = limits
        self._plan: RecoveryPlan | None = None
        self._slot: ModelSlot | None = None
        self._mailbox: CameraMailbox | None = None
        self._worker: Worker | None = None
        self._restart: EngineRestart | None = None
        self._left_behind: list[Worker] = []
        self._stuck_restarts: list[threading.Thread] = []
        self._in_use_by: threading.Thread | None = None  # of those left behind, which has the slot's engine in hand
        self._opening: threading.Thread | None = None
        self._timer: Any = None
        self._looked_s = self._excused_until_s = 0.0
        self.hangs = 0

    # Transitions

    def configured(self, slot: ModelSlot, engine: str) -> None:
        """A model serves; `engine` as it was asked for."""
        self._slot, self._in_use_by, self._restart = slot, None, None
        self._plan = RecoveryPlan(engine, slot.segmenter.engine_name)
        self.hangs = 0

    def start(self, mailbox: CameraMailbox) -> None:
        """Work on what comes into the mailbox."""
        self._mailbox = mailbox
        self._looked_s = self._excused_until_s = monotonic()
        self._timer = self._node.create_timer(LOOK_EVERY_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        if self.engine_is_in_use:
            self._start_anew("", keeps_serving=False)  # it may only be slow
        else:
            self._go_on()

    def stop(self, timeout_s: float | None = None) -> None:
        """Close the mailbox and wait for the image in hand, LET_GO_S at most; what takes longer is left behind."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        if self._mailbox is not None:
            self._mailbox.close()
        worker, self._worker = self._worker, None
        if worker is not None and not worker.join(LET_GO_S if timeout_s is None else timeout_s):
            work = worker.hand.give_up()
            self._leave_behind(worker, work)
            if timeout_s is None:
                self._node.get_logger().warning(f"{work or 'a worker'}: left behind to come to its end by itself")
        self._restart = self._timer = self._mailbox = None

    def release(self) -> None:
        """Free the model, at once or when whoever has it in hand comes back."""
        self._restart = None
        if self._slot is not None:
            self._free(self._slot)
        self._slot = self._plan = self._in_use_by = None

    def model_changed(self, engine: str) -> None:
        """Another model was loaded into the slot, with the engine that was asked for."""
        if self._slot is None:
            return
        self._plan = RecoveryPlan(engine, self._slot.segmenter.engine_name)
        if self.is_paused:
            self._start_anew("", keeps_serving=False)  # it has hung since: what is on its way is of the model before
        else:
            self._restart = None

    def opening_hangs(self, thread: threading.Thread, of_slot: bool = False) -> None:
        """A transition or a service has given up opening an engine; too many of those end the process, too.

        Args:
            thread: that is left behind.
            of_slot: whether it is the slot's: to start then makes another one.
        """
        self.hangs += 1
        if of_slot:
            self._in_use_by = thread
        self._stuck_restarts.append(thread)
        executor = self._node.executor
        assert executor is not None
        # A task, since what a transition raises is only told.
        most = self._limits().most_left_behind
        executor.create_task(self._end_where_too_many, "an engine does not open", self.left_behind, most)

    # What it says of itself

    @property
    def is_working(self) -> bool:
        """Whether any worker, also one left behind, has something in hand that keeps the process from ending in order."""
        threads = [self._opening, *self._stuck_restarts]
        return any(
            worker.is_alive for worker in [*self._left_behind, *([self._worker] if self._worker else [])]
        ) or any(thread is not None and thread.is_alive() for thread in threads)

    @property
    def engine_is_in_use(self) -> bool:
        """Whether a thread that was left behind has the engine of the slot in hand: nobody else may touch it then."""
        return self._in_use_by is not None and self._in_use_by.is_alive()

    @property
    def is_paused(self) -> bool:
        """Whether nothing serves while an engine is started anew."""
        return self._restart is not None and not self._restart.keeps_serving

    @property
    def left_behind(self) -> int:
        """Threads that hang still."""
        self._left_behind = [worker for worker in self._left_behind if worker.is_alive]
        self._stuck_restarts = [thread for thread in self._stuck_restarts if thread.is_alive()]
        return len(self._left_behind) + len(self._stuck_restarts)

    @property
    def problem(self) -> str:
        """Why another engine serves than was asked for; empty where that is not so."""
        return "" if self._plan is None else self._plan.problem

    def values(self) -> dict[str, str]:
        """For diagnostics."""
        return {"hangs": str(self.hangs), "threads_that_hang": str(self.left_behind)}

    def trouble(self, silent_after_s: float) -> str:
        """Why there are no masks now, in one line; empty where that is not the guard's matter.

        Args:
            silent_after_s: that a frame may be in hand, or longer where frames take long anyway.
        """
        if self._restart is not None and self.is_paused:
            if self._restart.error:
                return f"no masks: the engine cannot be started anew: {self._restart.error}; tried again"
            return f"no masks: the engine is started anew, for {self._restart.elapsed_s:.1f} s now"
        work = None if self._worker is None else self._worker.hand.present
        if self._worker is None or work is None:
            return ""
        usual_s = self._worker.hand.usual_s
        return f"no masks: {work}" if work.elapsed_s > max(silent_after_s, _USUAL * usual_s) else ""

    # The watch

    def _look(self) -> None:
        if self._restart is not None:
            self._look_at_restart(self._restart)
        worker = self._worker
        if worker is None or self._plan is None:
            return
        work = None if self._is_excused() else worker.give_up_after(self._limits().hang_timeout_s)
        if work is not None:
            self._replace(worker, work)
        elif not worker.is_alive:
            self._node.get_logger().error("the worker thread has ended by itself; another one goes on")
            self._go_on()
        elif self._restart is None and self._plan.fails_too_often(worker.engine_failures):
            failed = f"failed {worker.engine_failures} images in a row"
            self._node.get_logger().error(f"the engine {failed}: starting it anew")
            self._start_anew(failed, keeps_serving=True)

    def _is_excused(self) -> bool:
        """Whether the process was suspended, stopped or starved a moment ago: a frame in hand gets its whole time again."""
        now = monotonic()
        late_s, self._looked_s = now - self._looked_s - LOOK_EVERY_S, now
        if late_s > STALL_S:
            self._excused_until_s = now + self._limits().hang_timeout_s
        return now < self._excused_until_s

    def _replace(self, worker: Worker, work: Work) -> None:
        """A worker hangs: another one goes on, with the same engine where this one has not got hold of it."""
        self._leave_behind(worker, work)
        self.hangs += 1
        count, most = self.left_behind, self._limits().most_left_behind
        self._end_where_too_many(str(work), count, most)
        then = "starting the engine anew" if work.in_engine else "another thread goes on"
        self._node.get_logger().error(f"{work}: given up, {then} ({count} of at most {most} threads hang)")
        if work.in_engine:
            self._start_anew("hung again", keeps_serving=False)
        else:
            self._go_on()

    def _leave_behind(self, worker: Worker, work: Work | None) -> None:
        self._left_behind.append(worker)
        if work is not None and work.in_engine:
            self._in_use_by = worker.thread

    def _end_where_too_many(self, said: str, count: int, most: int) -> None:
        if count > most:
            raise TooManyHangsError(
                f"{said}, and {count} threads hang by now, {most} may (parameter hang_restarts): the process ends, so that "
                "whoever started it starts a clean one"
            )

    def _go_on(self) -> None:
        """A new worker with the engine of the slot, which nobody uses."""
        if self._slot is None or self._mailbox is None:
            return
        # Whoever waits to put another model into the slot before learns that it is gone.
        self._slot = ModelSlot(self._slot.close())
        self._in_use_by = self._restart = None
        self._host.renew_cameras()
        self._host.serve_with(self._slot)
        self._worker = Worker(self._mailbox, self._slot)
        self._worker.start()

    def _start_anew(self, trouble: str, keeps_serving: bool) -> None:
        """Open an engine in a thread of its own.

        Args:
            trouble: what the one before did, which may make it the next one's turn; empty: that one again.
            keeps_serving: whether the one before goes on meanwhile.
        """
        assert self._plan is not None
        assert self._slot is not None
        if not keeps_serving:
            self._worker = None
            self._slot.close()
        restart = self._restart = EngineRestart(keeps_serving)
        executor = self._node.executor
        assert executor is not None
        try:
            segmenter = self._host.make_again(self._plan.next_engine(trouble) if trouble else self._plan.engine)
        except (ValueError, OSError, EngineError) as error:
            self._failed(restart, error)
            return

        restart.open(segmenter, lambda *outcome: executor.create_task(self._opened, *outcome))
        self._opening = restart.thread

    def _opened(self, restart: EngineRestart, segmenter: Segmenter, error: Exception | None) -> None:
        if restart.keeps_serving and self._host.is_changing_model and restart is self._restart:
            self._restart = None  # that model has an engine of its own
        if restart is not self._restart or error is not None or self._slot is None:
            in_thread(segmenter.close, "closing a model")
            if restart is self._restart and error is not None:
                self._failed(restart, error)
            return
        self._node.get_logger().info(f"{segmenter.engine_description} serves after {restart.elapsed_s:.1f} s")
        self._host.prepare_model(segmenter)
        if restart.keeps_serving:
            self._exchange(restart, self._slot, segmenter)
        else:
            self._free(self._slot)
            self._slot = ModelSlot(segmenter)
            self._host.begin_model(segmenter)
            self._host.model_renewed()
            self._go_on()

    def _exchange(self, restart: EngineRestart, slot: ModelSlot, segmenter: Segmenter) -> None:
        """Between two frames, while the worker goes on."""
        executor = self._node.executor
        assert executor is not None

        def done(error: Exception | None) -> None:
            if error is None and slot is self._slot:
                self._host.model_renewed()
            if restart is not self._restart:
                return  # the frame in hand hung meanwhile, and yet another engine is on its way
            if error is None or isinstance(error, SlotClosedError):
                self._restart = None
            else:
                self._failed(restart, error)

        def exchange() -> None:
            error: Exception | None = None
            try:
                unused = slot.replace(segmenter, lambda: self._host.begin_model(segmenter))
            except Exception as raised:
                unused, error = segmenter, raised
            executor.create_task(done, error)
            unused.close()

        in_thread(exchange, "changing engines")

    def _failed(self, restart: EngineRestart, error: Exception) -> None:
        restart.failed(error)
        self._node.get_logger().error(f"the engine cannot be started anew: {restart.error}; again in {RETRY_S:.0f} s")

    def _look_at_restart(self, restart: EngineRestart) -> None:
        limits = self._limits()
        if restart.error:
            if restart.is_due_again:
                self._start_anew("could not be started anew", restart.keeps_serving)
        elif restart.elapsed_s > limits.opening_s and restart.thread and not self._host.is_building:
            self.hangs += 1
            self._stuck_restarts.append(restart.thread)
            count, most = self.left_behind, limits.most_left_behind
            said = f"an engine has been opened for {restart.elapsed_s:.0f} s without end"
            self._end_where_too_many(said, count, most)
            self._node.get_logger().error(f"{said}: given up, trying again ({count} of at most {most} threads hang)")
            self._start_anew("could not be started anew", restart.keeps_serving)

    def _free(self, slot: ModelSlot) -> None:
        """Close its engine: at once, or once the worker that has it in hand comes back."""
        segmenter, user = slot.close(), self._in_use_by
        self._in_use_by = None
        if user is None or not user.is_alive():
            segmenter.close()
            return

        def wait_and_close() -> None:
            user.join()
            segmenter.close()

        in_thread(wait_and_close, "closing a model")
