"""A stream that is asked whether it is done instead of waited for, so that a device that hangs does not hang the robot."""

from __future__ import annotations

import time

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt.cuda import Cuda, CudaError

_POLL_S = 0.0001


class WatchedStream:
    """A stream of work.

    Args:
        cuda, handle: the stream.
        timeout_s: work that takes longer has hung.

    Attributes:
        hung: whether some has. Nothing that the work touches may be given back then.
    """

    def __init__(self, cuda: Cuda, handle: int, timeout_s: float) -> None:
        self.handle = handle
        self.timeout_s = timeout_s
        self.hung = False
        self._cuda = cuda

    def wait(self) -> None:
        """Until it is done.

        Raises:
            CudaError: the work failed.
            EngineError: it hung, or has before.
        """
        if self.hung:
            raise EngineError("the engine has hung before; open it again")
        end = time.monotonic() + self.timeout_s
        while not self._cuda.stream_done(self.handle):
            if time.monotonic() > end:
                self.hung = True
                raise EngineError(f"the engine has not answered for {self.timeout_s:g} s; it is not used any more")
            time.sleep(_POLL_S)

    def settle(self) -> None:
        """Let what work that failed has left come to its end, before its memory goes; `hung` says whether it has."""
        for _ in range(2):  # the failure may be that of the question
            try:
                self.wait()
                return
            except CudaError as error:
                if error.sticky:
                    return  # nothing runs on a lost device
            except EngineError:
                return
        self.hung = True  # nobody knows; better its memory stays taken than that it is written to by two
