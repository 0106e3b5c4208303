"""The command as a person runs it, and the groups that need what may be missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from seg_perception.check import engines
from seg_perception.check.engines import engine_findings, model_findings
from seg_perception.check.ros import ros_findings
from seg_perception.cli import main
from test.seg_perception.tiny_model import write_tiny_model


def test_a_sound_machine_has_no_problem_and_its_model_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ros_environment: dict[str, str]
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    assert main(["check", "--model", str(model)]) == 0
    text = capsys.readouterr().out
    assert "0 problems" in text
    for group in ("machine", "ROS 2", "DDS", "engines", "GPU", "model"):
        assert group in text.splitlines()
    assert " ms in " in text


def test_a_problem_is_an_exit_code_and_a_line_that_repairs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ros_environment: dict[str, str]
) -> None:
    model = tmp_path / "none.onnx"
    assert main(["check", "--json", "--model", str(model)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == 1
    (problem,) = [finding for finding in report["findings"] if finding["state"] == "problem"]
    assert problem["group"] == "model"
    assert problem["repair"] == f"seg_perception info {model}"
    assert all(f["repair"] and f["why"] for f in report["findings"] if f["state"] != "ok")


def test_without_ros_the_rest_is_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    (finding,) = ros_findings({})
    assert (finding.name, finding.state) == ("rclpy", "warning")
    assert "setup.bash" in finding.repair


@pytest.mark.parametrize(
    ("text", "state"), [("0", "ok"), ("101", "ok"), ("150", "warning"), ("9999", "problem"), ("x", "problem")]
)
def test_a_domain_that_does_not_work_is_named(text: str, state: str, ros_environment: dict[str, str]) -> None:
    found = {finding.name: finding for finding in ros_findings({"AMENT_PREFIX_PATH": "/x", "ROS_DOMAIN_ID": text})}
    assert found["domain"].state == state


def test_a_machine_without_any_engine_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in engines.ENGINE_PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("seg_perception.engines.select._installed", lambda package: False)
    found = {finding.name: finding for finding in engine_findings(tmp_path / "none", tmp_path / "none")}
    assert found["auto"].state == "problem"
    assert found["auto"].repair == "pip install openvino"
    assert found["openvino"].value.startswith("not installed")


def test_a_driver_and_a_jetson_are_named(tmp_path: Path) -> None:
    driver, jetson = tmp_path / "version", tmp_path / "nv_tegra_release"
    driver.write_text("NVRM version: NVIDIA UNIX Open Kernel Module 580.1\nGCC\n")
    jetson.write_text("# R36 (release), REVISION: 4.3\n")
    found = {finding.name: finding.value for finding in engine_findings(driver, jetson)}
    assert found["driver"].endswith("580.1")
    assert found["Jetson"] == "R36 (release), REVISION: 4.3"


def test_a_broken_model_is_a_problem_that_names_the_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07")
    (finding,) = model_findings(broken)
    assert finding.state == "problem"
    assert str(broken) in finding.value
