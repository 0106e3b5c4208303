"""Whether this machine has a GPU on which TensorRT can run, for the tests that need one."""

from __future__ import annotations

import pytest

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cuda_runtime import CudaRuntime


def skip_without_gpu() -> None:
    """Skip the test that calls it, with the reason, where there is none."""
    try:
        TensorRt.load()
        why = CudaRuntime.load().why_no_device()
    except EngineError as error:
        why = str(error)
    if why:
        pytest.skip(f"needs TensorRT and an NVIDIA GPU: {why}")
