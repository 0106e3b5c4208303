"""Loops over pixels, compiled by numba: outside Python's lock, and kept on disk between starts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

logger = logging.getLogger(__name__)

# Products and sums may become one operation. Nothing else is loosened: the results are compared with a reference.
_FAST_MATH = {"contract", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Any:
    """The function as machine code, made at its first call with arguments of a kind, or loaded from numba's cache.

    The cache is beside the source, or in ~/.cache/numba where that is read-only (NUMBA_CACHE_DIR names another place).
    Where neither can be written, every start compiles anew, which takes seconds; one line says so.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": _FAST_MATH, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # numba found no place for its cache
        logger.warning("%s; compiled anew at every start; NUMBA_CACHE_DIR=/a/writable/folder keeps it", error)
        return numba.njit(**options)(function)


def compiled_input(array: np.ndarray) -> np.ndarray:
    """The array contiguous and read-only: the one kind that loops are compiled for, so that no frame waits for another."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
