"""How a process that handles images keeps their memory."""

from __future__ import annotations

import ctypes
import logging
import sys

logger = logging.getLogger(__name__)

# From <malloc.h> of the GNU C library; see mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes; the library takes no more
_KEPT = 128 << 20  # bytes of freed memory that a heap keeps
_GROWTH = 16 << 20  # bytes that a heap grows by
_HEAPS = 4  # that threads share; by default eight a core, each of which keeps what its threads have freed


def keep_freed_memory() -> bool:
    """Have freed images' memory used again, where it otherwise goes back to the kernel with every image.

    The allocator maps arrays of megabytes anew each time, and the kernel clears every page at its first touch: 5,800 page
    faults for an image of 1920x1080 and its masks, 10 ms that take turns with the engine. Freed memory stays with the
    process instead, at most 128 MB for each of four heaps that its threads share: a thread that opens a model and ends would
    otherwise leave a heap of its own behind.

    Call it once, at the start of the process. Returns whether it took effect: only with the GNU C library.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        (_M_TRIM_THRESHOLD, _KEPT),
        (_M_TOP_PAD, _GROWTH),
        (_M_ARENA_MAX, _HEAPS),
    )
    taken = all([mallopt(name, value) == 1 for name, value in settings])
    if not taken:
        logger.warning("the C library refuses to keep freed memory; large images take longer")
    return taken
