"""Images through TensorRT on a strict device in software, painted there: results, graphs, memory, and every call failing."""

from __future__ import annotations

import gc
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from seg_perception.engines.base import Engine
from seg_perception.engines.onnxruntime import OnnxRuntimeEngine
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.make import make_engine
from seg_perception.engines.tensorrt.options import TensorRtSettings
from seg_perception.model.model_file import read_model_info
from seg_perception.painting import Painted, Painter
from test.seg_perception.tiny_model import INPUT_SIZE, write_tiny_association_model

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
pytest.importorskip("cuda.bindings", reason="needs NVRTC: pip install 'seg_perception[cuda]'")

from test.seg_perception.engines.tensorrt.host_kernel import HostKernels, constants_of
from test.seg_perception.engines.tensorrt.software_device import BrokenRuleError, SoftwareCuda
from test.seg_perception.engines.tensorrt.software_runtime import SoftwareTensorRt

SIZE = (37, 51)  # of the painted image
BIG = (60, 80)


@dataclass
class Bench:
    """A robot with a device in software and a model of the form `association`."""

    model: Path
    cache: Path
    kernels: HostKernels
    integrated: bool = False
    cuda: SoftwareCuda = field(init=False)

    def __post_init__(self) -> None:
        self.cuda = SoftwareCuda(self.integrated, self.kernels)
        self.module = SoftwareTensorRt(self.cuda, lambda plan: self.model)
        self.info = read_model_info(self.model)

    def engine(self) -> Engine:
        def other() -> Engine:
            return OnnxRuntimeEngine(self.info, 1, "f32", 1)

        return make_engine(
            self.info,
            1,
            "f32",
            1,
            tensorrt=TensorRt(self.module, "tensorrt_rtx"),
            cuda=self.cuda,
            settings=TensorRtSettings(cache=str(self.cache)),
            on_progress=lambda progress: None,
            fallback=other,
            reference=other,
        )

    def painted(self, engine: Engine, image: np.ndarray, size: tuple[int, int]) -> Painted:
        """As the segmenter does it: by the engine, or where that does not, on the processor."""
        painted = engine.infer_painted(image, size, True, True)
        if painted is not None:
            return painted
        outputs = engine.infer(image)
        return self.expected(outputs, size)

    def expected(self, outputs: dict[str, np.ndarray], size: tuple[int, int]) -> Painted:
        assert self.info.geometry is not None
        return Painter(self.info.geometry).paint(outputs["association"][0], outputs["class_logits"][0], size)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, HostKernels]:
    """A model, a cache with its engine, checked, and what its painting kernel computes."""
    folder = tmp_path_factory.mktemp("painted")
    model = write_tiny_association_model(folder / "association.onnx")
    kernels = HostKernels(constants_of(read_model_info(model)), folder)
    with Bench(model, folder / "engines", kernels).engine() as engine:
        assert engine.name == "tensorrt"
    return model, folder / "engines", kernels


def a_bench(kit: tuple[Path, Path, HostKernels], folder: Path, integrated: bool = False) -> Bench:
    return Bench(kit[0], Path(shutil.copytree(kit[1], folder)), kit[2], integrated)


@pytest.fixture
def bench(kit: tuple[Path, Path, HostKernels], tmp_path: Path) -> Bench:
    return a_bench(kit, tmp_path / "engines")


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, *INPUT_SIZE, 3), np.uint8)


def assert_same(came: Painted, expected: Painted) -> None:
    np.testing.assert_array_equal(came.labels, expected.labels)
    np.testing.assert_array_equal(came.superpixels, expected.superpixels)
    # Both round a probability x 255 that they sum up in another order.
    assert np.abs(came.confidence.astype(int) - expected.confidence.astype(int)).max() <= 1


@pytest.mark.parametrize("integrated", [False, True])
def test_masks_painted_on_the_device_are_those_of_the_processor_and_graphs_run_from_the_second_image_on(
    kit: tuple[Path, Path, HostKernels], tmp_path: Path, integrated: bool
) -> None:
    bench = a_bench(kit, tmp_path / "engines", integrated)
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


def test_the_kernel_is_compiled_once_for_all_starts(bench: Bench) -> None:
    (kept,) = bench.cache.glob("painting-*.kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("seg_perception.engines.tensorrt.painting_kernel.compile_painting")
        with bench.engine() as engine:
            assert engine.infer_painted(image(), SIZE, True, True) is not None
    kept.unlink()
    with bench.engine():
        assert kept.exists()


@pytest.mark.parametrize("code", [2, 700], ids=["out of memory", "lost device"])
@pytest.mark.parametrize("integrated", [False, True])
def test_whichever_call_fails_every_image_is_answered_rightly_and_nothing_is_kept(
    kit: tuple[Path, Path, HostKernels], tmp_path: Path, integrated: bool, code: int
) -> None:
    bench = a_bench(kit, tmp_path / "engines", integrated)
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
        executor._timeout_s = 0.05
        bench.cuda.stuck = True
        calls = len(bench.cuda.calls)
        assert engine.infer_painted(image(), INPUT_SIZE, True, True) is None  # the fallback paints on the processor
        assert engine.name == "onnxruntime"
        assert not {"cudaFree", "cudaFreeHost", "cudaStreamDestroy"} & set(bench.cuda.calls[calls:])
    del executor
    gc.collect()
    assert bench.module.destroyed_at_work == 0


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


def test_the_device_in_software_refuses_what_cuda_forbids() -> None:
    cuda = SoftwareCuda(integrated=False)
    stream, memory, pinned = cuda.stream_create(), cuda.malloc(64), cuda.host_alloc(64, False)
    pageable = np.zeros(64, np.uint8)
    with pytest.raises(BrokenRuleError, match="no pinned host memory"):
        cuda.copy_to_device(memory, pageable.ctypes.data, 64, stream)
    with pytest.raises(BrokenRuleError, match="65 bytes at"):
        cuda.copy_to_device(memory, pinned, 65, stream)
    with pytest.raises(BrokenRuleError, match="not taken as mapped"):
        cuda.host_device_pointer(pinned)
    cuda.begin_capture(stream)
    with pytest.raises(BrokenRuleError, match="cudaMalloc while this thread captures"):
        cuda.malloc(1)
    with pytest.raises(BrokenRuleError, match="cudaStreamQuery of a stream that is captured"):
        cuda.stream_done(stream)
    cuda.copy_to_device(memory, pinned, 64, stream)
    graph = cuda.end_capture(stream)
    executable = cuda.graph_instantiate(graph)
    cuda.free(memory)
    cuda.graph_launch(executable, stream)
    cuda.stream_done(stream)
    with pytest.raises(BrokenRuleError, match="on memory that was given back"):
        cuda.stream_done(stream)
    with pytest.raises(BrokenRuleError, match="that a stream still works on"):
        cuda.host_free(pinned)
    with pytest.raises(BrokenRuleError, match="is no Memory that exists"):
        cuda.free(memory)
