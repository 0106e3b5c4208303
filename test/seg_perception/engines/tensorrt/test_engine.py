from __future__ import annotations

import gc
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from seg_perception.engines.base import Engine, EngineError, NoEngineError
from seg_perception.engines.onnxruntime import OnnxRuntimeEngine
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cache import EngineCache
from seg_perception.engines.tensorrt.make import make_engine
from seg_perception.engines.tensorrt.options import TensorRtSettings
from seg_perception.engines.tensorrt.progress import BuildProgress
from seg_perception.engines.tensorrt.stored_images import stored_images
from seg_perception.model.model_file import read_model_info
from test.seg_perception.engines.tensorrt.software_cuda import NoDevice
from test.seg_perception.tiny_model import GRID, INPUT_SIZE, grid_cells, tiny_labels, write_tiny_association_model

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")

from test.seg_perception.engines.tensorrt.host_kernel import HostKernels, constants_of
from test.seg_perception.engines.tensorrt.software_device import SoftwareCuda
from test.seg_perception.engines.tensorrt.software_runtime import SoftwareTensorRt


@dataclass
class Bench:
    """A robot with a device in software, and engines made for it."""

    model: Path
    cache: Path
    cuda: SoftwareCuda = field(default_factory=SoftwareCuda)
    runs: Path | None = None  # another model than the engine was built from, to compute something else
    progress: list[BuildProgress] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.module = SoftwareTensorRt(self.cuda, lambda plan: self.runs or self.model)

    def engine(self, tensorrt_precision: str = "", batch: int = 1, **settings) -> Engine:
        info = read_model_info(self.model)

        def other() -> Engine:
            return OnnxRuntimeEngine(info, 1, "f32", batch)

        return make_engine(
            info,
            1,
            "f32",
            batch,
            tensorrt=TensorRt(self.module, "tensorrt_rtx"),
            cuda=self.cuda,
            settings=TensorRtSettings(tensorrt_precision, cache=str(self.cache), **settings),
            on_progress=self.progress.append,
            fallback=other,
            reference=other,
        )


@pytest.fixture(scope="module")
def built(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with this model's engine for one image, not yet checked."""
    folder = tmp_path_factory.mktemp("cache") / "engines"
    with Bench(model, folder).engine(threshold=0.0):
        return folder


@pytest.fixture
def bench(model: Path, built: Path, tmp_path: Path) -> Bench:
    return Bench(model, Path(shutil.copytree(built, tmp_path / "engines")))


def images(count: int = 1) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *INPUT_SIZE, 3), np.uint8)


def opposite(path: Path, model: Path) -> Path:
    """A model that gives other labels: the engine under test computes it, as one that overflows would."""
    proto = onnx.load(str(model))
    weights = next(tensor for tensor in proto.graph.initializer if tensor.name == "weights")
    weights.CopyFrom(onnx.numpy_helper.from_array(np.zeros(2, np.float32), "weights"))
    onnx.save(proto, str(path))
    return path


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_builds_checks_and_computes_what_the_graph_says(
    model: Path, tmp_path: Path, integrated: bool, batch: int
) -> None:
    bench = Bench(model, tmp_path / "engines")
    bench.cuda.integrated = integrated
    batch_images = images(batch)
    engine = bench.engine(batch=batch)
    with engine:
        outputs = engine.infer(batch_images)
        np.testing.assert_array_equal(outputs["labels"], tiny_labels(batch_images))
        np.testing.assert_array_equal(outputs["confidence"], batch_images[..., 2])
        np.testing.assert_array_equal(outputs["superpixels"], np.stack([grid_cells(INPUT_SIZE)] * batch))
        assert engine.name == "tensorrt"
        assert "Software, fp32" in engine.description
        assert bench.progress
        with pytest.raises(ValueError, match="image is uint8"):
            engine.infer(images(batch + 1))
    assert bench.cuda.held == {}  # what was taken is given back
    bench.progress.clear()
    with engine:
        engine.infer(batch_images)
    assert bench.progress == []  # from the cache
    assert bench.cuda.held == {}


