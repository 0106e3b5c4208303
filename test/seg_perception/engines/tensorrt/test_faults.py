"""What goes wrong with a device while an engine is at work: each is one line and a way on, and no image is lost or wrong."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
pytest.importorskip("cuda.bindings", reason="needs NVRTC: pip install 'seg_perception[cuda]'")

from seg_perception.engines.base import Engine
from seg_perception.engines.onnxruntime import OnnxRuntimeEngine
from test.seg_perception.engines.tensorrt.painted_bench import BIG, SIZE, Bench, Kit, assert_same, image, make_bench
from test.seg_perception.engines.tensorrt.software_device import SoftwareCuda
from test.seg_perception.tiny_model import INPUT_SIZE


@pytest.mark.parametrize(
    "call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cuLaunchKernel"]
)
def test_a_capture_that_fails_is_left_for_plain_calls(
    bench: Bench, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    with bench.engine() as engine:
        engine.infer_painted(image(), BIG, True, True)
        bench.cuda.fail[call] = 900
        if call == "cuLaunchKernel":  # fails while it is captured, and not after that
            bench.cuda.fail.clear()
            bench.cuda.fail_once = (len(bench.cuda.calls) + 2, 900)  # begin, copy, launch
        came = engine.infer_painted(image(1), BIG, True, True)
        bench.cuda.fail.clear()
        assert engine.name == "tensorrt"
        assert_same(came, bench.expected(engine.infer(image(1)), BIG))
    assert f"runs without a CUDA graph: {call} failed" in caplog.text
    assert bench.cuda.held == {}


def test_no_memory_to_paint_leaves_painting_to_the_processor(bench: Bench) -> None:
    with bench.engine() as engine:
        bench.cuda.fail["cudaMalloc"] = 2
        assert engine.infer_painted(image(), BIG, True, True) is None
        bench.cuda.fail.clear()
        assert engine.problem.startswith("painting on the processor: cudaMalloc failed")
        assert engine.infer_painted(image(), BIG, True, True) is None
        assert "association" in engine.infer(image())
        assert engine.name == "tensorrt"
    assert bench.cuda.held == {}
    with bench.engine() as engine:
        assert engine.problem == ""


@pytest.mark.parametrize("code", [2, 700], ids=["out of memory", "lost device"])
@pytest.mark.parametrize("integrated", [False, True])
def test_whichever_call_fails_every_image_is_answered_rightly_and_nothing_is_kept(
    kit: Kit, tmp_path: Path, integrated: bool, code: int
) -> None:
    bench = make_bench(kit, tmp_path / "engines", integrated)
    with OnnxRuntimeEngine(bench.info, 1, "f32", 1) as truth:
        expected = [bench.expected(truth.infer(image(seed)), SIZE) for seed in range(3)]

    def life() -> str:
        with bench.engine() as engine:
            for seed in range(3):
                assert_same(bench.painted(engine, image(seed), SIZE), expected[seed])
            return engine.name

    assert life() == "tensorrt"
    last: dict[str, int] = {}
    for number, call in enumerate(bench.cuda.calls):
        last.setdefault(call, number)
    numbers = sorted({*(range(0, len(bench.cuda.calls), 9) if code == 2 else ()), *last.values()})
    for number in numbers:
        bench.cuda = SoftwareCuda(integrated, bench.kernels)
        bench.module.cuda = bench.cuda
        bench.cuda.fail_once = (number, code)
        served = life()
        call = bench.cuda.calls[number]
        if code == 700:
            continue  # what a lost device holds nobody can give back
        kept = {type(thing).__name__ for thing in bench.cuda.held.values()}
        # What could not be given back is all that is left; the engine serves unless it could not be opened or run.
        assert len(bench.cuda.held) <= 1, (number, call, kept)
        if bench.cuda.held:
            assert "Free" in call or "Destroy" in call or "Unload" in call, (number, call, kept)
        assert served in ("tensorrt", "onnxruntime")
    gc.collect()
    assert bench.module.destroyed_at_work == 0


def test_an_engine_that_hangs_keeps_its_memory_and_is_never_waited_for(bench: Bench) -> None:
    with bench.engine() as engine:
        executor = engine._wanted._executor  # type: ignore[attr-defined]
        executor.stream.timeout_s = 0.05
        bench.cuda.stuck = True
        calls = len(bench.cuda.calls)
        assert engine.infer_painted(image(), INPUT_SIZE, True, True) is None  # the fallback paints on the processor
        assert engine.name == "onnxruntime"
        assert not {"cudaFree", "cudaFreeHost", "cudaStreamDestroy"} & set(bench.cuda.calls[calls:])
    del executor
    gc.collect()
    assert bench.module.destroyed_at_work == 0


def hang(bench: Bench, engine: Engine) -> None:
    """Let an image find the device stuck."""
    engine._wanted._executor.stream.timeout_s = 0.05  # type: ignore[attr-defined]
    bench.cuda.stuck = True
    assert engine.infer_painted(image(), INPUT_SIZE, True, True) is None
    assert engine.name == "onnxruntime"


def test_after_a_hang_no_other_engine_waits_behind_it_until_the_device_answers(bench: Bench) -> None:
    with bench.engine() as engine:
        hang(bench, engine)
        held = len(bench.cuda.held)
    assert len(bench.cuda.held) == held > 0
    calls = len(bench.cuda.calls)
    with bench.engine() as engine:
        assert engine.name == "onnxruntime"
        assert "the GPU has still not come back from an engine that hung; start this process again" in engine.problem
    assert set(bench.cuda.calls[calls:]) == {"cudaStreamQuery"}  # nothing that would wait
    bench.cuda.stuck = False
    with bench.engine() as engine:
        assert engine.name == "tensorrt"
        assert_same(engine.infer_painted(image(), SIZE, True, True), bench.expected(engine.infer(image()), SIZE))
    assert bench.cuda.held == {}
    gc.collect()
    assert bench.module.destroyed_at_work == 0


def test_a_lost_device_costs_no_engine_and_no_build(bench: Bench) -> None:
    before = {path.name for path in bench.cache.iterdir()}
    with bench.engine() as engine:
        bench.cuda.fail["cudaGraphLaunch"] = bench.cuda.fail["cudaStreamQuery"] = 700
        assert engine.infer_painted(image(), SIZE, True, True) is None
    # TensorRT, asked again, knows no better than that it cannot load the engine.
    bench.module.refuse = "Cuda failure 700: an illegal memory access was encountered"
    with bench.engine() as engine:
        assert engine.name == "onnxruntime"
        assert "the device is lost to this process, start it again" in engine.problem
    assert bench.progress == []
    assert {path.name for path in bench.cache.iterdir()} == before


def test_memory_that_is_short_is_taken_from_sizes_that_no_longer_come(bench: Bench) -> None:
    with bench.engine() as engine:
        for size in (SIZE, BIG):
            assert engine.infer_painted(image(), size, True, True) is not None
        bench.cuda.fail_once = (len(bench.cuda.calls), 2)  # the first memory for the next size
        came = engine.infer_painted(image(), (20, 21), True, True)
        assert_same(came, bench.expected(engine.infer(image()), (20, 21)))
        assert engine.problem == ""
        assert engine.infer_painted(image(), SIZE, True, True) is not None
    assert bench.cuda.held == {}


def test_a_driver_that_is_older_than_the_runtime_is_one_line_and_the_fallback(bench: Bench) -> None:
    said = "the driver is for CUDA 11.4, cuda-python for 13.4; update the driver"
    bench.cuda.device_count = lambda: 0  # type: ignore[method-assign]
    bench.cuda.why_no_device = lambda: said  # type: ignore[method-assign]
    with bench.engine() as engine:
        assert engine.name == "onnxruntime"
        assert engine.problem == f"tensorrt failed: engine tensorrt cannot use the GPU: {said}"
        assert "association" in engine.infer(image())


def test_no_memory_for_a_context_is_one_line_and_the_fallback(bench: Bench) -> None:
    bench.module.no_context = "Error Code 2: OutOfMemory (Requested size was 123 bytes.)"
    with bench.engine() as engine:
        assert engine.name == "onnxruntime"
        assert "no execution context could be made: Error Code 2: OutOfMemory" in engine.problem
    assert bench.cuda.held == {}
