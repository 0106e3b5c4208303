"""Painting on the GPU: the kernel for one model, and its place in the work of an image of one size."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seg_perception.engines.tensorrt.cache import EngineCache
from seg_perception.engines.tensorrt.cuda import Cuda, CudaError
from seg_perception.engines.tensorrt.holdings import Holdings, host_view
from seg_perception.engines.tensorrt.painting_source import (
    SOURCE,
    TILE,
    PaintingConstants,
    axis_tables,
    compile_painting,
    nvrtc_version,
)
from seg_perception.painting_geometry import PaintingGeometry, axis

PLANES = {"labels": np.uint8, "superpixels": np.uint16, "confidence": np.uint8}  # in the order in which they come back


def kept_kernel(constants: PaintingConstants, compute_capability: tuple[int, int], cache: EngineCache) -> bytes:
    """The kernel's machine code, out of the cache or compiled now and kept there.

    Raises:
        EngineError: it cannot be compiled here.
        OSError: the cache cannot be written.
    """
    key = hashlib.sha256(SOURCE.read_bytes())
    key.update(repr((constants.definitions(), compute_capability, nvrtc_version())).encode())
    name = f"painting-{key.hexdigest()[:16]}.kernels"
    code = cache.kept(name)
    if not code:
        code = compile_painting(constants, compute_capability)
        cache.keep(name, code)
    return code


@dataclass(frozen=True)
class Plane:
    """One painted output: where the device writes it, and where the host reads it (the same memory where it is mapped)."""

    device: int
    host: int
    array: np.ndarray


class PaintingStage:
    """Paints one image of one size, at one place of a batch, on the device. All memory is taken here; `enqueue` only makes calls.

    Args:
        cuda, stream: where it runs. The tables are copied on this stream.
        kernel: from `PaintingConstants` of the geometry.
        geometry: of the model.
        size: (H, W) of the painted image.
        association, class_logits: where the image's part of the engine's outputs lies in device memory.
        mapped: whether the device writes into the host's memory.
        wait: until the stream is done; raises EngineError where that takes too long.

    Raises:
        CudaError: no memory; what was taken is given back.
    """

    def __init__(
        self,
        cuda: Cuda,
        stream: int,
        kernel: int,
        geometry: PaintingGeometry,
        size: tuple[int, int],
        association: int,
        class_logits: int,
        mapped: bool,
        wait: Callable[[], None],
    ) -> None:
        self._cuda = cuda
        self._stream = stream
        self._kernel = kernel
        self._inputs = (association, class_logits)
        self._mapped = mapped
        self._width = size[1]
        self._holdings = Holdings(cuda)
        self._planes: dict[str, Plane] = {}
        axes = [
            axis_tables(axis(*sides))
            for sides in zip(
                size, geometry.input_size, geometry.cell, geometry.feature_cell, geometry.grid, strict=True
            )
        ]
        tiles = [
            int(-(-np.diff(start).max() // side)) for (start, _), side in zip(axes, TILE, strict=True)
        ]  # of the largest cell: down, across
        self._grid = (geometry.grid[0] * geometry.grid[1], tiles[1], tiles[0])
        (row_start, y_samples), (col_start, x_samples) = axes
        try:
            self._tables = [self._uploaded(table) for table in (row_start, col_start, y_samples, x_samples)]
            for name, dtype in PLANES.items():
                self._planes[name] = self._plane(name, size, np.dtype(dtype))
            wait()
        except CudaError:
            with contextlib.suppress(CudaError):
                wait()  # for the tables that are on their way; where it hangs, their memory stays
            self.close()
            raise

    def masks(self, confidence: bool, superpixels: bool) -> dict[str, np.ndarray]:
        """Those [H, W] that are wanted, as the host sees them when the stream is done; they hold until it paints again."""
        wanted = _wanted(confidence, superpixels)
        return {name: plane.array for name, plane in self._planes.items() if wanted[name]}

    def enqueue(self, confidence: bool, superpixels: bool) -> None:
        """Paint, and bring back what is wanted, labels first."""
        wanted = _wanted(confidence, superpixels)
        pointers = {name: plane.device if wanted[name] else 0 for name, plane in self._planes.items()}
        outputs = [pointers[name] for name in ("labels", "confidence", "superpixels")]
        arguments = [ctypes.c_void_p(p) for p in (*self._inputs, *self._tables, *outputs)]
        block = (TILE[0] * TILE[1], 1, 1)
        self._cuda.launch(self._kernel, self._grid, block, [*arguments, ctypes.c_int(self._width)], self._stream)
        if not self._mapped:
            for name, plane in self._planes.items():
                if wanted[name]:
                    self._cuda.copy_to_host(plane.host, plane.device, plane.array.nbytes, self._stream)

    def close(self) -> None:
        """Give the memory back; nothing of this may be running."""
        self._planes = {}
        self._holdings.close()

    def _plane(self, name: str, size: tuple[int, int], dtype: np.dtype) -> Plane:
        nbytes = size[0] * size[1] * dtype.itemsize
        host = self._holdings.pinned(name, nbytes, self._mapped)
        device = self._cuda.host_device_pointer(host) if self._mapped else self._holdings.device(name, nbytes)
        return Plane(device, host, host_view(host, nbytes).view(dtype).reshape(size))

    def _uploaded(self, table: np.ndarray) -> int:
        device = self._holdings.device("a table of the painting", table.nbytes)
        staging = self._holdings.pinned("a table of the painting", table.nbytes)
        host_view(staging, table.nbytes)[:] = np.ascontiguousarray(table).view(np.uint8).reshape(-1)
        self._cuda.copy_to_device(device, staging, table.nbytes, self._stream)
        return device


def _wanted(confidence: bool, superpixels: bool) -> dict[str, bool]:
    return {"labels": True, "superpixels": superpixels, "confidence": confidence}
