"""The soak itself, with the tests' tiny models: a quarter of a minute after every fault once; five minutes where CI is true.

SOAK_MINUTES and SOAK_SEED set both; `make soak` is the long run, with the shipped model.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from test.soak.__main__ import main

IS_CI = os.environ.get("CI", "").lower() in ("true", "1")
MINUTES = float(os.environ.get("SOAK_MINUTES", "5" if IS_CI else "0.25"))
# A seed of its own for every run there, so that in time all of them are tried; the run prints it.
SEED = os.environ.get("SOAK_SEED", "" if IS_CI else "1")


@pytest.mark.skipif(find_spec("rclpy") is None, reason="needs rclpy: pip install 'seg_perception[ros]'")
@pytest.mark.skipif(find_spec("openvino") is None, reason="needs a second engine to swap to: pip install openvino")
def test_three_cameras_and_random_faults(tmp_path: Path):
    command = [sys.executable, "-m", "test.soak", "--tiny", "--minutes", str(MINUTES), "--out", str(tmp_path)]
    # One burner, since other tests want the processor, too; patience for a machine on which they have it.
    command += ["--burners", "1", "--patience", "60", *(["--seed", SEED] if SEED else [])]
    run = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60 * MINUTES + 600,
    )
    assert run.returncode == 0, run.stdout
    assert "soak: seed" in run.stdout
    assert (tmp_path / "report.md").is_file()
    print(run.stdout)


# Stands in for a node that answers twice: every mask of the first camera is handed on two times.
TWICE = """
import sys
from test.soak.__main__ import main
from test.soak.world import Listener

hand_on = Listener._on_labels

def twice(self, serialized):
    hand_on(self, serialized)
    if self._camera == "front":
        hand_on(self, serialized)

Listener._on_labels = twice
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(find_spec("rclpy") is None, reason="needs rclpy: pip install 'seg_perception[ros]'")
def test_a_run_with_something_wrong_fails_and_says_what(tmp_path: Path):
    options = ["--tiny", "--minutes", "0.12", "--seed", "1", "--patience", "60", "--out", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-c", TWICE, *options, "--fault", "frame_id changes"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert run.returncode == 1, run.stdout
    (failed,) = [line for line in run.stdout.splitlines() if line.startswith("FAIL")]
    assert "no image has two masks: twice: " in failed
    assert "front: a mask twice: a second mask of image" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    "options", [["--minutes", "0"], ["--cameras", "1"], ["--rate", "-1"], ["--fault", "none such"]]
)
def test_what_a_soak_cannot_be_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]):
    try:
        code = main(options)
    except SystemExit as exit_:  # argparse's own
        code = exit_.code
    assert code == 2
    assert "error: " in capsys.readouterr().err
