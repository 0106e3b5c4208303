"""What the device in software stands in for, on a real one: `pytest -m gpu`, beside the self-test of `check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg_perception.engines.base import MaskRequest
from seg_perception.engines.select import create_engine
from seg_perception.engines.tensorrt.cuda_runtime import CudaRuntime
from seg_perception.engines.tensorrt.options import TensorRtSettings
from seg_perception.model.model_file import read_model_info
from seg_perception.painting import Painter
from test.seg_perception.engines.tensorrt.real_gpu import skip_without_gpu
from test.seg_perception.tiny_model import INPUT_SIZE, write_tiny_association_model

SIZES = [(37, 51), (480, 640), (24, 25)]
LEAK = 8 << 20  # bytes; other programs take and give, too


@pytest.mark.gpu
def test_cameras_together_have_the_masks_of_each_alone_and_deactivating_gives_memory_back(tmp_path: Path) -> None:
    skip_without_gpu()
    info = read_model_info(write_tiny_association_model(tmp_path / "tiny.onnx"))
    assert info.geometry is not None
    images = np.random.default_rng(0).integers(0, 256, (len(SIZES), *INPUT_SIZE, 3), np.uint8)  # (B, H, W, 3)
    settings = TensorRtSettings("fp32", cache=str(tmp_path / "engines"), max_batch=len(SIZES))
    cuda = CudaRuntime.load()
    with create_engine("tensorrt", info, settings=settings) as engine:
        assert (engine.name, engine.best_batch) == ("tensorrt", len(SIZES)), engine.description
        free = []
        for _ in range(3):
            for count in (3, 1, 2, 3, 3):
                came = engine.infer_painted_batch(images[:count], [MaskRequest(size) for size in SIZES[:count]])
                assert came is not None
                for place in range(count):
                    outputs = engine.infer(images[place : place + 1])
                    expected = Painter(info.geometry).paint(
                        outputs["association"][0], outputs["class_logits"][0], SIZES[place]
                    )
                    # Summed up in another order, which may decide a tie: a pixel in a thousand.
                    assert np.equal(came[place].labels, expected.labels).mean() > 0.999
                    assert np.equal(came[place].superpixels, expected.superpixels).mean() > 0.999
            engine.release_device()
            free.append(cuda.memory()[0])
            engine.open()
    assert min(free) >= free[0] - LEAK