def test_kernels_that_were_compiled_at_the_first_run_are_kept(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (kept,) = bench.cache.glob("*.kernels")
    assert b"kernels of this driver" in kept.read_bytes()
    before = kept.stat().st_mtime_ns
    with bench.engine():
        pass
    assert kept.stat().st_mtime_ns == before
    EngineCache(bench.cache).keep(kept.name, b"kernels of another driver")
    with bench.engine():
        pass
    assert "do not fit any more and are compiled anew" in caplog.text
    assert b"kernels of this driver" in kept.read_bytes()


def test_an_engine_that_disagrees_is_not_put_into_use(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench.runs = opposite(tmp_path / "opposite.onnx", bench.model)
    with bench.engine() as engine:
        assert engine.name == "onnxruntime"
        np.testing.assert_array_equal(engine.infer(images())["labels"], tiny_labels(images()))
    assert "is not used: labels" in caplog.text
    assert "--check-data DIR_OR_BAG` names the layers" in caplog.text
    caplog.clear()
    with bench.engine() as engine:  # what was found is kept with the engine
        assert engine.name == "onnxruntime"
    with bench.engine(threshold=0.0) as engine:
        assert engine.name == "tensorrt"
    assert bench.cuda.held == {}


def test_half_floats_that_disagree_give_way_to_an_engine_in_full_floats(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = iter([opposite(tmp_path / "opposite.onnx", bench.model), bench.model])  # the first one computes wrongly
    bench.module._model_of = lambda plan: next(loaded)
    with bench.engine("fp16") as engine:
        assert engine.name == "tensorrt"
        assert engine.description.endswith("Software, fp32")
        np.testing.assert_array_equal(engine.infer(images())["labels"], tiny_labels(images()))
    assert "fp16" in caplog.text
    assert "is not used: labels" in caplog.text
    assert bench.cuda.held == {}


def test_without_a_reference_it_is_used_unchecked_and_that_is_said(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> Engine:
        raise NoEngineError("no inference engine is installed")

    engine = make_engine(
        read_model_info(bench.model),
        1,
        "f32",
        1,
        tensorrt=TensorRt(bench.module, "tensorrt_rtx"),
        cuda=bench.cuda,
        settings=TensorRtSettings(cache=str(bench.cache)),
        on_progress=bench.progress.append,
        fallback=none,
        reference=none,
    )
    with engine:
        assert engine.name == "tensorrt"
    assert "is used unchecked: no inference engine is installed" in caplog.text


def test_an_engine_that_does_not_load_is_built_again_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with bench.engine():
        pass
    bench.progress.clear()
    bench.module.refuse = "The engine plan file is not compatible with this version of TensorRT"
    with bench.engine() as engine:
        assert engine.name == "onnxruntime"
    assert "not compatible with this version of TensorRT; it is built again" in caplog.text
    assert bench.progress
    assert bench.cuda.held == {}


def test_an_engine_that_finds_no_memory_is_kept_for_the_next_start(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.module.refuse = "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (out of memory)"
    before = {path.name for path in bench.cache.iterdir()}
    with bench.engine() as engine:
        assert engine.name == "onnxruntime"
    assert "free device memory, or lower --workspace-mb" in caplog.text
    assert bench.progress == []  # building it again would not help
    assert {path.name for path in bench.cache.iterdir()} == before


def test_an_agreement_of_another_version_is_asked_for_again(bench: Bench) -> None:
    (manifest,) = bench.cache.glob("*.json")
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(said | {"agreement": {"pixels": 1.0}}))
    with bench.engine() as engine:
        assert engine.name == "tensorrt"
    assert json.loads(manifest.read_text())["agreement"]["labels"] == 1.0


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaSetDevice"])
def test_no_memory_on_the_device_is_one_line_and_the_fallback(
    bench: Bench, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.cuda.integrated = False
    bench.cuda.fail[call] = 2
    with bench.engine() as engine:
        assert engine.name == "onnxruntime"
        assert f"{call} failed: told to fail (error 2)" in engine.description
    assert bench.cuda.held == {}


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [("cudaStreamQuery", 700, "the device is lost to this process"), ("cudaGraphLaunch", 1, "told to fail")],
)
def test_a_device_that_fails_in_mid_run_loses_no_image(
    bench: Bench, call: str, code: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.cuda.integrated = False
    with bench.engine() as engine:
        assert engine.name == "tensorrt"
        bench.cuda.fail[call] = code
        np.testing.assert_array_equal(engine.infer(images())["labels"], tiny_labels(images()))
        assert engine.name == "onnxruntime"
        assert said in engine.description
    assert said in caplog.text


def test_a_run_that_tensorrt_refuses_says_its_reason(bench: Bench) -> None:
    bench.cuda.capturable = False  # what is recorded does not ask TensorRT again
    with bench.engine() as engine:
        bench.module.run_fails = "IExecutionContext::enqueueV3: Error Code 3"
        engine.infer(images())
        assert "the engine did not run: IExecutionContext::enqueueV3" in engine.description


def test_an_engine_that_stops_answering_does_not_hang_the_robot(bench: Bench) -> None:
    with bench.engine() as engine:
        executor = engine._wanted._executor  # type: ignore[attr-defined]
        executor.stream.timeout_s = 0.05
        bench.cuda.stuck = True
        np.testing.assert_array_equal(engine.infer(images())["labels"], tiny_labels(images()))
        assert "has not answered for 0.05 s" in engine.description
    gc.collect()
    assert bench.module.destroyed_at_work == 0  # that would wait for ever


def test_without_a_device_or_with_a_wrong_precision_it_is_refused_at_once(bench: Bench) -> None:
    bench.cuda = NoDevice()  # type: ignore[assignment]
    with pytest.raises(EngineError, match="engine tensorrt needs an NVIDIA GPU: no NVIDIA driver is loaded"):
        bench.engine()
    bench.cuda = SoftwareCuda()
    with pytest.raises(ValueError, match="computes in float32, asked for int8"):
        bench.engine(tensorrt_precision="int8")


def test_the_stored_images_are_there() -> None:
    found = list(stored_images())
    assert len(found) == 3
    assert all(image.shape[2] == 3 and image.dtype == np.uint8 for image in found)
    assert cv2.absdiff(cv2.resize(found[0], (64, 48)), cv2.resize(found[1], (64, 48))).mean() > 5


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_form_association_is_compared_by_what_it_paints(tmp_path: Path, precision: str) -> None:
    path = write_tiny_association_model(tmp_path / "association.onnx")
    kernels = HostKernels(constants_of(read_model_info(path)), tmp_path)
    bench = Bench(path, tmp_path / "engines", SoftwareCuda(kernel_of=kernels))
    with bench.engine(precision, batch=2) as engine:
        assert engine.name == "tensorrt"
        outputs = engine.infer(images(2))
        assert outputs["association"].shape == (2, *GRID, 4, 9)
        assert outputs["association"].dtype == np.float32
        assert outputs["class_logits"].shape == (2, *GRID, 4)
    (manifest,) = bench.cache.glob("*.json")
    agreement = json.loads(manifest.read_text())["agreement"]
    assert (agreement["labels"], agreement["superpixels"], agreement["confidence"]) == (1.0, 1.0, 1.0)
    assert agreement["images"] == 3
