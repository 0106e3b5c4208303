"""The real node on libraries that hang or fail when told to: `python -m` this, with the node's arguments and TROUBLE set.

TROUBLE names a file, read again at every call, that holds any of these lines:

    hang N         sessions of ONNX Runtime up to the Nth (from 1, in the order they are made) hang in `run` while it says so
    throw N        they raise in `run`
    throw-once     the next `run` of any session raises; the file is then emptied
    lock           the next `run` never comes back, and holds Python's lock all the while
    hang-loading   ONNX Runtime hangs while a session is made
    hang-decoding  OpenCV hangs in `imdecode`

Everything but these three functions of the libraries is the real thing; LOCKED_S makes the process watch impatient.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import onnxruntime

from seg_perception import process_watch
from seg_perception.ros.node import main

TROUBLE = Path(os.environ["TROUBLE"])


def troubles() -> dict[str, int]:
    """What the file says now, with the number behind it or 0."""
    lines = [line.split() for line in TROUBLE.read_text().splitlines() if line.strip()]
    return {words[0]: int(words[1]) if len(words) > 1 else 0 for words in lines}


def hang_while(kind: str) -> None:
    while kind in troubles():
        time.sleep(0.02)


class TroubledSession(onnxruntime.InferenceSession):
    """A session that knows how many were made before it."""

    made = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        hang_while("hang-loading")
        TroubledSession.made += 1
        self.number = TroubledSession.made
        super().__init__(*arguments, **options)

    def run(self, *arguments: Any, **options: Any) -> Any:
        while self.number <= troubles().get("hang", 0):
            time.sleep(0.02)
        now = troubles()
        if "lock" in now:
            ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the lock
        if "throw-once" in now:
            TROUBLE.write_text("")
        if "throw-once" in now or self.number <= now.get("throw", 0):
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : the device is lost")
        return super().run(*arguments, **options)

    def run_with_iobinding(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError("the engine runs sessions another way now: trouble must be made there, too")


decode = cv2.imdecode


def troubled_decode(*arguments: Any) -> Any:
    """OpenCV's own, after the hang."""
    hang_while("hang-decoding")
    return decode(*arguments)


if __name__ == "__main__":
    onnxruntime.InferenceSession = TroubledSession
    cv2.imdecode = troubled_decode
    process_watch.LOCKED_S = float(os.environ.get("LOCKED_S", process_watch.LOCKED_S))
    sys.exit(main())
