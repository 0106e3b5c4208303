"""Images through TensorRT on a strict device in software, painted there: results, graphs, memory."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
pytest.importorskip("cuda.bindings", reason="needs NVRTC: pip install 'seg_perception[cuda]'")

from seg_perception.painting import Painted
from test.seg_perception.engines.tensorrt.painted_bench import SIZE, Bench, Kit, assert_same, image, make_bench
from test.seg_perception.tiny_model import INPUT_SIZE


@pytest.mark.parametrize("integrated", [False, True])
def test_masks_painted_on_the_device_are_those_of_the_processor_and_graphs_run_from_the_second_image_on(
    kit: Kit, tmp_path: Path, integrated: bool
) -> None:
    bench = make_bench(kit, tmp_path / "engines", integrated)
    with bench.engine() as engine:
        assert engine.problem == ""
        for seed in range(5):
            before = bench.cuda.graph_launches
            came = engine.infer_painted(image(seed), SIZE, True, True)
            assert came is not None
            assert bench.cuda.graph_launches - before == (seed > 0)
            assert came.class_logits is not None
            scores = came.class_logits.copy()
            outputs = engine.infer(image(seed))
            np.testing.assert_array_equal(scores, outputs["class_logits"][0])
            assert_same(came, bench.expected(outputs, SIZE))
        kept = came.labels.copy()
        engine.infer_painted(image(9), SIZE, True, True)
        np.testing.assert_array_equal(came.labels, kept)  # the result is the caller's
    assert bench.cuda.held == {}


@pytest.mark.parametrize(("confidence", "superpixels"), [(False, False), (True, False), (False, True)])
def test_only_what_is_wanted_comes_back(bench: Bench, confidence: bool, superpixels: bool) -> None:
    with bench.engine() as engine:
        copies = bench.cuda.calls.count("cudaMemcpyAsync")
        engine.infer_painted(image(), INPUT_SIZE, confidence, superpixels)
        # The image in; class scores, some kilobytes, labels and what else is wanted out; association stays on the device.
        assert bench.cuda.calls.count("cudaMemcpyAsync") - copies == 3 + confidence + superpixels
        came = engine.infer_painted(image(), INPUT_SIZE, confidence, superpixels)
        assert came is not None
        assert (came.confidence is not None, came.superpixels is not None) == (confidence, superpixels)


def test_no_image_takes_memory_and_many_sizes_keep_memory_bounded(bench: Bench) -> None:
    with bench.engine() as engine:
        for _ in range(3):
            engine.infer_painted(image(), SIZE, True, True)
        taken, calls = bench.cuda.memory(), len(bench.cuda.calls)
        engine.infer_painted(image(), SIZE, True, True)
        assert set(bench.cuda.calls[calls:]) == {"cudaGraphLaunch", "cudaStreamQuery"}
        assert bench.cuda.memory() == taken
        held = []
        for side in range(20, 32):
            came = engine.infer_painted(image(), (side, side), True, True)
            assert_same(came, bench.expected(engine.infer(image()), (side, side)))
            held.append(len(bench.cuda.held))
        assert max(held[4:]) == held[4]
    assert bench.cuda.held == {}


def test_without_capture_everything_runs_and_that_is_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.cuda.capturable = False
    with bench.engine() as engine:
        for seed in range(4):
            assert_same(
                engine.infer_painted(image(seed), SIZE, True, True), bench.expected(engine.infer(image(seed)), SIZE)
            )
        assert engine.name == "tensorrt"
    assert bench.cuda.graph_launches == 0
    assert bench.cuda.held == {}


def test_the_kernel_is_compiled_once_for_all_starts(bench: Bench) -> None:
    (kept,) = bench.cache.glob("painting-*.kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("seg_perception.engines.tensorrt.painting_kernel.compile_painting")
        with bench.engine() as engine:
            assert engine.infer_painted(image(), SIZE, True, True) is not None
    kept.unlink()
    with bench.engine():
        assert kept.exists()


def test_it_may_be_opened_in_one_thread_and_run_in_another(bench: Bench) -> None:
    results: list[Painted | None] = []
    with bench.engine() as engine:
        thread = threading.Thread(
            target=lambda: results.extend(engine.infer_painted(image(), SIZE, True, True) for _ in range(3))
        )
        thread.start()
        thread.join()
        assert_same(results[2], bench.expected(engine.infer(image()), SIZE))
    assert bench.cuda.held == {}
