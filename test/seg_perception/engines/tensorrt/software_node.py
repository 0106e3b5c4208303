"""The real node with a GPU in software: `python -m` this, with the node's arguments and SOFTWARE_GPU_MODEL set."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from seg_perception.engines import select
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.ros.node import main
from test.seg_perception.engines.tensorrt.software_runtime import SoftwareCuda, SoftwareTensorRt

if __name__ == "__main__":
    model = Path(os.environ["SOFTWARE_GPU_MODEL"])
    module = SoftwareTensorRt(lambda plan: model)
    select.CudaRuntime.load = SoftwareCuda  # type: ignore[method-assign, assignment]
    select.TensorRt.load = lambda: TensorRt(module, "tensorrt_rtx")  # type: ignore[method-assign, assignment]
    sys.exit(main())
