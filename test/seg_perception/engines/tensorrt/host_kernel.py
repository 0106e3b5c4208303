"""The GPU's painting kernel built for this machine's processor: its own source, a loop in place of blocks and threads."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from seg_perception.engines.tensorrt.painting_source import AXIS_SAMPLE, SOURCE, TILE, PaintingConstants

GUARD = 64  # bytes on both sides of each output; a pixel painted out of place lands in them
GUARD_BYTE = 0xA5

DRIVER = f"""
#define HOST
#include "{SOURCE}"
extern "C" void paint_all(const ASSOCIATION* association, const CLASS_LOGITS* class_logits, const int* row_start,
                          const int* col_start, const AxisSample* y_samples, const AxisSample* x_samples, uint8* labels,
                          uint8* confidence, uint16* superpixels, int width, int tiles_x, int tiles_y) {{
    for (int z = 0; z < ROWS * COLS; ++z)
        for (int y = 0; y < tiles_y; ++y)
            for (int x = 0; x < tiles_x; ++x)
                paint(association, class_logits, row_start, col_start, y_samples, x_samples, labels, confidence,
                      superpixels, width, Block{{x, y, z}});
}}
"""


@dataclass
class HostKernel:
    """The kernel for one set of constants, as a shared library of this machine."""

    constants: PaintingConstants
    library: ctypes.CDLL

    @classmethod
    def build(cls, constants: PaintingConstants, folder: Path) -> HostKernel:
        """Compile it, with the undefined-behaviour sanitizer's traps where the compiler has them."""
        compiler = shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            pytest.skip("needs a C++ compiler to build the GPU's painting kernel for this machine: apt-get install g++")
        source, library = folder / "host.cpp", folder / "host.so"
        source.write_text(DRIVER)
        options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
        options += ["-Wno-maybe-uninitialized"]  # it does not see that the phases before fill what the next one reads
        options += ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-ffp-contract=off"]
        done = subprocess.run(
            [compiler, *options, *constants.definitions(), "-o", str(library), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return cls(constants, ctypes.CDLL(str(library)))

    def paint(
        self,
        association: np.ndarray,
        class_logits: np.ndarray,
        axes: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
        wanted: tuple[bool, bool] = (True, True),
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """labels, confidence, superpixels; `axes` are (starts, samples) of the rows and of the columns."""
        (row_start, y_samples), (col_start, x_samples) = axes
        size = (len(y_samples), len(x_samples))
        assert y_samples.dtype == x_samples.dtype == AXIS_SAMPLE
        guarded = [_Guarded(size, dtype) for dtype in (np.uint8, np.uint8, np.uint16)]
        tiles = [
            int(-(-np.diff(start).max() // side)) for start, side in zip((row_start, col_start), TILE, strict=True)
        ]
        self.library.paint_all(
            _pointer(np.ascontiguousarray(association)),
            _pointer(np.ascontiguousarray(class_logits)),
            _pointer(row_start),
            _pointer(col_start),
            _pointer(y_samples),
            _pointer(x_samples),
            guarded[0].pointer(),
            guarded[1].pointer() if wanted[0] else None,
            guarded[2].pointer() if wanted[1] else None,
            ctypes.c_int(size[1]),
            ctypes.c_int(tiles[1]),
            ctypes.c_int(tiles[0]),
        )
        labels, confidence, superpixels = (g.checked() for g in guarded)
        return labels, confidence if wanted[0] else None, superpixels if wanted[1] else None


class _Guarded:
    """An output between guards."""

    def __init__(self, size: tuple[int, int], dtype: type[np.unsignedinteger]) -> None:
        self._size, self._dtype = size, dtype
        self._bytes = size[0] * size[1] * np.dtype(dtype).itemsize
        self._memory = np.full(self._bytes + 2 * GUARD, GUARD_BYTE, np.uint8)

    def pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._memory.ctypes.data + GUARD)

    def checked(self) -> np.ndarray:
        assert (self._memory[:GUARD] == GUARD_BYTE).all()
        assert (self._memory[GUARD + self._bytes :] == GUARD_BYTE).all()
        return self._memory[GUARD : GUARD + self._bytes].view(self._dtype).reshape(self._size)


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
