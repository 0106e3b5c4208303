"""The node's parameters, each declared once: name, default, range, description.

From this table come the declaration in ROS, the checks, `NodeParameters`, docs/parameters.md and
config/segmentation.yaml; `python -m seg_perception.ros.parameters` prints them. No ROS is needed before `declare`.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from seg_perception.engines.changeover import WHILE_BUILDING
from seg_perception.engines.select import ENGINE_KINDS, PRECISION_CHOICES
from seg_perception.engines.tensorrt.options import PRECISIONS as TENSORRT_PRECISIONS
from seg_perception.engines.tensorrt.options import TensorRtSettings
from seg_perception.image_size import MAX_PIXELS

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.parameter import Parameter as RosParameter

Value = str | bool | int | float

# What rcl takes for the name of a topic; see "Topic and Service name mapping to DDS" of the ROS 2 design articles.
_TOPIC = re.compile(r"(~?/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
MAX_TOPIC = 200  # letters; rmw takes 247 of the resolved name


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: as in ROS.
        default: also says the type.
        description: one sentence; units are in the name.
        minimum, maximum: of a number, inclusive.
        choices: of a string, all allowed values; empty where any is allowed.
        live: whether it may change while the node is configured; the others take effect at the next configure.
        loadable: not live, but `~/load_model` makes it take effect, too.
        is_topic: whether a string is the name of a topic; empty is taken, too.
    """

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    loadable: bool = False
    is_topic: bool = False

    @property
    def expectation(self) -> str:
        """Type and range, as an error says them."""
        kind = type(self.default).__name__
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        if self.is_topic:
            return "a topic such as /camera/image_raw: words of letters, digits and _, not starting with a digit, between /"
        return kind if self.minimum is None else f"{kind}, {self.minimum:.10g} to {self.maximum:.10g}"

    def problem(self, value: Value) -> str:
        """What is wrong with a value of the right type, in one line; empty if nothing is."""
        if self.choices and value not in self.choices:
            return f"parameter {self.name} is {value!r}, expected {self.expectation}"
        if self.is_topic and value and (len(str(value)) > MAX_TOPIC or not _TOPIC.fullmatch(str(value))):
            return f"parameter {self.name} is {str(value)[:80]!r}, expected {self.expectation}"
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and isinstance(value, int | float) and not low <= value <= high:
            return f"parameter {self.name} is {value}, expected {self.expectation}"
        return ""


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("model", "", "Deployment model (.onnx); empty: the model that comes with the package.", loadable=True),
    Parameter("image", "image", "Topic of the camera images.", is_topic=True),
    Parameter(
        "image_type",
        "auto",
        "Message type of the image topic: sensor_msgs/Image or CompressedImage; auto: compressed where the topic's "
        "name ends in /compressed.",
        choices=("auto", "raw", "compressed"),
    ),
    Parameter(
        "camera_info", "", "Topic of the camera's calibration, passed on beside the mask; empty: none.", is_topic=True
    ),
    Parameter(
        "max_image_pixels",
        MAX_PIXELS,
        "Pixels of a compressed image that is still decoded; a few kilobytes may unpack to gigabytes.",
        1,
        2**30,
    ),
    Parameter(
        "engine", "auto", "Inference engine; auto chooses by what is installed.", choices=ENGINE_KINDS, loadable=True
    ),
    Parameter(
        "precision",
        "auto",
        "f32: 32-bit floats, results as in training; fast: whatever the device computes quickest; auto: fast where it is "
        "known to cost less than 0.3 points of mIoU (bfloat16 in OpenVINO, on processors that have it), f32 elsewhere.",
        choices=PRECISION_CHOICES,
        loadable=True,
    ),
    Parameter("threads", 0, "CPU threads of one inference; 0 leaves it to the engine.", 0, 256, loadable=True),
    Parameter(
        "while_building",
        "wait",
        "What the node does while TensorRT builds an engine, which takes minutes at the first start: wait: it is not "
        "configured before; fallback: it serves with another engine and changes over between two images.",
        choices=WHILE_BUILDING,
    ),
    Parameter(
        "tensorrt_precision",
        "auto",
        "What TensorRT computes in; auto: what the parameter precision says, half floats for fast.",
        choices=("auto", *TENSORRT_PRECISIONS),
    ),
    Parameter("tensorrt_workspace_mb", 0, "Device memory a layer may use while it runs; 0: no limit.", 0, 1_048_576),
    Parameter("tensorrt_optimization_level", 3, "0 builds quickest, 5 runs quickest.", 0, 5),
    Parameter("tensorrt_dla_core", -1, "A DLA core, with the GPU for what it cannot do; -1: the GPU alone.", -1, 7),
    Parameter(
        "tensorrt_keep_fp32", "", "With half floats: names of the model's tensors to keep in 32 bits, comma-separated."
    ),
    Parameter(
        "tensorrt_agreement_percent",
        99.0,
        "Least share of pixels on which a TensorRT engine must agree with the model to be used; 0: it is not asked.",
        0.0,
        100.0,
    ),
    Parameter("engine_cache", "", "Folder of built engines; empty: $SEG_PERCEPTION_CACHE, or in ~/.cache."),
    Parameter("autostart", True, "Configure and activate at start; false: wait for a lifecycle manager."),
    Parameter("overlay_alpha", 0.5, "Weight of the class colours in the overlay.", 0.0, 1.0, live=True),
    Parameter(
        "stale_after_s",
        2.0,
        "Without an image for so long, diagnostics report the camera stale.",
        0.1,
        3600.0,
        live=True,
    ),
    Parameter(
        "late_after_ms",
        500.0,
        "Diagnostics warn where the 95th percentile of the latency from an image's arrival to its mask is above this.",
        1.0,
        60_000.0,
        live=True,
    ),
    Parameter("diagnostics_period_s", 1.0, "Time between two messages on /diagnostics.", 0.1, 60.0, live=True),
    Parameter(
        "capture_mb",
        0,
        "Memory (1e6 bytes) for the last messages in and out, which ~/save_capture writes to a file; 0: nothing is kept.",
        0,
        65_536,
        live=True,
    ),
    Parameter("capture_s", 10.0, "Age of the oldest message that is kept for a capture.", 0.1, 3600.0, live=True),
    Parameter(
        "capture_folder", "", "Where captures are written; empty: captures in $ROS_HOME or in ~/.ros.", live=True
    ),
    Parameter(
        "capture_on_error",
        True,
        "Save a capture also when diagnostics turn to error (with capture_mb above 0).",
        live=True,
    ),
    Parameter("capture_pause_s", 600.0, "Least time between two captures made by errors.", 1.0, 86_400.0, live=True),
    Parameter("capture_files", 10, "So many captures made by errors are kept, the newest ones.", 1, 1000, live=True),
)


