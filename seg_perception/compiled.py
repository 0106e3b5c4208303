"""Loops over pixels, compiled by numba: outside Python's lock, and kept on disk between starts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)

# Products and sums may become one operation. Nothing else is loosened: the results are compared with a reference.
_FAST_MATH = {"contract", "nsz", "arcp"}
_told: set[str] = set()  # folders whose trouble is in the log


def compiled(function: Callable[..., Any]) -> Any:
    """The function as machine code, made at its first call with arguments of a kind, or loaded from numba's cache.

    The cache is beside the source, or in ~/.cache/numba where that is read-only (NUMBA_CACHE_DIR names another place).
    Where neither can be written, every start compiles anew, which takes seconds; one line says so.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": _FAST_MATH, "error_model": "numpy"}
    dispatcher = numba.njit(**options)(function)
    try:
        dispatcher._cache = _Kept(function)  # what `cache=True` does, with numba's own class
    except RuntimeError as error:  # numba found no place for its cache
        logger.warning("%s; compiled anew at every start; NUMBA_CACHE_DIR=/a/writable/folder keeps it", error)
    return dispatcher


class _Kept(FunctionCache):
    """numba's cache on disk, which a full or damaged disk makes slower, and which never keeps a loop from running."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged file: whatever unpickling raises
            _tell(self.cache_path, "cannot be read", error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # OSError of a full disk; or, before it writes, what reading a damaged index raises
            _tell(self.cache_path, "cannot be written", error)


def _tell(folder: str, what: str, error: Exception) -> None:
    """Once a folder: a dozen loops meet the same disk."""
    if folder not in _told:
        _told.add(folder)
        said = " ".join(str(error).split())[:200] or type(error).__name__
        logger.warning("numba's cache %s %s: %s; loops are compiled anew, which takes seconds", folder, what, said)


def compiled_input(array: np.ndarray) -> np.ndarray:
    """The array contiguous and read-only: the one kind that loops are compiled for, so that no frame waits for another."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
