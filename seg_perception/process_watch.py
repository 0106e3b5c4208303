"""Ends the process where something holds Python's lock for good: then no thread of it can do or say anything any more.

A library that computes, or waits for a device, without letting the lock go stops diagnostics, services and signals alike. The
timer of `faulthandler` is C and needs no lock: it is set back again and again by a thread that needs it.
"""

from __future__ import annotations

import faulthandler
import threading

LOCKED_S = 60.0  # much longer than anything that is meant
SET_BACK_EVERY_S = 5.0


class ProcessWatch:
    """While it runs, the process ends with code 1 and a traceback of all threads on stderr where the lock is held for so long.

    Args:
        locked_s: seconds; None: LOCKED_S.
    """

    def __init__(self, locked_s: float | None = None) -> None:
        self._locked_s = LOCKED_S if locked_s is None else locked_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="process watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        every_s = min(SET_BACK_EVERY_S, self._locked_s / 4)
        while not self._stopped.is_set():
            faulthandler.dump_traceback_later(self._locked_s, exit=True)
            self._stopped.wait(every_s)
        faulthandler.cancel_dump_traceback_later()