@dataclass(frozen=True)
class NodeParameters:
    """The values, checked; one field a parameter."""

    model: str
    image: str
    image_type: str
    camera_info: str
    max_image_pixels: int
    engine: str
    precision: str
    threads: int
    while_building: str
    tensorrt_precision: str
    tensorrt_workspace_mb: int
    tensorrt_optimization_level: int
    tensorrt_dla_core: int
    tensorrt_keep_fp32: str
    tensorrt_agreement_percent: float
    engine_cache: str
    autostart: bool
    overlay_alpha: float
    stale_after_s: float
    late_after_ms: float
    diagnostics_period_s: float
    capture_mb: int
    capture_s: float
    capture_folder: str
    capture_on_error: bool
    capture_pause_s: float
    capture_files: int

    @property
    def compressed(self) -> bool:
        """Whether the image topic carries CompressedImage."""
        return self.image_type == "compressed" or (self.image_type == "auto" and self.image.endswith("/compressed"))

    @property
    def tensorrt(self) -> TensorRtSettings:
        """What concerns TensorRT alone."""
        return TensorRtSettings(
            precision="" if self.tensorrt_precision == "auto" else self.tensorrt_precision,
            while_building=self.while_building,
            workspace_mb=self.tensorrt_workspace_mb,
            optimization_level=self.tensorrt_optimization_level,
            dla_core=self.tensorrt_dla_core,
            keep_fp32=tuple(name.strip() for name in self.tensorrt_keep_fp32.split(",") if name.strip()),
            cache=self.engine_cache,
            threshold=self.tensorrt_agreement_percent / 100,
        )


