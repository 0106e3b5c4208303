"""Nothing leaves a robot unasked, and nothing is written outside of what it was told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from test.seg_perception.tiny_model import write_tiny_model

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


@pytest.mark.parametrize("package", ["seg_perception", "seg_models"])
def test_onnx_runtime_collects_nothing(tmp_path: Path, package: str) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    program = (
        f"import {package}\n"
        "import onnxruntime\n"
        f"onnxruntime.InferenceSession({str(model)!r}, providers=['CPUExecutionProvider'])"
    )
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
    assert not [str(file) for file in home.rglob("*") if file.is_file()]
