"""An engine that nobody needs gives its device back, and takes it again from the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
pytest.importorskip("cuda.bindings", reason="needs NVRTC: pip install 'seg_perception[cuda]'")

from seg_perception.engines.base import EngineError
from test.seg_perception.engines.tensorrt.painted_bench import SIZE, Bench, Kit, assert_same, image, make_bench


@pytest.mark.parametrize("integrated", [False, True])
def test_memory_returns_to_the_baseline_and_comes_back_without_a_build(
    kit: Kit, tmp_path: Path, integrated: bool
) -> None:
    bench = make_bench(kit, tmp_path / "engines", integrated)
    baseline = bench.cuda.memory()
    with bench.engine() as engine:
        assert engine.holds_device
        free, total = engine.device_memory or (0, 0)
        assert 0 < free < baseline[0] <= total
        for round_ in range(3):
            came = engine.infer_painted(image(round_), SIZE, True, True)
            assert_same(came, bench.expected(engine.infer(image(round_)), SIZE))
            engine.release_device()
            assert bench.cuda.held == {}
            assert bench.cuda.memory() == baseline
            assert not engine.holds_device
            assert engine.device_memory is None
            assert len(bench.module.contexts) == 0
            engine.release_device()  # twice does nothing
            with pytest.raises(EngineError, match="engine tensorrt is not open"):
                engine.infer(image())
            engine.open()
            assert engine.name == "tensorrt"
        engine.infer(image())
    assert bench.progress == []
    assert bench.cuda.held == {}


def test_a_cache_that_was_cleared_meanwhile_is_filled_again(bench: Bench) -> None:
    with bench.engine() as engine:
        engine.release_device()
        for path in bench.cache.iterdir():
            path.unlink()
        engine.open()
        assert bench.progress
        assert engine.name == "tensorrt"


def test_no_memory_when_it_is_taken_again_is_the_fallback(bench: Bench) -> None:
    with bench.engine() as engine:
        engine.release_device()
        bench.cuda.fail["cudaMalloc"] = 2
        engine.open()
        assert engine.name == "onnxruntime"
        assert "cudaMalloc failed: told to fail (error 2)" in engine.problem
        engine.release_device()  # it holds none, and stays open
        assert "association" in engine.infer(image())
    assert bench.cuda.held == {}


def test_masks_outlive_the_device_that_painted_them(bench: Bench) -> None:
    with bench.engine() as engine:
        came = engine.infer_painted(image(), SIZE, True, True)
        labels = came.labels.copy()
        engine.release_device()
        np.testing.assert_array_equal(came.labels, labels)