def declare(node: Node) -> dict[str, str]:
    """Declare all parameters on a node.

    A start value of the wrong type or outside its range does not end the node: the parameter keeps its default, and
    what is wrong comes back, for `configure` to refuse until it is set right.

    Returns:
        problems by parameter name.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    problems = {}
    for parameter in PARAMETERS:
        descriptor = ParameterDescriptor(description=parameter.description)
        if parameter.choices:
            descriptor.additional_constraints = f"one of: {', '.join(parameter.choices)}"
        if parameter.minimum is not None and parameter.maximum is not None:
            if isinstance(parameter.default, int):
                low, high = int(parameter.minimum), int(parameter.maximum)
                descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(parameter.minimum), to_value=float(parameter.maximum))
                ]
        try:
            value = node.declare_parameter(parameter.name, parameter.default, descriptor).value
            problem = parameter.problem(value)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            if node.has_parameter(parameter.name):
                node.undeclare_parameter(parameter.name)
            node.declare_parameter(parameter.name, parameter.default, descriptor, ignore_override=True)
            problem = f"parameter {parameter.name}: {error}; expected {parameter.expectation}"
        if problem:
            problems[parameter.name] = problem
    return problems


def read(node: Node) -> NodeParameters:
    """The declared parameters' present values."""
    return NodeParameters(**{field.name: node.get_parameter(field.name).value for field in fields(NodeParameters)})


def problem_with(changes: list[RosParameter], configured: bool) -> str:
    """Why a set of changes must be refused, in one line; empty if it may be made.

    Args:
        changes: what `ros2 param set` and the like ask for. Types and ranges of numbers are checked by rclpy before.
        configured: whether the node holds a model; then only live and loadable parameters may change.
    """
    table = {parameter.name: parameter for parameter in PARAMETERS}
    for change in changes:
        parameter = table.get(change.name)
        if parameter is None:  # use_sim_time, qos_overrides: not ours
            continue
        problem = parameter.problem(change.value)
        if problem:
            return problem
        if configured and not parameter.live and not parameter.loadable:
            return f"parameter {change.name} takes effect at configure; deactivate and clean up the node first"
    return ""


def markdown() -> str:
    """docs/parameters.md."""
    lines = [
        "# Parameters of the segmentation node",
        "",
        "Written by `python -m seg_perception.ros.parameters > docs/parameters.md` from the declarations in",
        "`seg_perception/ros/parameters.py`. Those marked *live* may change while the node runs; those marked *loadable* may be",
        "set while it runs and take effect with `~/load_model` or at the next configure; the others at the next configure.",
        "",
        "| parameter | type | default | range | what it does |",
        "|---|---|---|---|---|",
    ]
    for p in PARAMETERS:
        limits = ", ".join(p.choices) if p.minimum is None else f"{p.minimum:.10g} to {p.maximum:.10g}"
        live = " *live*" if p.live else " *loadable*" if p.loadable else ""
        default = str(p.default).lower() if isinstance(p.default, bool) else str(p.default) or '""'
        lines.append(f"| `{p.name}` | {type(p.default).__name__} | `{default}` | {limits} | {p.description}{live} |")
    lines += [
        "",
        "The quality of service of every topic can be changed by `qos_overrides.<topic>.<publisher or subscription>.",
        "<history, depth or reliability>`; `use_sim_time` works as for any node.",
    ]
    return "\n".join(lines) + "\n"


def yaml_file() -> str:
    """config/segmentation.yaml: every parameter at its default, to copy and change."""
    lines = [
        "# The node's parameters at their defaults. Copy this file, keep what you change, and give it to the node:",
        "#     ros2 launch seg_perception segmentation.launch.py params_file:=/path/to/copy.yaml",
        "# Arguments of the launch file win over it. Written by `python -m seg_perception.ros.parameters --yaml`.",
        "",
        "/**:  # any node name and namespace; a name such as /front/segmentation for one node only",
        "  ros__parameters:",
    ]
    for p in PARAMETERS:
        note = textwrap.wrap(
            f"{p.description} [{p.expectation}{'; live' if p.live else '; loadable' if p.loadable else ''}]", 110
        )
        lines += [f"    # {line}" for line in note]
        lines.append(f"    {p.name}: {json.dumps(p.default)}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the documentation, or with --yaml the parameter file, that belong to the declarations."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--yaml", action="store_true", help="print config/segmentation.yaml, not docs/parameters.md")
    print(yaml_file() if parser.parse_args().yaml else markdown(), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
