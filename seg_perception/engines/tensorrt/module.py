"""A TensorRT module that is in use: which it is, what it can do, and what it says when something fails."""

from __future__ import annotations

import re
from typing import Any

from seg_perception.engines.base import EngineError, last_line
from seg_perception.engines.tensorrt.callbacks import make_logger

OLDEST = (10, 3)  # of `tensorrt`; JetPack 6
_NO_DRIVER = re.compile(r"error:? 35\b|driver version is insufficient|no CUDA-capable device", re.IGNORECASE)
_NO_MEMORY = re.compile(r"out ?_?of ?_?memory", re.IGNORECASE)


class TensorRtError(EngineError):
    """TensorRT is missing, too old, or refused; the message is one line with TensorRT's own first error in it."""


class NoMemoryError(TensorRtError):
    """TensorRT ran out of memory."""


class UsedModule:
    """A TensorRT module with its version and its log.

    Args:
        module: the imported module.
        name: one of `api.MODULES`.

    Raises:
        TensorRtError: it is older than OLDEST.
    """

    def __init__(self, module: Any, name: str) -> None:
        self._module = module
        self.name = name
        self.version: str = module.__version__
        if name == "tensorrt" and self.version_tuple < OLDEST:
            raise TensorRtError(f"tensorrt is {self.version}, expected 10.3 or newer; update JetPack or the package")
        self.errors: list[str] = []  # the first that TensorRT logged in the call in hand; see `explained`
        self._logger = make_logger(module, self.errors)

    @property
    def is_rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    @property
    def version_tuple(self) -> tuple[int, ...]:
        """The version's leading numbers."""
        numbers = []
        for part in self.version.split("."):
            if not part.isdigit():
                break
            numbers.append(int(part))
        return tuple(numbers)

    @property
    def has_timing_cache(self) -> bool:
        return not self.is_rtx

    @property
    def builds_without_gpu(self) -> bool:
        """TensorRT times kernels on the GPU while it builds; TensorRT for RTX leaves that to the first run."""
        return self.is_rtx

    def explained(self, what: str, error: BaseException | None = None) -> TensorRtError:
        """An error with the first thing that TensorRT logged since the call began: what follows it is consequences."""
        reason = self.errors[0] if self.errors else last_line(error) if error else "it gave no reason"
        message = f"{self.name} {self.version}: {what}: {reason}"
        text = " ".join(self.errors)
        if _NO_MEMORY.search(text):
            return NoMemoryError(f"{message}; free device memory, or lower --workspace-mb or --optimization-level")
        if _NO_DRIVER.search(text):
            return TensorRtError(f"{message}; install or update the NVIDIA driver (nvidia-smi must work)")
        return TensorRtError(message)
