"""What a run leaves in its folder beside the checkpoints, for people and for `python -m seg_models.runs`.

    recipe.yaml          as it was run
    environment.jsonl    a line for each start: command, commit, versions, machine
    metrics.jsonl        a line for each `trainer.log_every_steps` steps and for each validation

Numbers of metrics.jsonl: `step` counts the optimiser's steps that were made. `loss` and its terms `loss/...` are means over the
batches and processes of that one step, `lr` is the highest rate of the groups in it. `images_per_s` is what came out since the
line before, validations and checkpoints left out; `step_images_per_s` what would have, had no batch been waited for;
`loader_images_per_s` what the loader's processes could deliver.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from seg_models.atomic_file import whole_file
from seg_models.source_commit import source_commit

RECIPE, METRICS, ENVIRONMENT = "recipe.yaml", "metrics.jsonl", "environment.jsonl"
PACKAGES = ("torch", "lightning", "timm", "numpy", "opencv-python-headless", "opencv-python", "safetensors")


def environment() -> dict[str, Any]:
    """This process's machine, code and versions, as plain values."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": source_commit(),
        "python": platform.python_version(),
        "versions": versions,
        "host": socket.gethostname(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON objects; what a killed process left half written at its end is passed over."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Add a line to a file of JSON objects."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def keep_lines_until(path: Path, step: int) -> None:
    """Drop the lines of steps behind `step` (and what else is none), of a file of metrics, if there is one."""
    if not path.is_file():
        return
    kept = [line for line in read_lines(path) if isinstance(line.get("step"), int) and line["step"] <= step]
    with whole_file(path) as file:
        file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
