from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seg_perception import __version__
from seg_perception.cli import main
from test.seg_perception.bag.test_evaluate_bag import CAMERA, LABELS, labelled_messages
from test.seg_perception.tiny_bag import write_bag
from test.seg_perception.tiny_model import CLASS_NAMES, write_tiny_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "seg_perception.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_evaluate_bag_writes_reports_and_video_and_sums_up(tmp_path: Path, model: Path) -> None:
    bag = write_bag(tmp_path / "bag", labelled_messages(compressed=True)).parent
    out = tmp_path / "deep" / "out"
    done = run(
        "evaluate-bag", bag, "--model", model, "--image-topic", CAMERA, "--label-topic", LABELS, "--out", out, "--video"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "video.mp4"]
    assert json.loads((out / "report.json").read_text())["miou"] == pytest.approx(10 / 12)
    assert "mIoU 0.8333 over 4 classes" in done.stdout
    assert str(out / "report.html") in done.stdout
    assert "engine auto: " in done.stderr
    assert "evaluate-bag: 3 of 3 frames" in done.stderr


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_evaluate_bag_reads_a_lone_file(
    tmp_path: Path, model: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", labelled_messages(compressed=False), storage)
    arguments = ["evaluate-bag", bag, "--model", model, "--label-topic", LABELS, "--out", tmp_path / "out"]
    assert main([str(argument) for argument in arguments]) == 0
    assert "3 in, 3 out, 0 dropped" in capsys.readouterr().out


def test_info_is_for_people_and_for_programs(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    text = capsys.readouterr().out
    for expected in (
        "tiny (thresholds)",
        "32x24 pixels",
        "12 (3 rows, 4 columns)",
        "Apache-2.0",
        *CLASS_NAMES,
        "#dc1e1e",
    ):
        assert expected in text
    assert main(["info", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == list(CLASS_NAMES)


def test_bad_input_ends_in_one_line_and_code_2(tmp_path: Path, model: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    bag = write_bag(tmp_path / "bag", labelled_messages(compressed=False))
    out = tmp_path / "out"
    cases = [
        (["info", tmp_path / "none.onnx"], "does not exist"),
        (["info", text], "not an ONNX file"),
        (["evaluate-bag", tmp_path / "none", "--model", model, "--out", out], "does not exist"),
        (["evaluate-bag", bag, "--model", text, "--out", out], "not an ONNX file"),
        (["evaluate-bag", bag, "--model", model, "--image-topic", "/rgb", "--out", out], "has no topic '/rgb'"),
        (["evaluate-bag", bag, "--model", model, "--out", text / "out"], "Not a directory"),
        (["evaluate-bag", bag, "--model", model, "--out", out, "--threads", "-1"], "must be 0 or more"),
    ]
    for arguments, message in cases:
        done = run(*arguments)
        errors = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARNING"))]
        assert done.returncode == 2
        assert len(errors) == 1, done.stderr
        assert errors[0].startswith("seg_perception: error: ")
        assert message in errors[0]
        assert done.stdout == ""


def test_arguments_that_are_no_arguments_end_in_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["evaluate"], ["info"], ["evaluate-bag", "b", "--model", "m", "--out", "o", "--engine", "x"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: seg_perception" in capsys.readouterr().err


def test_help_and_version_name_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in ("evaluate-bag", "info", "replay", "demo"))
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"seg_perception {__version__}"


def test_evaluate_bag_runs_without_ros_and_without_torch(tmp_path: Path, model: Path) -> None:
    bag = write_bag(tmp_path / "bag", labelled_messages(compressed=False))
    program = (
        "import sys\n"
        "for name in ('rclpy', 'sensor_msgs', 'torch', 'cv_bridge', 'onnx', 'seg_models'): sys.modules[name] = None\n"
        "from seg_perception.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["evaluate-bag", bag, "--model", model, "--label-topic", LABELS, "--out", tmp_path / "out"]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
