from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seg_perception.cli import main
from seg_perception.engines.tensorrt import command
from test.seg_perception.engines.tensorrt.software_cuda import NoDevice


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tensorrt) -> None:
    monkeypatch.setattr(command.CudaRuntime, "load", NoDevice)


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
