"""The GPU's painting kernel built for this machine's processor: its own source, a loop in place of blocks and threads."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from seg_perception.engines.tensorrt.painting_source import (
    AXIS_SAMPLE,
    SOURCE,
    TILE,
    PaintingConstants,
    compile_painting,
)
from seg_perception.model.model_file import ModelInfo
from test.seg_perception.engines.tensorrt.software_device import DEVICE_SPACE, SoftwareCuda
from test.seg_perception.engines.tensorrt.software_memory import BrokenRuleError, Memory

GUARD = 64  # bytes on both sides of each output; a pixel painted out of place lands in them
GUARD_BYTE = 0xA5

DRIVER = f"""
#define HOST
#include "{SOURCE}"
extern "C" void paint_all(const ASSOCIATION* association, const CLASS_LOGITS* class_logits, const int* row_start,
                          const int* col_start, const AxisSample* y_samples, const AxisSample* x_samples, uint8* labels,
                          uint8* confidence, uint16* superpixels, int width, int tiles_x, int tiles_y) {{
    for (int x = 0; x < ROWS * COLS; ++x)
        for (int y = 0; y < tiles_x; ++y)
            for (int z = 0; z < tiles_y; ++z)
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

    def launched(
        self, cuda: SoftwareCuda, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: list[int]
    ) -> tuple[Callable[[], None], tuple[Memory, ...]]:
        """A launch of the kernel on the device in software: what it does and the memory that it touches."""
        constants, width = self.constants, arguments[-1]
        cells = constants.grid[0] * constants.grid[1]
        features = cells * constants.feature_cell[0] * constants.feature_cell[1]
        height = cuda.memory_at(arguments[4], 1, True).nbytes // AXIS_SAMPLE.itemsize
        sizes = [
            features * 9 * constants.association.itemsize,
            cells * constants.classes * constants.class_logits.itemsize,
            4 * (constants.grid[0] + 1),
            4 * (constants.grid[1] + 1),
            AXIS_SAMPLE.itemsize * height,
            AXIS_SAMPLE.itemsize * width,
            height * width,
            height * width,
            2 * height * width,
        ]
        touches = tuple(cuda.memory_at(p, nbytes, True) for p, nbytes in zip(arguments[:-1], sizes, strict=True) if p)
        assert (block, grid[0]) == ((TILE[0] * TILE[1], 1, 1), cells)
        pointers = [ctypes.c_void_p(p - DEVICE_SPACE if p else None) for p in arguments[:-1]]
        rest = [ctypes.c_int(number) for number in (width, grid[1], grid[2])]
        return lambda: self.library.paint_all(*pointers, *rest), touches

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


def constants_of(info: ModelInfo) -> list[PaintingConstants]:
    """What the kernel is compiled for with this model, whose outputs are float32; none for other forms."""
    if info.geometry is None:
        return []
    floats = np.dtype(np.float32)
    return [PaintingConstants(info.geometry.grid, info.geometry.feature_cell, info.num_classes, floats, floats)]


@dataclass
class HostKernels:
    """What machine code computes: that of the painting kernel for one of these sets of constants, and of compute capability 8.7.

    Attributes:
        constants: of the kernels.
        folder: for their builds.
    """

    constants: list[PaintingConstants]
    folder: Path
    _built: dict[bytes, HostKernel] = field(default_factory=dict)

    def __call__(self, code: bytes) -> Callable[..., tuple[Callable[[], None], tuple[Memory, ...]]]:
        for constants in self.constants if code not in self._built else ():
            if compile_painting(constants, (8, 7)) == code:
                self._built[code] = HostKernel.build(constants, self.folder)
        if code not in self._built:
            raise BrokenRuleError("[launch] the machine code is for another model or GPU")
        return self._built[code].launched


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
