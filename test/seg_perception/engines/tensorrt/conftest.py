"""What the tests of TensorRT share: the real TensorRT for RTX, which builds without a GPU, and a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cache import EngineCache
from test.seg_perception.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tensorrt() -> TensorRt:
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
    return TensorRt.load("tensorrt_rtx")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")
