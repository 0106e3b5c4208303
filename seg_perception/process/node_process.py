"""Runs the segmentation node as a process of its own: for the demo, the benchmarks and the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

_LAST_LINES = 15
_PATIENCE_S = 10.0  # for each, asking politely and insisting


class NodeProcessError(RuntimeError):
    """The node ended by itself."""


class NodeProcess:
    """The node, from entering the block to leaving it.

    Args:
        parameters: the node's, by name.
        environment: of the process; see `ros_process_environment`.
        log: file that takes what the node says.
        remappings: further `from:=to` rules, such as `__ns:=/front`.
    """

    def __init__(
        self,
        parameters: Mapping[str, str | bool | int | float],
        environment: Mapping[str, str],
        log: Path,
        remappings: tuple[str, ...] = (),
    ) -> None:
        self.command = [sys.executable, "-m", "seg_perception.ros.node", "--ros-args"]
        for name, value in parameters.items():
            self.command += ["-p", f"{name}:={json.dumps(value)}"]  # quoted: a path such as 1.onnx stays a string
        for rule in remappings:
            self.command += ["-r", rule]
        self.log = log
        # The package is found as in this process, also from a source checkout in another working directory.
        self._environment = {**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file: IO[bytes] | None = None

    def __enter__(self) -> NodeProcess:
        self._log_file = self.log.open("wb")
        # A session of its own: Ctrl-C in the terminal comes to the parent alone, which then ends the node in order.
        self._process = subprocess.Popen(
            self.command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id; only inside the block."""
        assert self._process is not None
        return self._process.pid

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            NodeProcessError: it has ended; with the last lines of its log.
        """
        if self._process is not None and self._process.poll() is not None:
            code = self._process.returncode
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise NodeProcessError(f"the node ended by itself with {how}; its last lines:\n{self.last_lines()}")

    def last_lines(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LAST_LINES:])

    def stop(self) -> int:
        """End it: SIGINT, then SIGTERM, then SIGKILL. Returns its exit code."""
        assert self._process is not None
        for ask in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            self._process.send_signal(ask)
            try:
                self._process.wait(timeout=_PATIENCE_S)
            except subprocess.TimeoutExpired:
                continue
        if self._log_file is not None:
            self._log_file.close()
        return self._process.wait()
