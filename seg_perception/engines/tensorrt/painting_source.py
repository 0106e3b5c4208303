"""The painting kernel's source with the constants it is compiled for, and NVRTC, which compiles it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_perception.engines.base import EngineError, last_line
from seg_perception.painting_geometry import Axis

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("painting.cu")
# A warp along x, so that it writes 32 neighbouring pixels at once; four rows of them fill a block well enough and leave little
# idle at the edges of cells.
TILE = (4, 32)  # (height, width), pixels; a thread each
_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float16): "half_bits"}
# As `AxisSample` of the source.
AXIS_SAMPLE = np.dtype([("lower", np.int32), ("upper", np.int32), ("weight", np.float32)])


@dataclass(frozen=True)
class PaintingConstants:
    """What the kernel is compiled for.

    Attributes:
        grid: (R, C), superpixels.
        feature_cell: (h, w), pixel features in a cell; P = h * w.
        classes: K, 1 to 255.
        association, class_logits: element types, float32 or float16.

    Raises:
        ValueError: a type that the kernel does not read.
    """

    grid: tuple[int, int]
    feature_cell: tuple[int, int]
    classes: int
    association: np.dtype
    class_logits: np.dtype

    def __post_init__(self) -> None:
        for name, dtype in (("association", self.association), ("class_logits", self.class_logits)):
            if dtype not in _TYPES:
                raise ValueError(f"{name} is {dtype}, expected float32 or float16")

    def definitions(self) -> list[str]:
        """Compiler options, one a constant."""
        values = {
            "ASSOCIATION": _TYPES[self.association],
            "CLASS_LOGITS": _TYPES[self.class_logits],
            "CLASSES": self.classes,
            "ROWS": self.grid[0],
            "COLS": self.grid[1],
            "CELL_FEATURES": self.feature_cell[0] * self.feature_cell[1],
            "FEATURE_COLS": self.feature_cell[1],
            "TILE_H": TILE[0],
            "TILE_W": TILE[1],
        }
        return [f"-D{name}={value}" for name, value in values.items()]


def compile_painting(constants: PaintingConstants, compute_capability: tuple[int, int]) -> bytes:
    """The kernel as machine code (cubin) for one kind of GPU, by NVRTC; needs no GPU.

    Raises:
        EngineError: NVRTC is not installed, does not know the GPU, or refuses the source; with its own words.
    """
    try:
        from cuda.bindings import nvrtc
    except (ImportError, OSError) as error:
        raise EngineError(
            f"painting on the GPU needs NVRTC: {last_line(error)}; install it with `pip install 'seg_perception[cuda]'`"
        ) from error
    options = [
        f"--gpu-architecture=sm_{compute_capability[0]}{compute_capability[1]}",
        "--std=c++17",
        *constants.definitions(),
    ]
    try:
        status, program = nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, None, None)
        if int(status):
            raise EngineError(f"NVRTC cannot start: {_words(nvrtc, status)}")
        try:
            (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
            log = _log(nvrtc, program)
            if int(status):
                raise EngineError(
                    f"NVRTC does not compile the painting kernel for {options[0].partition('=')[2]}: "
                    f"{_words(nvrtc, status)}{log and f': {log}'}"
                )
            if log:
                logger.warning("NVRTC on the painting kernel for %s: %s", options[0].partition("=")[2], log)
            _, size = nvrtc.nvrtcGetCUBINSize(program)
            cubin = bytearray(size)
            nvrtc.nvrtcGetCUBIN(program, cubin)
            return bytes(cubin)
        finally:
            nvrtc.nvrtcDestroyProgram(program)
    except RuntimeError as error:  # cuda-python's own, where libnvrtc is missing
        raise EngineError(f"painting on the GPU needs NVRTC: {last_line(error)}") from error


def nvrtc_version() -> str:
    """Of the compiler, such as "13.0"; part of the key under which machine code is kept."""
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


def _words(nvrtc: object, status: object) -> str:
    text = nvrtc.nvrtcGetErrorString(status)[1]  # type: ignore[attr-defined]
    return text.decode() if isinstance(text, bytes) else str(text)


def _log(nvrtc: object, program: object) -> str:
    size = nvrtc.nvrtcGetProgramLogSize(program)[1]  # type: ignore[attr-defined]
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)  # type: ignore[attr-defined]
    return " ".join(log.rstrip(b"\0").decode(errors="replace").split())


def axis_tables(axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    """An axis of the output as the kernel takes it.

    Returns:
        int32 (cells + 1,), where each cell's pixels begin and end; AXIS_SAMPLE (pixels,).
    """
    samples = np.empty(axis.pixels, AXIS_SAMPLE)
    samples["lower"], samples["upper"], samples["weight"] = axis.lower, axis.upper, axis.weight
    return axis.start, samples
