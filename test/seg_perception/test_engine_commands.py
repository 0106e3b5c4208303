from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from seg_perception import engine_commands
from seg_perception.cli import main
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.prepare import Preparation
from test.seg_perception.engines.tensorrt.software_cuda import NoDevice
from test.seg_perception.tiny_model import write_tiny_model

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")

from test.seg_perception.engines.tensorrt.software_device import SoftwareCuda
from test.seg_perception.engines.tensorrt.software_runtime import SoftwareTensorRt


@pytest.fixture(scope="module")
def tensorrt() -> TensorRt:
    return TensorRt.load("tensorrt_rtx")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tensorrt) -> None:
    monkeypatch.setattr(engine_commands.CudaRuntime, "load", NoDevice)


def test_build_engine_builds_once_and_cache_lists_verifies_and_clears(
    no_gpu: None,
    tmp_path: Path,
    model: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    cache = ["--cache", str(tmp_path / "engines")]
    build = ["build-engine", str(model), "--precision", "fp16", "--batch", "2", "--tensorrt", "tensorrt_rtx", *cache]
    assert main(build) == 0
    out = capfd.readouterr().out
    assert "built in" in out
    assert "no GPU, fp16, 1 to 2 images" in out
    assert "there is none yet" in caplog.text
    assert "building the TensorRT engine: " in caplog.text  # not a terminal: log lines
    assert "no GPU to run it on (no NVIDIA driver is loaded)" in caplog.text
    assert main(build) == 0
    assert "from the cache" in capfd.readouterr().out
    assert main(["cache", "list", *cache]) == 0
    assert "1 engines, " in capfd.readouterr().out
    assert main(["cache", "verify", *cache]) == 0
    assert "1 engines whole, 0 problems" in capfd.readouterr().out
    (engine,) = (tmp_path / "engines").glob("*.engine")
    engine.write_bytes(b"something else")
    assert main(["cache", "verify", *cache]) == 1
    assert "0 engines whole, 1 problems" in capfd.readouterr().out
    assert main(["cache", "clear", *cache]) == 0
    assert "1 engines removed" in capfd.readouterr().out
    assert list((tmp_path / "engines").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "0"], "batch is 0, expected 1 to 64"),
        (["--optimization-level", "6"], "optimization level is 6, expected 0 to 5"),
        (["--workspace-mb", "-1"], "workspace is -1 MB"),
        (["--timeout", "0"], "time limit of a build is 0.0 s"),
        (["--precision", "int8"], "export it with `python -m seg_models.export --precision int8 --calibration DIR`"),
        (["--dla-core", "1"], "DLA core 1 was asked for"),
        (["--compute-capability", "2.0"], "compute capability is 2.0, tensorrt_rtx"),
        (["--cache-limit-mb", "-1"], "cache limit is -1 MB"),
    ],
)
def test_bad_input_is_one_line(
    no_gpu: None, tmp_path: Path, model: Path, arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "engines"
    assert main(["build-engine", str(model), "--tensorrt", "tensorrt_rtx", "--cache", str(folder), *arguments]) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert not list(folder.glob("*.engine"))


def test_a_missing_tensorrt_or_cuda_says_what_to_install(
    model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg_perception.engines.tensorrt.api.installed", lambda: [])
    assert main(["build-engine", str(model)]) == 2
    assert "engine tensorrt is not installed: on a Jetson it comes with JetPack" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert main(["build-engine", str(model), "--tensorrt", "tensorrt_rtx"]) == 2
    assert "needs cuda-python" in capfd.readouterr().err


@pytest.fixture
def software_gpu(monkeypatch: pytest.MonkeyPatch, tensorrt, model: Path) -> SoftwareTensorRt:
    cuda = SoftwareCuda()
    module = SoftwareTensorRt(cuda, lambda plan: model)
    monkeypatch.setattr(engine_commands.CudaRuntime, "load", lambda: cuda)
    monkeypatch.setattr(engine_commands.TensorRt, "load", lambda name: TensorRt(module, "tensorrt_rtx"))
    return module


def test_check_data_compares_on_a_folder_or_a_recording(
    software_gpu: SoftwareTensorRt, tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build = ["build-engine", str(model), "--precision", "fp32", "--cache", str(tmp_path / "engines"), "--check-data"]
    assert main([*build, "models/check_images"]) == 0
    assert "labels 100 %, superpixels 100 %, confidence 100 %" in capfd.readouterr().out
    assert main([*build, "bags/rooms_demo.mcap", "--image-topic", "/camera/image_raw/compressed"]) == 0
    assert "on 16 images" in capfd.readouterr().out
    (tmp_path / "photo.jpg").write_bytes(b"no picture")
    assert main([*build, str(tmp_path)]) == 2
    assert "photo.jpg cannot be decoded" in capfd.readouterr().err
    assert main([*build, str(tmp_path / "nothing")]) == 2
    assert "nothing does not exist" in capfd.readouterr().err


def test_check_data_names_the_layers_and_keeps_the_engine_out_of_use(
    software_gpu: SoftwareTensorRt,
    tmp_path: Path,
    model: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proto = onnx.load(str(model))
    thresholds = next(tensor for tensor in proto.graph.initializer if tensor.name == "weights")
    thresholds.CopyFrom(onnx.numpy_helper.from_array(np.array([2.0, 1.0], np.float32), "weights"))
    other = tmp_path / "other.onnx"

    def computes(plan: bytes) -> Path:
        """The other model, with the outputs that the engine was built with."""
        names = re.findall(r"weighted|over_float|classes|cell_plane|zeros|blue_plane|red_green|pixels", asked[-1])
        changed = onnx.ModelProto.FromString(proto.SerializeToString())
        values = onnx.shape_inference.infer_shapes(changed).graph.value_info
        changed.graph.output.extend(value for value in values if value.name in names)
        onnx.save(changed, str(other))
        return other

    asked = [""]
    engine = Preparation.engine

    def noted(self, path, options, outputs=()):
        asked.append(" ".join(outputs))
        return engine(self, path, options, outputs)

    monkeypatch.setattr(Preparation, "engine", noted)
    software_gpu._model_of = computes
    folder = tmp_path / "engines"
    build = ["build-engine", str(model), "--precision", "fp32", "--cache", str(folder)]
    assert main([*build, "--check-data", "models/check_images"]) == 1
    out = capfd.readouterr().out
    assert "expected 99 %; the node does not use this engine" in out
    assert "(Mul, tensor weighted)" in out.split("differs at")[1]
    assert len(list(folder.glob("*.engine"))) == 1  # those with more outputs are gone again
    (manifest,) = folder.glob("*.json")
    assert json.loads(manifest.read_text())["agreement"]["labels"] < 0.99


def test_check_data_needs_a_gpu(no_gpu: None, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["build-engine", str(model), "--tensorrt", "tensorrt_rtx", "--check-data", "models"]) == 2
    assert "--check-data runs the engine and needs a GPU: no NVIDIA driver is loaded" in capfd.readouterr().err
