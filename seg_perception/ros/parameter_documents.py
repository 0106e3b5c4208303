"""docs/parameters.md and config/segmentation.yaml out of the declarations."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from seg_perception.ros.parameter import Parameter


def markdown(parameters: Sequence[Parameter]) -> str:
    """docs/parameters.md."""
    alone = ", ".join(f"`{p.name}`" for p in parameters if p.per_camera and not p.follows)
    lines = [
        "# Parameters of the segmentation node",
        "",
        "Written by `python -m seg_perception.ros.parameters > docs/parameters.md` from the declarations in",
        "`seg_perception/ros/parameters.py`. Those marked *live* may change while the node runs; those marked *loadable* may be",
        "set while it runs and take effect with `~/load_model` or at the next configure; the others at the next configure.",
        "",
        "With several cameras (`cameras: [front, rear]`) each has its own of those marked *per camera*: `front.image`,",
        "`front.max_rate_hz`. The plain `max_rate_hz` is then what a camera has that sets none.",
        f"Each camera's alone: {alone}.",
        "",
        "| parameter | type | default | range | what it does |",
        "|---|---|---|---|---|",
    ]
    for p in parameters:
        limits = ", ".join(p.choices) if p.minimum is None else f"{p.minimum:.10g} to {p.maximum:.10g}"
        default = json.dumps(p.default) if isinstance(p.default, bool | list) or not str(p.default) else str(p.default)
        marks = "".join(f" *{mark}*" for mark in _marks(p))
        description = p.description.replace("<", "&lt;")  # Markdown would take <camera> for HTML
        lines.append(f"| `{p.name}` | {p.kind} | `{default}` | {limits} | {description}{marks} |")
    lines += [
        "",
        "The quality of service of every topic can be changed by `qos_overrides.<topic>.<publisher or subscription>.",
        "<history, depth or reliability>`; `use_sim_time` works as for any node.",
    ]
    return "\n".join(lines) + "\n"


def yaml_file(parameters: Sequence[Parameter]) -> str:
    """config/segmentation.yaml: every parameter at its default, to copy and change."""
    lines = [
        "# The node's parameters at their defaults. Copy this file, keep what you change, and give it to the node:",
        "#     ros2 launch seg_perception segmentation.launch.py params_file:=/path/to/copy.yaml",
        "# Arguments of the launch file win over it. Several cameras: cameras: [front, rear], and under a camera's name what is",
        "# its own of the parameters that are per camera: front: {image: /front/image_raw, max_rate_hz: 10.0}.",
        "# Written by `python -m seg_perception.ros.parameters --yaml`.",
        "",
        "/**:  # any node name and namespace; a name such as /front/segmentation for one node only",
        "  ros__parameters:",
    ]
    for p in parameters:
        marks = "".join(f"; {mark}" for mark in _marks(p))
        lines += [f"    # {line}" for line in textwrap.wrap(f"{p.description} [{p.expectation}{marks}]", 110)]
        lines.append(f"    {p.name}: {json.dumps(p.default)}")
    return "\n".join(lines) + "\n"


def _marks(parameter: Parameter) -> list[str]:
    marks = {"live": parameter.live, "loadable": parameter.loadable, "per camera": parameter.per_camera}
    return [mark for mark, is_so in marks.items() if is_so]
