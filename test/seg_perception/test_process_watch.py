"""A process whose Python lock is held for good."""

from __future__ import annotations

import subprocess
import sys

# `PyDLL` calls C without letting the lock go.
PROGRAM = """
import ctypes, sys, time
from seg_perception.process_watch import ProcessWatch
watch = ProcessWatch(locked_s=2.0)
watch.start()
time.sleep(3)
print("lived", flush=True)
if sys.argv[1] == "stop":
    watch.stop()
ctypes.PyDLL(None).sleep(int(sys.argv[2]))
print("came back", flush=True)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_process_that_is_locked_for_good_ends_and_shows_where():
    result = run("go", "100")
    assert result.returncode == 1
    assert result.stdout == "lived\n"  # a sleep that lets the lock go is none
    assert "Timeout (0:00:02)!" in result.stderr
    assert 'File "<string>"' in result.stderr


def test_one_that_was_stopped_watches_no_more():
    result = run("stop", "3")
    assert (result.returncode, result.stdout) == (0, "lived\ncame back\n")
