"""The one way to TensorRT, and how its versions differ.

The calls are in `building_calls` and `running_calls`; two modules of one family are used through them: `tensorrt` 10.3
(JetPack 6) to 11.x, and `tensorrt_rtx` 1.x (TensorRT for RTX: from wheels on x86, builds without a GPU). What differs, and
the branch for it:

    what                             10.3 - 10.x     11.x          RTX 1.x      branch
    strongly typed networks          on request      always        on request   `_network_flags`: asked for where the
                                                                                flag exists; 11 accepts and ignores it
    FP16, INT8 flags, calibrators    there           removed       not there    never used: the ONNX says the types
    TF32 flag, on by default         there           there         there        `configure` always sets it one way
    device_memory_size               both, v2: 10.1  v2 only       v2 only      `context_memory`: v2 always
    how a context takes memory       an argument     the same      of a config  `execution_contexts`
    timing cache                     there           there         no-op,       `has_timing_cache`
                                                                   deprecated
    DLA                              10.3 - 10.7     from 11.4 on  none         `configure`: by the builder's number of
                                     on Orin         Orin (SBSA)                cores, 0 where there is none
    building for another GPU         no              no            there        `for_compute_capability`
    kernels                          in the plan     in the plan   compiled at  `execution_contexts`: a runtime cache
                                                                   first use    keeps them
    recording as a CUDA graph        fails, if not   the same      can be asked `capturable`

Sources: NVIDIA's "Migrating TensorRT from 10.x to 11.x" (Python, Jetson), "Working with DLA", the deprecation list of
TensorRT for RTX, and `tensorrt-stubs` 10.13, against which every call is type-checked.
"""

from __future__ import annotations

import importlib
import importlib.util

from seg_perception.engines.base import last_line
from seg_perception.engines.tensorrt.building_calls import BuildingCalls
from seg_perception.engines.tensorrt.module import TensorRtError
from seg_perception.engines.tensorrt.running_calls import RunningCalls

MODULES = ("tensorrt", "tensorrt_rtx")  # in the order in which `TensorRt.load` takes them
INSTALL_HINT = (
    "on a Jetson it comes with JetPack (apt install python3-libnvinfer; a virtual environment needs "
    "--system-site-packages), on x86 `pip install tensorrt` or, for RTX GPUs, `pip install tensorrt-rtx-cu13`"
)


def installed() -> list[str]:
    """Those of MODULES that are installed. A folder without code, as stub packages leave it, does not count."""
    found = []
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None and spec.origin is not None:
            found.append(name)
    return found


class TensorRt(BuildingCalls, RunningCalls):
    """One TensorRT module behind the few calls that this package makes; see `UsedModule` for arguments and errors."""

    @classmethod
    def load(cls, name: str = "") -> TensorRt:
        """Import TensorRT.

        Args:
            name: one of MODULES; empty takes the first that is installed.

        Raises:
            TensorRtError: none is installed, or its import fails; the message says what to install.
        """
        names = [name] if name else installed()
        if not names:
            raise TensorRtError(f"engine tensorrt is not installed: {INSTALL_HINT}")
        try:
            module = importlib.import_module(names[0])
        except (ImportError, OSError) as error:
            raise TensorRtError(f"{names[0]} does not import: {last_line(error)}; {INSTALL_HINT}") from error
        return cls(module, names[0])
