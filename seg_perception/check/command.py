"""`seg_perception check`: gathers the findings and prints them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from seg_perception.check.dds_profile import (
    DEFAULT_SEGMENT_SIZE,
    EXPECTED_SOCKET_BUFFER,
    ProfileError,
    profile_findings,
    profile_in_force,
)
from seg_perception.check.engines import engine_findings, model_findings
from seg_perception.check.finding import Finding
from seg_perception.check.machine import kernel_buffer_findings, machine_findings, shared_memory_findings
from seg_perception.check.ros import ros_findings
from seg_perception.engines.tensorrt.cache import default_folder
from seg_perception.share import share_path

SHIPPED_MODEL = "models/rooms_spt_lite0.onnx"
HAS_PROBLEMS = 1
MARKS = {"ok": "  ", "warning": "! ", "problem": "X "}


def findings(model: Path | None) -> Iterator[Finding]:
    """Everything that is looked at; `model` is tried, None tries none."""
    yield from machine_findings()
    yield from ros_findings()
    yield from profile_findings()
    try:
        segment_size = profile_in_force().segment_size
    except ProfileError:
        segment_size = DEFAULT_SEGMENT_SIZE
    if segment_size:
        yield from shared_memory_findings(segment_size)
    yield from kernel_buffer_findings(EXPECTED_SOCKET_BUFFER)
    yield from engine_findings()
    if model is not None:
        yield from model_findings(model)


def as_text(found: list[Finding]) -> str:
    """For people, and for bug reports."""
    width = max(len(finding.name) for finding in found)
    lines = []
    group = ""
    for finding in found:
        if finding.group != group:
            group = finding.group
            lines.append(group)
        lines.append(f"{MARKS[finding.state]}{finding.name:<{width}}  {finding.value}")
        if finding.state != "ok":
            lines.append(f"  {'':<{width}}  {finding.state}: {finding.why}")
            lines.append(f"  {'':<{width}}  repair:  {finding.repair}")
    problems, warnings = (sum(f.state == state for f in found) for state in ("problem", "warning"))
    plural = ["" if count == 1 else "s" for count in (problems, warnings)]
    lines.append(f"{problems} problem{plural[0]}, {warnings} warning{plural[1]}")
    return "\n".join(lines)


def as_json(found: list[Finding]) -> str:
    """For programs: findings in order, and the counts of problems and warnings."""
    counts = {f"{state}s": sum(f.state == state for f in found) for state in ("problem", "warning")}
    return json.dumps({**counts, "findings": [asdict(finding) for finding in found]}, indent=2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `seg_perception check`."""
    parser.add_argument("--model", type=Path, help="the deployment model to try (default: the shipped one)")
    parser.add_argument("--no-model", action="store_true", help="try none")
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="try the model in TensorRT instead: build, agreement, latency, memory; a report to send",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    """Run `seg_perception check`; 0: nothing keeps the node from working, HAS_PROBLEMS: something does."""
    if options.gpu:
        found = list(chain(machine_findings(), _gpu_self_test(options.model)))
    elif options.no_model:
        found = list(findings(None))
    elif options.model is not None:
        found = list(findings(options.model))
    else:
        found = list(chain(findings(None), _shipped_model()))
    print(as_json(found) if options.json else as_text(found))
    return HAS_PROBLEMS if any(finding.state == "problem" for finding in found) else 0


def _gpu_self_test(model: Path | None) -> Iterator[Finding]:
    from seg_perception.check.gpu import gpu_findings  # loads TensorRT's part, which the rest does not need

    yield from gpu_findings(model or share_path(SHIPPED_MODEL), default_folder())


def _shipped_model() -> Iterator[Finding]:
    try:
        model = share_path(SHIPPED_MODEL)
    except FileNotFoundError as error:
        repair = "pip install --force-reinstall seg_perception   (or colcon build again)"
        yield Finding("model", "shipped model", str(error), "problem", "the node has no model of its own", repair)
        return
    yield from model_findings(model)
