"""What the tests of TensorRT share: the real TensorRT for RTX, which builds without a GPU, and a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cache import EngineCache
from test.seg_perception.tiny_model import write_tiny_model

if TYPE_CHECKING:
    from test.seg_perception.engines.tensorrt.painted_bench import Bench, Kit


@pytest.fixture(scope="session")
def tensorrt() -> TensorRt:
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
    return TensorRt.load("tensorrt_rtx")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
    pytest.importorskip("cuda.bindings", reason="needs NVRTC: pip install 'seg_perception[cuda]'")
    from test.seg_perception.engines.tensorrt.painted_bench import make_kit

    return make_kit(tmp_path_factory.mktemp("painted"))


@pytest.fixture
def bench(kit: Kit, tmp_path: Path) -> Bench:
    from test.seg_perception.engines.tensorrt.painted_bench import make_bench

    return make_bench(kit, tmp_path / "engines")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")
