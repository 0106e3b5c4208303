"""The calls of TensorRT, on the real TensorRT for RTX; what other versions have differently, on a module that says so."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seg_perception.engines.tensorrt import api
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.build import BuildRequest, build
from seg_perception.engines.tensorrt.cuda import CudaError
from seg_perception.engines.tensorrt.cuda_runtime import CudaRuntime
from seg_perception.engines.tensorrt.module import TensorRtError
from seg_perception.engines.tensorrt.options import BuildOptions
from test.seg_perception.tiny_model import INPUT_SIZE


class Base:
    def __init__(self) -> None:
        pass


def module(version: str, **members: Any) -> SimpleNamespace:
    return SimpleNamespace(__name__="tensorrt", __version__=version, ILogger=Base, **members)


def test_a_folder_of_type_stubs_is_no_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").write_text("class Builder: ...")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(api, "MODULES", ("tensorrt",))
    if importlib.util.find_spec("tensorrt").origin is None:  # none is installed beside it
        assert api.installed() == []


def test_a_tensorrt_that_is_broken_or_too_old_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt_rtx").mkdir()
    (tmp_path / "tensorrt_rtx" / "__init__.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        TensorRtError, match=r"tensorrt_rtx does not import: libnvinfer.so.10: cannot open; on a Jetson"
    ):
        TensorRt.load("tensorrt_rtx")
    with pytest.raises(TensorRtError, match=r"tensorrt is 8\.6\.1, expected 10\.3 or newer"):
        TensorRt(module("8.6.1"), "tensorrt")
    assert TensorRt(module("10.13.0.35.post1"), "tensorrt").version_tuple == (10, 13, 0, 35)
    assert TensorRt(module("11.4.1"), "tensorrt").has_timing_cache


def test_networks_are_strongly_typed_whether_the_flag_exists_or_not() -> None:
    with_flag = module("10.3.0", NetworkDefinitionCreationFlag=SimpleNamespace(__members__={"STRONGLY_TYPED": 1}))
    without = module("12.0.0", NetworkDefinitionCreationFlag=SimpleNamespace(__members__={}))
    assert TensorRt(with_flag, "tensorrt")._network_flags() == 2
    assert TensorRt(without, "tensorrt")._network_flags() == 0


def test_a_builder_or_engine_that_is_none_is_explained_by_what_tensorrt_logged() -> None:
    made: dict[str, Any] = {}

    class Refusing:
        def __init__(self, logger: Any) -> None:
            made["logger"] = logger

        def deserialize_cuda_engine(self, plan: bytes) -> None:
            for text in ("CUDA initialization\nfailure with error: 35", "a consequence of that"):
                made["logger"].log(SimpleNamespace(name="ERROR"), text)
            made["logger"].log(SimpleNamespace(name="VERBOSE"), "chatter")

    tensorrt = TensorRt(module("10.3.0", Builder=lambda logger: None, Runtime=Refusing), "tensorrt")
    with pytest.raises(TensorRtError, match=r"^tensorrt 10\.3\.0: the builder cannot start: it gave no reason$"):
        tensorrt.builder()
    with pytest.raises(
        TensorRtError, match=r"the engine cannot be loaded: CUDA initialization failure with error: 35;"
    ):
        tensorrt.engine(b"plan")
    tensorrt.errors[:] = ["Error Code 2: OutOfMemory (Requested size was 123 bytes.)"]
    assert "free device memory, or lower --workspace-mb" in str(tensorrt.explained("no engine could be built"))


def test_real_engines_are_not_loaded_without_a_driver(tensorrt: TensorRt, model: Path) -> None:
    if CudaRuntime.load().device_count():
        pytest.skip("this machine has a GPU")
    builder = tensorrt.builder()
    network = tensorrt.network(builder, model)
    config = tensorrt.configure(
        builder, tf32=False, workspace_mb=64, optimization_level=1, dla_core=-1, compute_capability=None
    )
    shape = (1, *INPUT_SIZE, 3)
    tensorrt.add_profile(builder, config, "image", shape, shape, shape)
    plan = tensorrt.build(builder, network, config)
    with pytest.raises(TensorRtError, match=r"the engine cannot be loaded: .*install or update the NVIDIA driver"):
        tensorrt.engine(plan)
    with pytest.raises(TensorRtError, match="the engine cannot be loaded"):
        tensorrt.engine(plan[: len(plan) // 2])
    with pytest.raises(TensorRtError, match=r"cannot read the model: .*[Ff]ailed to parse"):
        tensorrt.network(builder, b"no model")


class AsTensorRt:
    """TensorRT for RTX under the other module's name and version, so that the other branches make their calls for real."""

    __name__ = "tensorrt"
    __version__ = "10.13.0.35"

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("tensorrt_rtx"), name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its timing cache does nothing, by the same calls
def test_the_calls_of_full_tensorrt_build_with_a_timing_cache_that_is_handed_on(
    tensorrt: TensorRt, model: Path, tmp_path: Path
) -> None:
    full = TensorRt(AsTensorRt(), "tensorrt")
    timing = tmp_path / "timing"
    first = BuildRequest(model, BuildOptions(max_batch=2), "tensorrt", tmp_path / "engine", timing_out=timing)
    build(first, full, lambda phase, share: None)
    assert timing.stat().st_size > 0
    build(replace(first, timing_in=timing), full, lambda phase, share: None)
    assert first.out.read_bytes()[1:4] == b"trt"
    elsewhere = replace(first, options=BuildOptions(compute_capability=(8, 9)))
    with pytest.raises(
        TensorRtError, match=r"tensorrt builds for the GPU it runs on, asked for compute capability 8\.9"
    ):
        build(elsewhere, full, lambda phase, share: None)


