"""What a person can ask of a build."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PRECISIONS = ("fp32", "fp16", "int8", "best")
FILE_PRECISIONS = {"float32": "fp32", "float16": "fp16", "int8": "int8"}  # of a model file -> computed as it says
MAX_BATCH = 64  # what export leaves free


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built; all of it but `timeout_s` is part of the cache's key.

    Attributes:
        precision: "fp32": 32-bit floats, no TF32. "fp16": half floats, except where vision models overflow (norms,
            softmax, attention scores, sums, the association and its output), which stay 32-bit. "int8": what the file
            quantises in 8 bits; only for files that were exported so. "best": the shortest that the file allows (its
            own types, or fp16 made from float32), and TF32 in the products that stay 32-bit.
        max_batch: the engine takes 1 to this many images at once and is quickest at this many.
        workspace_mb: most device memory that a layer may use while it runs, megabytes (2**20); 0: TensorRT's choice.
        optimization_level: 0 (quick to build) to 5 (quick to run).
        dla_core: a DLA core's index, -1 for the GPU alone.
        compute_capability: such as (8, 9): build for this GPU instead of the machine's own; TensorRT for RTX alone.
        keep_fp32: names of the model's tensors that fp16 leaves in 32-bit floats, beside those that it always does.
        timeout_s: a build that takes longer is ended.

    Raises:
        ValueError: a value is outside its range.
    """

    precision: str = "fp32"
    max_batch: int = 1
    workspace_mb: int = 0
    optimization_level: int = 3
    dla_core: int = -1
    compute_capability: tuple[int, int] | None = None
    keep_fp32: tuple[str, ...] = ()
    timeout_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}, expected one of: {', '.join(PRECISIONS)}")
        if not 1 <= self.max_batch <= MAX_BATCH:
            raise ValueError(f"batch is {self.max_batch}, expected 1 to {MAX_BATCH}")
        if self.workspace_mb < 0:
            raise ValueError(f"workspace is {self.workspace_mb} MB, expected 0 (TensorRT's choice) or more")
        if not 0 <= self.optimization_level <= 5:
            raise ValueError(f"optimization level is {self.optimization_level}, expected 0 to 5")
        if self.keep_fp32 and self.precision not in ("fp16", "best"):
            raise ValueError(
                f"tensors to keep in fp32 were named, the precision is {self.precision}, expected fp16 or best"
            )
        if self.timeout_s <= 0:
            raise ValueError(f"time limit of a build is {self.timeout_s} s, expected more than 0")

    @property
    def tf32(self) -> bool:
        return self.precision == "best"

    def key_fields(self) -> dict[str, Any]:
        """What decides which engine comes out, as plain JSON types."""
        fields = asdict(self)
        del fields["timeout_s"]
        fields["compute_capability"] = list(self.compute_capability) if self.compute_capability else None
        fields["keep_fp32"] = list(self.keep_fp32)
        return fields


@dataclass(frozen=True)
class TensorRtSettings:
    """What a robot's configuration says of TensorRT, beside what all engines have.

    Attributes:
        precision: one of PRECISIONS; empty: what the engine's own "f32" or "fast" means for the file.
        while_building: "wait" or "fallback", see `ChangeoverEngine`.
        workspace_mb, optimization_level, dla_core, keep_fp32, timeout_s: see `BuildOptions`.
        cache: folder of the engines; empty: the user's.
        cache_limit_mb: most megabytes that engines take there.
        threshold: least share of pixels on which an engine must agree with the model to be used; 0: it is not asked.
        max_batch: most images that are computed at once, such as the number of cameras. Models of the form `labels`, and
            files that are fixed to one image, take one at a time.
    """

    precision: str = ""
    while_building: str = "wait"
    workspace_mb: int = 0
    optimization_level: int = 3
    dla_core: int = -1
    keep_fp32: tuple[str, ...] = ()
    timeout_s: float = 3600.0
    cache: str = ""
    cache_limit_mb: int = 4096
    threshold: float = 0.99
    max_batch: int = 1


def required_precision(engine_precision: str, file_precision: str) -> str:
    """Which of PRECISIONS an engine's "f32" or "fast" (see `Engine`) means for a file of this precision.

    "f32" adds nothing to what the file itself shortens; "fast" is half floats, or what an int8 file says.
    """
    own = FILE_PRECISIONS[file_precision]
    return "fp16" if engine_precision == "fast" and own == "fp32" else own


def check_file(precision: str, file_precision: str, path: object) -> bool:
    """Whether the file must be converted to half floats for this precision; False: it is built as it is.

    Raises:
        ValueError: the file cannot give this precision.
    """
    own = FILE_PRECISIONS[file_precision]
    if precision == "best":
        return own == "fp32"
    if precision == own:
        return False
    if precision == "fp16" and own == "fp32":
        return True
    how = "--precision int8 --calibration DIR" if precision == "int8" else f"--precision {_EXPORTED[precision]}"
    raise ValueError(
        f"model file {path} computes in {file_precision}, asked for {precision}; "
        f"build it with --precision {own} or best, or export it with `python -m seg_models.export {how}`"
    )


_EXPORTED = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
