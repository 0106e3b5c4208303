from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from seg_perception.engines import select
from seg_perception.engines.base import Engine, EngineError
from seg_perception.engines.select import choose_engine, create_engine
from seg_perception.model.model_file import read_model_info
from seg_perception.segmenter import Segmenter
from test.seg_perception.engines.tensorrt.software_cuda import Described, NoDevice
from test.seg_perception.tiny_model import INPUT_SIZE, grid_cells, tiny_labels, write_tiny_model

KINDS = ("onnxruntime", "openvino")


def images(count: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *INPUT_SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_engine_computes_what_the_graph_says(model: Path, kind: str, batch_size: int) -> None:
    batch = images(batch_size)
    with create_engine(kind, read_model_info(model), threads=1, batch_size=batch_size) as engine:
        outputs = engine.infer(batch)
        np.testing.assert_array_equal(outputs["labels"], tiny_labels(batch))
        np.testing.assert_array_equal(outputs["confidence"], batch[..., 2])
        np.testing.assert_array_equal(outputs["superpixels"], np.stack([grid_cells(INPUT_SIZE)] * batch_size))
        assert [outputs[name].dtype for name in engine.output_names] == [np.uint8, np.uint8, np.int32]


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_opens_and_closes_any_number_of_times(model: Path, kind: str) -> None:
    engine = create_engine(kind, read_model_info(model))
    with pytest.raises(EngineError, match="is not open"):
        engine.infer(images())
    for _ in range(2):
        engine.open()
        engine.open()
        assert engine.infer(images())["labels"].shape == (1, *INPUT_SIZE)
        engine.close()
        engine.close()
    assert kind in engine.description
    assert "f32" in engine.description


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_superpixels_gives_two_outputs(tmp_path: Path, kind: str) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", grid=None, batch=1)
    with create_engine(kind, read_model_info(path), precision="fast") as engine:
        assert set(engine.infer(images())) == {"labels", "confidence"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_another_shape_is_refused(model: Path, kind: str) -> None:
    with create_engine(kind, read_model_info(model)) as engine:
        with pytest.raises(ValueError, match=r"image is uint8 \[2, 24, 32, 3\], expected uint8 \[1, 24, 32, 3\]"):
            engine.infer(images(2))
        with pytest.raises(ValueError, match="image is float64"):
            engine.infer(images().astype(float))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_graph_gives_one_line(tmp_path: Path, kind: str) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    info = read_model_info(path)
    path.write_bytes(path.read_bytes().replace(b"ReduceSum", b"NoSuchSum"))
    with pytest.raises(EngineError, match=f"{kind} cannot load model file") as caught:
        create_engine(kind, info).open()
    assert "\n" not in str(caught.value)


def test_arguments_outside_their_range_are_refused(model: Path, tmp_path: Path) -> None:
    info = read_model_info(model)
    with pytest.raises(
        ValueError, match="engine is 'tensorflow', expected one of: auto, tensorrt, onnxruntime, openvino"
    ):
        create_engine("tensorflow", info)
    with pytest.raises(ValueError, match="threads is -1"):
        create_engine("openvino", info, threads=-1)
    with pytest.raises(ValueError, match="precision is 'int4', expected one of: f32, fast"):
        create_engine("openvino", info, precision="int4")
    with pytest.raises(ValueError, match="batch size is 0"):
        create_engine("openvino", info, batch_size=0)
    fixed = read_model_info(write_tiny_model(tmp_path / "fixed.onnx", batch=1))
    with pytest.raises(ValueError, match="is fixed to a batch of 1, asked for 2"):
        create_engine("openvino", fixed, batch_size=2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_that_is_not_installed_says_how_to_install_it(
    model: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)  # import then fails as it does where the package is missing
    engine: Engine = create_engine(kind, read_model_info(model))
    with pytest.raises(EngineError, match=f"install it with `pip install {kind}` or choose another engine"):
        engine.open()


@pytest.mark.parametrize(
    ("installed", "machine", "cuda", "choice", "reason"),
    [
        ({"onnxruntime", "openvino"}, "x86_64", False, "openvino", "the quicker one on x86"),
        ({"onnxruntime", "openvino"}, "x86_64", True, "onnxruntime", "CUDA"),
        ({"onnxruntime", "openvino"}, "aarch64", False, "onnxruntime", "the processor is aarch64, not x86"),
        ({"onnxruntime"}, "x86_64", False, "onnxruntime", "openvino is not installed"),
        ({"openvino"}, "aarch64", False, "openvino", "onnxruntime is not installed"),
    ],
)
def test_auto_follows_its_stated_order(
    installed: set[str], machine: str, cuda: bool, choice: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr(select.platform, "machine", lambda: machine)
    monkeypatch.setattr(select, "_onnxruntime_has_cuda", lambda: cuda)
    kind, why = choose_engine()
    assert kind == choice
    assert reason in why


def test_auto_takes_tensorrt_where_it_is_installed_with_a_device(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(select, "installed", lambda: ["tensorrt"])
    monkeypatch.setattr(select.CudaRuntime, "load", Described)
    assert choose_engine() == ("tensorrt", "tensorrt is installed, and Orin is there")
    monkeypatch.setattr(select.CudaRuntime, "load", NoDevice)
    with caplog.at_level(logging.INFO):
        assert choose_engine()[0] != "tensorrt"
    assert "tensorrt is installed, but no NVIDIA driver is loaded; left out of the choice" in caplog.text
    monkeypatch.setattr(select, "installed", list)
    assert choose_engine()[0] != "tensorrt"


def test_tensorrt_without_a_device_says_what_is_missing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
    monkeypatch.setattr(select.CudaRuntime, "load", NoDevice)
    with pytest.raises(EngineError, match="engine tensorrt needs an NVIDIA GPU: no NVIDIA driver is loaded"):
        create_engine("tensorrt", read_model_info(model))
    monkeypatch.setattr("seg_perception.engines.tensorrt.api.installed", list)
    with pytest.raises(EngineError, match="engine tensorrt is not installed: on a Jetson it comes with JetPack"):
        create_engine("tensorrt", read_model_info(model))


def test_auto_says_what_it_chose_and_needs_one_engine(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        engine = create_engine("auto", read_model_info(model))
    assert f"engine auto: {engine.name} (" in caplog.text
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="no inference engine is installed"):
        choose_engine()


@pytest.mark.parametrize(
    ("kind", "native", "expected"),
    [("openvino", True, "fast"), ("openvino", False, "f32"), ("onnxruntime", True, "f32")],
)
def test_auto_precision_is_fast_where_the_processor_has_bfloat16(
    kind: str,
    native: bool,
    expected: str,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("seg_perception.engines.openvino.has_native_bfloat16", lambda: native)
    with caplog.at_level("INFO"):
        engine = create_engine(kind, read_model_info(model), precision="auto")
    assert engine.precision == expected
    assert f"precision auto: {expected} (" in caplog.text


def test_the_description_says_that_auto_chose_the_precision(model: Path) -> None:
    with Segmenter(model, precision="auto") as chosen, Segmenter(model, precision="f32") as asked:
        assert chosen.engine_description.endswith(", precision chosen by auto")
        assert asked.engine_description.endswith("f32")