def test_tf32_is_as_it_was_asked_for_and_a_timing_cache_goes_in_and_out(tensorrt: TensorRt) -> None:
    builder = tensorrt.builder()
    flags = tensorrt._module.BuilderFlag
    for tf32 in (True, False):
        config = tensorrt.configure(
            builder, tf32=tf32, workspace_mb=0, optimization_level=3, dla_core=-1, compute_capability=None
        )
        assert config.get_flag(flags.TF32) == tf32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a no-op in TensorRT for RTX, but the same calls
        tensorrt.use_timing_cache(config, b"")
        kept = tensorrt.timing_cache(config)
        assert kept
        tensorrt.use_timing_cache(config, kept)
        tensorrt.use_timing_cache(config, b"damaged")


def test_workspace_and_level_reach_the_builder(tensorrt: TensorRt) -> None:
    builder = tensorrt.builder()
    config = tensorrt.configure(
        builder, tf32=False, workspace_mb=48, optimization_level=1, dla_core=-1, compute_capability=None
    )
    assert config.get_memory_pool_limit(tensorrt._module.MemoryPoolType.WORKSPACE) == 48 << 20
    assert config.builder_optimization_level == 1


def test_a_dla_core_is_taken_where_the_machine_has_it_with_the_gpu_for_the_rest() -> None:
    """An Orin's builder says that there are two; no other TensorRT here does."""
    flags: dict[str, bool] = {}
    config = SimpleNamespace(set_flag=lambda flag: flags.update({flag: True}), clear_flag=lambda flag: None)
    builder = SimpleNamespace(num_DLA_cores=2, create_builder_config=lambda: config)
    orin = TensorRt(
        module(
            "10.3.0",
            BuilderFlag=SimpleNamespace(TF32="TF32", GPU_FALLBACK="GPU_FALLBACK"),
            DeviceType=SimpleNamespace(DLA="DLA"),
        ),
        "tensorrt",
    )
    options: dict[str, Any] = {"tf32": False, "workspace_mb": 0, "optimization_level": 3, "compute_capability": None}
    orin.configure(builder, dla_core=1, **options)  # type: ignore[arg-type]
    assert (config.default_device_type, config.DLA_core, flags) == ("DLA", 1, {"GPU_FALLBACK": True})
    with pytest.raises(TensorRtError, match=r"DLA core 2 was asked for, tensorrt 10\.3\.0 finds 2 on this machine"):
        orin.configure(builder, dla_core=2, **options)  # type: ignore[arg-type]


def test_cuda_without_a_device_is_one_line() -> None:
    cuda = CudaRuntime.load()
    if cuda.device_count():
        pytest.skip("this machine has a GPU")
    assert "driver" in cuda.why_no_device()
    with pytest.raises(CudaError, match=r"^cudaMalloc failed: .* \(error 35\)$") as caught:
        cuda.malloc(16)
    assert (caught.value.call, caught.value.code, caught.value.sticky) == ("cudaMalloc", 35, False)
    lost = CudaError("cudaStreamQuery", 700, "an illegal memory access was encountered")
    assert lost.sticky
    assert "the device is lost to this process, start it again" in str(lost)


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (0, "no NVIDIA driver is loaded"),
        (11040, r"the driver is for CUDA 11.4, cuda-python for 13.4; .* `pip install 'cuda-python<12'`"),
        (13040, "no NVIDIA GPU can be used: no CUDA-capable device is detected"),
    ],
)
def test_why_there_is_no_device(driver: int, said: str) -> None:
    bindings = SimpleNamespace(
        cudaGetDeviceCount=lambda: (100, 0),
        cudaGetErrorString=lambda error: (0, b"no CUDA-capable device is detected"),
        cudaDriverGetVersion=lambda: (0, driver),
        cudaRuntimeGetVersion=lambda: (0, 13040),
    )
    assert re.search(said, CudaRuntime(bindings, None).why_no_device())
