"""A build in a process of its own: what goes wrong in there is a line of text out here, and memory comes back whole.

The child reads its request as one JSON line from stdin and writes one JSON line for each step of its progress to stdout.
It ends when its stdin does, that is with its parent, however that ends. It asks the kernel to be ended first when memory
runs out, so that the node lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from seg_perception.engines.base import EngineError, last_line
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.build import BuildRequest, build
from seg_perception.engines.tensorrt.module import TensorRtError
from seg_perception.engines.tensorrt.progress import BuildProgress, ProgressCallback

_TELL_EVERY_S = 0.1
_LISTEN_S = 0.2
_QUIET_S = 1.0
_LAST_BREATH_S = 10.0
_STDERR_TAIL = 4000


class BuildError(TensorRtError):
    """A build failed. One line: how, why as far as it is known, and what to do."""


def build_in_process(
    request: BuildRequest, on_progress: ProgressCallback, stopped: Callable[[], bool] = lambda: False
) -> list[str]:
    """Build in a process of its own; see `build.build`.

    Args:
        request: what to build; its `out` is whole only when this returns.
        on_progress: called from this thread.
        stopped: asked a few times a second; True ends the build.

    Returns:
        what `build.build` returned.

    Raises:
        BuildError: the build failed, crashed, ran out of memory, took too long or was stopped.
        ValueError: the model or an option cannot serve.
    """
    start = time.monotonic()
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "seg_perception.engines.tensorrt.build_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(),
            cwd="/",  # Python before 3.11 would search the present folder for code
            # Ctrl-C in a terminal reaches the parent, which ends the child; not the child by itself, with a traceback.
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended at once; what it said is told below
                child.stdin.write(json.dumps(request.to_json()).encode() + b"\n")
                child.stdin.flush()
            answer = _follow(child.stdout, start, request.options.timeout_s, on_progress, stopped)
            if not answer:  # it ended without a word; how, is in its exit code
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_LAST_BREATH_S)
        finally:
            # By now it has answered, or is to be ended.
            child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()
        if answer.get("done"):
            return [str(name) for name in answer["outputs"]]
        if "problem" in answer:
            raise (ValueError if answer.get("input") else BuildError)(str(answer["problem"]))
        raise BuildError(_death(child.returncode, stderr, time.monotonic() - start))


def _follow(
    stream: IO[bytes],
    start: float,
    timeout_s: float,
    on_progress: ProgressCallback,
    stopped: Callable[[], bool],
) -> dict[str, Any]:
    """Read the child's lines until it is done; the last answer, empty where it ended without one."""
    pending = b""
    last = BuildProgress("starting", 0.0, 0.0)
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            elapsed = time.monotonic() - start
            if elapsed > timeout_s:
                return {
                    "problem": f"the build was ended after {elapsed:.0f} s, its time limit; raise --timeout, or lower "
                    "--optimization-level"
                }
            if stopped():
                return {"problem": f"the build was stopped after {elapsed:.0f} s"}
            if not selector.select(_LISTEN_S):
                if elapsed - last.elapsed_s >= _QUIET_S:  # a step may take minutes; the time goes on
                    last = replace(last, elapsed_s=elapsed)
                    on_progress(last)
                continue
            block = os.read(stream.fileno(), 65536)
            if not block:
                return {}
            *lines, pending = (pending + block).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "phase" not in said:
                    return dict(said)
                last = BuildProgress(said["phase"], said["share"], time.monotonic() - start)
                on_progress(last)


def _death(code: int, stderr: IO[bytes], elapsed_s: float) -> str:
    """Why a child that said nothing ended."""
    stderr.seek(0, os.SEEK_END)
    stderr.seek(max(stderr.tell() - _STDERR_TAIL, 0))
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines() if line.strip()]
    said = f"; the last it said: {lines[-1][:300]}" if lines else ""
    if code == -signal.SIGKILL:
        return (
            f"the builder was killed after {elapsed_s:.0f} s, as the system does when memory runs out; end other "
            f"programs, add swap, or lower --workspace-mb or --optimization-level{said}"
        )
    if code < 0:
        return f"the builder crashed after {elapsed_s:.0f} s ({signal.Signals(-code).name}){said}"
    return f"the builder ended after {elapsed_s:.0f} s with exit code {code}{said}"


def _environment() -> dict[str, str]:
    """This process's, with this very package found first."""
    package = str(Path(__file__).resolve().parents[3])
    paths = [package, *(os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


# The child


def main() -> int:
    """Build what the first line of stdin asks for."""
    # What C++ libraries print must not come between the lines of JSON.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    request = BuildRequest.from_json(json.loads(sys.stdin.readline()))
    with contextlib.suppress(OSError):  # a container may forbid it
        Path("/proc/self/oom_score_adj").write_text("800")
    if request.background:
        os.nice(10)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    reporter = _Reporter(channel)
    try:
        outputs = build(request, TensorRt.load(request.module), reporter)
    except (EngineError, MemoryError) as error:
        text = "the machine has not enough memory for the build" if isinstance(error, MemoryError) else str(error)
        reporter.answer({"problem": text})
    except ValueError as error:
        reporter.answer({"problem": last_line(error), "input": True})
    except OSError as error:
        reporter.answer({"problem": f"the engine cannot be written: {error}"})
    else:
        reporter.answer({"done": True, "outputs": outputs})
    return 0


class _Reporter:
    """Writes progress, not more often than anyone could read. Called from several threads."""

    def __init__(self, channel: IO[str]) -> None:
        self._channel = channel
        self._last = ("", 0.0)
        self._lock = threading.Lock()

    def __call__(self, phase: str, share: float) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._last[1] >= _TELL_EVERY_S or share >= 1.0:
                self._last = (phase, now)
                self._write({"phase": phase, "share": round(share, 4)})

    def answer(self, answer: dict[str, Any]) -> None:
        with self._lock:
            self._write(answer)

    def _write(self, said: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the parent has gone; `_end_with_parent` ends this
            self._channel.write(json.dumps(said) + "\n")
            self._channel.flush()


def _end_with_parent() -> None:
    """Wait for the end of stdin, which comes when the parent ends, and end this process at once."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
