"""Work that takes long, for callbacks that must not hold up the executor: a thread does it, the callback awaits it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

from rclpy.node import Node
from rclpy.task import Future

Result = TypeVar("Result")


def in_background(node: Node, work: Callable[[], Result], name: str) -> Future:
    """A future to await in a coroutine callback: what `work` returns or raises, run in a thread of its own.

    The callback must be in a ReentrantCallbackGroup: in any other one it holds up its whole group until it is done.

    Args:
        node: of the callback; its executor is woken when the work is done.
        work: what to do.
        name: of the thread.
    """
    executor = node.executor
    assert executor is not None  # the callback runs in it
    future = Future(executor=executor)

    def run() -> None:
        finish: Callable[[Any], None]
        outcome: Any
        try:
            finish, outcome = future.set_result, work()
        except Exception as error:
            finish, outcome = future.set_exception, error
        executor.create_task(finish, outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def in_thread(work: Callable[[], object], name: str) -> None:
    """Do something that may take long, or hang, and that nobody waits for."""
    threading.Thread(target=work, name=name, daemon=True).start()


@contextmanager
def telling_how_long(tell: Callable[[str], object], doing: str, every_s: float = 30.0) -> Iterator[None]:
    """While the executor itself is busy with something, say now and then that it still is: diagnostics cannot.

    Args:
        tell: takes a line.
        doing: what, such as "opening the engine".
        every_s: between two lines, and before the first.
    """
    done = threading.Event()
    start_s = monotonic()

    def run() -> None:
        while not done.wait(every_s):
            tell(f"{doing} has taken {monotonic() - start_s:.0f} s, and goes on")

    in_thread(run, "telling how long")
    try:
        yield
    finally:
        done.set()
