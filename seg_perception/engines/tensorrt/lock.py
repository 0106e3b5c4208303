"""A lock between processes: one builds, the others wait and can say for whom. The kernel frees it when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_POLL_S = 0.1


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: process, program, and since when (seconds since 1970)."""

    pid: int
    program: str
    since: float

    def __str__(self) -> str:
        return f"process {self.pid} ({self.program}, for {max(time.time() - self.since, 0):.0f} s)"


class LockTimeoutError(TimeoutError):
    """Another process held the lock for too long, or the waiting was stopped. One line: who."""


class FileLock:
    """An exclusive lock on a file of its own, as a context manager.

    `flock` belongs to the open file: it ends with its process, however that ends. The file stays, and names the holder.

    Args:
        path: the lock file.
        waiting: told of the holder when this process begins to wait, and every `tell_every_s` seconds after.
        stopped: True ends the waiting.
        timeout_s: give up after this long.
        tell_every_s: seconds between calls of `waiting`.
    """

    def __init__(
        self,
        path: Path,
        waiting: Callable[[Holder], None],
        stopped: Callable[[], bool] = lambda: False,
        timeout_s: float = 7200.0,
        tell_every_s: float = 10.0,
    ) -> None:
        self._path = path
        self._waiting = waiting
        self._stopped = stopped
        self._timeout_s = timeout_s
        self._tell_every_s = tell_every_s
        self._descriptor = -1

    def __enter__(self) -> FileLock:
        start = time.monotonic()
        told = -self._tell_every_s
        while not self._try():
            waited = time.monotonic() - start
            if waited > self._timeout_s:
                raise LockTimeoutError(f"waited {waited:.0f} s for {self._holder()} that holds {self._path}; end it")
            if self._stopped():
                raise LockTimeoutError(f"waiting for {self._holder()} was stopped after {waited:.0f} s")
            if waited - told >= self._tell_every_s:
                told = waited
                self._waiting(self._holder())
            time.sleep(_POLL_S)
        return self

    def _try(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever cleared the cache may have removed the file between the two calls.
            if self._path.stat().st_ino != os.fstat(descriptor).st_ino:
                os.close(descriptor)
                return False
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            raise
        holder = {"pid": os.getpid(), "program": Path(sys.argv[0] or "python").name, "since": time.time()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        self._descriptor = descriptor
        return True

    def _holder(self) -> Holder:
        try:
            said = json.loads(self._path.read_text())
            return Holder(int(said["pid"]), str(said["program"]), float(said["since"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Holder(0, "unknown: it has only just begun", time.time())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)  # and with it the lock
        self._descriptor = -1


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on this file now."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
