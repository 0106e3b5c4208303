"""The real node with a GPU in software: `python -m` this, with the node's arguments and SOFTWARE_GPU_MODEL set.

With SOFTWARE_GPU_LOADS_AFTER, no engine loads before that file is there: how long a fallback serves is then the test's choice.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from seg_perception.engines import select
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.model.model_file import read_model_info
from seg_perception.ros.node import main
from test.seg_perception.engines.tensorrt.host_kernel import HostKernels, constants_of
from test.seg_perception.engines.tensorrt.software_device import SoftwareCuda
from test.seg_perception.engines.tensorrt.software_runtime import SoftwareTensorRt
from test.seg_perception.waiting import wait_until


class ToldCuda(SoftwareCuda):
    """Tells what is left when an engine has given everything back: its stream goes last."""

    def stream_destroy(self, stream: int) -> None:
        super().stream_destroy(stream)
        print(f"device given back: {len(self.held)} things held", flush=True)


def model_of(plan: bytes) -> Path:
    """Which model an engine computes; returns when engines may load."""
    if "SOFTWARE_GPU_LOADS_AFTER" in os.environ:
        wait_until(Path(os.environ["SOFTWARE_GPU_LOADS_AFTER"]).exists, 120.0, "SOFTWARE_GPU_LOADS_AFTER")
    return Path(os.environ["SOFTWARE_GPU_MODEL"])


if __name__ == "__main__":
    model = Path(os.environ["SOFTWARE_GPU_MODEL"])
    with tempfile.TemporaryDirectory() as folder:
        cuda = ToldCuda(kernel_of=HostKernels(constants_of(read_model_info(model)), Path(folder)))
        module = SoftwareTensorRt(cuda, model_of)
        select.CudaRuntime.load = lambda: cuda  # type: ignore[method-assign, assignment]
        select.TensorRt.load = lambda: TensorRt(module, "tensorrt_rtx")  # type: ignore[method-assign, assignment]
        code = main()
        kernels = cuda.calls.count("cuLaunchKernel")
        print(
            f"software device: {len(cuda.held)} things held, {cuda.graph_launches} graphs run, {kernels} launches",
            flush=True,
        )
    sys.exit(code)
