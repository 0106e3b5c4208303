from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seg_perception.engines.tensorrt.lock import FileLock, Holder, LockTimeoutError, is_held

ROOT = Path(__file__).parents[4]

HOLD = """
import sys, time
from pathlib import Path
from seg_perception.engines.tensorrt.lock import FileLock
sys.argv[0] = "the other node"
with FileLock(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def holding_process(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_waits_and_learns_for_whom_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = holding_process(path)
    heard: list[Holder] = []

    def waiting(holder: Holder) -> None:
        heard.append(holder)
        os.kill(process.pid, signal.SIGKILL)  # a killed holder's lock is free at once

    assert is_held(path)
    with FileLock(path, waiting, timeout_s=20):
        assert is_held(path)
    assert heard[0].pid == process.pid
    assert "the other node" in str(heard[0])
    assert not is_held(path)
    process.wait()
    process.stdout.close()


def test_waiting_ends_with_a_line_that_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = holding_process(path)
    try:
        with (
            pytest.raises(LockTimeoutError, match=rf"waiting for process {process.pid} .* was stopped after 0 s"),
            FileLock(path, lambda holder: None, stopped=lambda: True),
        ):
            pass
        with (
            pytest.raises(LockTimeoutError, match=f"process {process.pid} .the other node"),
            FileLock(path, lambda holder: None, timeout_s=0.2),
        ):
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_lock_file_that_was_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with FileLock(path, lambda holder: None):
        path.unlink()
        with FileLock(path, lambda holder: None, timeout_s=1):  # another file: both hold their own
            assert is_held(path)
    assert not is_held(tmp_path / "none.lock")
