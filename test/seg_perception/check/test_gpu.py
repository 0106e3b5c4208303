"""`seg_perception check --gpu`: on the device in software, without a device, and, where there is one, for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_perception.check.finding import Finding
from seg_perception.check.gpu import gpu_findings
from seg_perception.cli import main
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cuda_runtime import CudaRuntime
from seg_perception.model.model_file import read_model_info
from seg_perception.share import share_path
from test.seg_perception.engines.tensorrt.real_gpu import skip_without_gpu
from test.seg_perception.engines.tensorrt.software_cuda import NoDevice
from test.seg_perception.tiny_model import write_tiny_association_model

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")

from test.seg_perception.engines.tensorrt.host_kernel import HostKernels, constants_of
from test.seg_perception.engines.tensorrt.software_device import SoftwareCuda
from test.seg_perception.engines.tensorrt.software_runtime import SoftwareTensorRt


def test_the_report_has_build_agreement_painting_latency_and_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("seg_perception.check.gpu.RUNS", 5)  # a hundred take a minute on a device in software
    model = write_tiny_association_model(tmp_path / "tiny.onnx")
    cuda = SoftwareCuda(integrated=False, kernel_of=HostKernels(constants_of(read_model_info(model)), tmp_path))
    tensorrt = TensorRt(SoftwareTensorRt(cuda, lambda plan: model), "tensorrt_rtx")
    found = list(gpu_findings(model, tmp_path / "engines", lambda: tensorrt, lambda: cuda))
    assert [finding.state for finding in found] == ["ok"] * len(found), found
    said = {finding.name: finding.value for finding in found}
    assert "Software, compute capability 8.7" in said["device"]
    assert "fp16, built in" in said["build"]
    assert "labels 100 %" in said["agreement"]
    assert "labels 100 % as on the processor" in said["painting"]
    latencies = [finding.value for finding in found if finding.name == "latency"]
    assert [value.split(":")[0] for value in latencies] == ["with CUDA graphs", "without CUDA graphs"]
    assert "0 MiB more after another run" in said["memory after"]
    assert cuda.held == {}


def test_an_engine_that_fails_in_it_is_a_problem_in_the_report(tmp_path: Path) -> None:
    model = write_tiny_association_model(tmp_path / "tiny.onnx")
    cuda = SoftwareCuda()
    cuda.fail["cudaHostAlloc"] = 2
    tensorrt = TensorRt(SoftwareTensorRt(cuda, lambda plan: model), "tensorrt_rtx")
    *_, last = gpu_findings(model, tmp_path / "engines", lambda: tensorrt, lambda: cuda)
    assert (last.state, last.name) == ("problem", "run")
    assert "cudaHostAlloc failed" in last.value


def test_without_a_device_it_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def none() -> CudaRuntime:
        return NoDevice()

    (only,) = gpu_findings(tmp_path / "any.onnx", tmp_path / "engines", load_cuda=none)
    assert only == Finding(
        "GPU self-test",
        "device",
        "no NVIDIA driver is loaded",
        "problem",
        "nothing can be tried",
        "seg_perception check   (what runs without a GPU)",
    )
    monkeypatch.setattr("seg_perception.check.command.machine_findings", lambda: iter(()))
    monkeypatch.setattr("seg_perception.check.gpu.gpu_findings", lambda model, cache: iter((only,)))
    assert main(["check", "--gpu"]) == 1
    assert capsys.readouterr().out.count("no NVIDIA driver is loaded") == 1


@pytest.mark.gpu
def test_a_real_gpu_passes_its_self_test(tmp_path: Path) -> None:
    skip_without_gpu()
    found = list(gpu_findings(share_path("models/rooms_spt_lite0.onnx"), tmp_path / "engines"))
    assert [finding for finding in found if finding.state == "problem"] == []
    assert sum(finding.name == "latency" for finding in found) == 2


@pytest.mark.gpu
def test_a_real_gpu_paints_as_the_processor_does(tmp_path: Path) -> None:
    skip_without_gpu()
    model = write_tiny_association_model(tmp_path / "tiny.onnx")
    found = {finding.name: finding for finding in gpu_findings(model, tmp_path / "engines")}
    assert "as on the processor" in found["painting"].value
    assert found["painting"].state == "ok"
