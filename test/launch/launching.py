"""`ros2 launch` and the other `ros2` commands, run as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LIMIT_S = 90.0  # for anything: a busy machine starts Python processes with ROS slowly


def ros2(*arguments: str) -> list[str]:
    """The `ros2` command with arguments."""
    return [sys.executable, "-c", "from ros2cli.cli import main; raise SystemExit(main())", *arguments]


class Launched:
    """A `ros2 launch` that runs.

    Args:
        arguments: of the command.
        environment: of its processes.
        log: file for what all of them print.
    """

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                ros2("launch", *arguments),
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What was printed so far."""
        return self._log.read_text(encoding="utf-8")

    def wait_for(self, text: str, count: int = 1) -> None:
        """Until something is printed, so many times."""
        deadline = time.monotonic() + LIMIT_S
        while self.output.count(text) < count:
            ends = self.process.poll() is not None or time.monotonic() > deadline
            assert not ends, f"waited in vain for {count} of {text!r} in: {self.output}"
            time.sleep(0.05)

    def wait(self) -> int:
        """Until it ends by itself; its exit code."""
        try:
            return self.process.wait(timeout=LIMIT_S)
        finally:
            self.kill()

    def interrupt(self) -> int:
        """Ctrl-C, which without a terminal launch itself passes on; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
