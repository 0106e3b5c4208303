"""What one user has of the device: taken piece by piece, given back in one go."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable

import numpy as np

from seg_perception.engines.tensorrt.cuda import Cuda, CudaError

logger = logging.getLogger(__name__)


class Holdings:
    """Memory, streams and graphs of one user.

    Args:
        cuda: whose they are.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._undo: list[tuple[str, Callable[[], None]]] = []

    def take(self, what: str, handle: int, give_back: Callable[[int], None]) -> int:
        """Note something taken, in words for messages; returns its handle."""
        self._undo.append((what, lambda: give_back(handle)))
        return handle

    def device(self, what: str, nbytes: int) -> int:
        """Device memory. Raises CudaError where there is not enough."""
        return self.take(f"device memory of {what}", self._cuda.malloc(nbytes), self._cuda.free)

    def pinned(self, what: str, nbytes: int, mapped: bool = False) -> int:
        """Pinned host memory; `mapped`: the device sees it, too. Raises CudaError where there is not enough."""
        return self.take(f"host memory of {what}", self._cuda.host_alloc(nbytes, mapped), self._cuda.host_free)

    def close(self) -> None:
        """Give everything back, the last first; closing twice does nothing."""
        undo, self._undo = self._undo, []
        while undo:
            what, give_back = undo.pop()
            try:
                give_back()
            except CudaError as error:
                logger.warning("%s could not be given back: %s", what, error)
                if error.sticky:  # of a lost device nothing can be given back
                    return


def host_view(pointer: int, nbytes: int) -> np.ndarray:
    """uint8 [nbytes] on memory at an address; it must outlive the array."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(pointer))
