"""The deployment file of a training's best weights so far, made beside it while it goes on.

Export is a command of its own, in a process of its own at low priority: the training neither waits for it nor falls with it.
The file appears whole or not at all, so that a robot can be fed from the run's folder (`seg_perception` reloads a model that
changes, docs/node.md).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

LOG = "export.log"
NICENESS = 10
# What launchers tell the training's processes; the export is none of them.
OF_LAUNCHERS = ("SLURM", "TORCHELASTIC", "PL_")
RANKS = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)


class BackgroundExport:
    """Exports a checkpoint each time it is called with it; one at a time, and of several that came meanwhile the newest.

    Args:
        arguments: further ones of `python -m seg_models.export`.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self.arguments = list(arguments)
        self.running: subprocess.Popen[bytes] | None = None
        self.target = Path()
        self.waiting: Path | None = None

    def __call__(self, checkpoint: Path) -> None:
        """Export it to the .onnx of its name beside it, now or when the export before it has ended."""
        self.waiting = checkpoint
        if self.running is None or self.running.poll() is not None:
            self.start_waiting()

    def start_waiting(self) -> None:
        """Report on the export that has ended, and begin the one that waits."""
        if self.running is not None:
            code = self.running.wait()
            log = self.target.with_name(LOG)
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing"]
            if code:
                rank_zero_warn(f"{self.target} was not written; {lines[-1]} ({log})")
            else:
                rank_zero_info(lines[-1])
            self.running = None
        if self.waiting is None:
            return
        checkpoint, self.waiting = self.waiting, None
        self.target = checkpoint.with_suffix(".onnx")
        command = [sys.executable, "-m", "seg_models.export", "--checkpoint", str(checkpoint)]
        with self.target.with_name(LOG).open("wb") as output:
            self.running = subprocess.Popen(
                ["nice", "-n", str(NICENESS), *command, "--out", str(self.target), *self.arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=alone(os.environ),
            )

    def finish(self) -> None:
        """Wait until everything is exported."""
        while self.running is not None or self.waiting is not None:
            self.start_waiting()


def alone(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is part of no distributed training."""
    return {
        name: value for name, value in environment.items() if not name.startswith(OF_LAUNCHERS) and name not in RANKS
    }
