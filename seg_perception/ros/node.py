"""The node's process: what it does with signals, with errors at its start, and at its end.

The node itself is in segmentation_node.py. The first thread only waits for signals; everything else, from the imports
on, runs in a second one. So a signal is heard in every state, also while a model loads, and is never handled in the
middle of something: SIGINT, SIGTERM and SIGHUP end the process in order within `EXIT_S`, with code 0, and where
something does not come to its end in that time, the process goes without it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seg_perception.image_memory import keep_freed_memory
from seg_perception.process_watch import ProcessWatch
from seg_perception.ros.recovery_plan import TooManyHangsError

if TYPE_CHECKING:
    from rclpy.executors import SingleThreadedExecutor

    from seg_perception.ros.segmentation_node import SegmentationNode

EXIT_S = 1.2  # from a signal to the end; launch and systemd insist only much later
START_FAILED = 2  # exit code where the arguments of the process make no node
HANGS = 3  # exit code where more threads hang than may; a new process is what helps


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    signals = {signal.SIGINT, signal.SIGTERM}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: the terminal may go, the node stays
        signals.add(signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # threads started from here on inherit it
    keep_freed_memory()
    # The node says once what is wrong with a picture; OpenCV would say it of every single one.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    run = _Run(list(sys.argv if arguments is None else arguments))
    run.start()
    watch = ProcessWatch()
    watch.start()
    signal.sigwait(signals)
    run.stop()
    run.join(EXIT_S)
    watch.stop()
    if run.unfinished:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(run.exit_code)  # a thread that hangs in an engine cannot be ended otherwise
    return run.exit_code


class _Run(threading.Thread):
    """The node from its first import to its end; wakes the first thread when it ends by itself."""

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(name="node", daemon=True)
        self._arguments = arguments
        self._stopping = threading.Event()
        self._executor: SingleThreadedExecutor | None = None
        self._node: SegmentationNode | None = None
        self.exit_code = 0

    def stop(self) -> None:
        """Ask it to end, from another thread."""
        self._stopping.set()
        if self._executor is not None:
            self._executor.create_task(_raise_stop)

    @property
    def unfinished(self) -> bool:
        """Whether something of it still runs."""
        return self.is_alive() or (self._node is not None and self._node.is_working)

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.exit_code = START_FAILED
            print(f"segmentation_node: error: {_one_line(error)}", file=sys.stderr, flush=True)
        finally:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _run(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        from seg_perception.ros.log_bridge import logged_by
        from seg_perception.ros.parameter_files import check_parameter_files
        from seg_perception.ros.segmentation_node import SegmentationNode

        check_parameter_files(self._arguments)
        if self._stopping.is_set():
            return
        rclpy.init(args=self._arguments, signal_handler_options=SignalHandlerOptions.NO)
        try:
            self._node = SegmentationNode()
            executor = SingleThreadedExecutor()
            executor.add_node(self._node)
            self._executor = executor
            executor.create_task(self._node.autostart, self._stopping.is_set)
            with logged_by(self._node.get_logger()):
                self._spin(executor, self._node)
            self._node.close(EXIT_S / 2)
            if not self._node.is_working:
                executor.remove_node(self._node)
                self._node.destroy_node()
        finally:
            if self._node is None or not self._node.is_working:
                rclpy.try_shutdown()

    def _spin(self, executor: SingleThreadedExecutor, node: SegmentationNode) -> None:
        """Until told to stop; what a callback raises is logged, and the next one gets its turn."""
        while not self._stopping.is_set():
            try:
                executor.spin()
                return  # somebody shut the context down
            except _StopSpinningError:
                return
            except TooManyHangsError as error:
                node.get_logger().fatal(str(error))
                self.exit_code = HANGS
                return
            except Exception as error:
                node.get_logger().error(f"unexpected in a callback: {_one_line(error)}{_place(error)}")


class _StopSpinningError(Exception):
    """Comes out of `spin` when the process is told to stop."""


def _raise_stop() -> None:
    raise _StopSpinningError


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException) -> str:
    """Where an error came from, for those who mend it."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"


if __name__ == "__main__":
    sys.exit(main())
