"""The parameters on a node: declared, read and checked, those of several cameras among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from seg_perception.engines.tensorrt.options import MAX_BATCH, TensorRtSettings
from seg_perception.output_size import OutputSize, parse_output_size
from seg_perception.ros.parameter import Parameter
from seg_perception.ros.parameters import PARAMETERS
from seg_perception.share import share_path

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.parameter import Parameter as RosParameter

SHIPPED_MODEL = "models/rooms_spt_lite0.onnx"
_TABLE = {parameter.name: parameter for parameter in PARAMETERS}
PER_CAMERA = tuple(parameter for parameter in PARAMETERS if parameter.per_camera)


@dataclass(frozen=True)
class CameraParameters:
    """The values of one camera, checked; one field a parameter that is `per_camera`."""

    image: str
    image_type: str
    camera_info: str
    depth: str
    depth_camera_info: str
    cloud: str
    points_keep_invalid: bool
    points_max_gap_s: float
    max_image_pixels: int
    enabled: bool
    max_rate_hz: float
    body_mask: str
    output_size: str
    smoothing: float
    overlay_alpha: float
    stale_after_s: float
    late_after_ms: float

    @property
    def size(self) -> OutputSize:
        """Of the masks."""
        return parse_output_size(self.output_size) or OutputSize()

    @property
    def has_points(self) -> bool:
        """Whether there is a topic `points`."""
        return bool(self.depth or self.cloud)

    @property
    def calibration(self) -> str:
        """Topic of the calibration that belongs to the depth."""
        return self.depth_camera_info or self.camera_info

    @property
    def compressed(self) -> bool:
        """Whether the image topic carries CompressedImage."""
        return self.image_type == "compressed" or (self.image_type == "auto" and self.image.endswith("/compressed"))


@dataclass(frozen=True)
class NodeParameters:
    """The values, checked; one field a parameter that is not `per_camera`, and the cameras.

    Attributes:
        cameras: by name; one without a name where the parameter `cameras` is empty.
        plain: of the per-camera parameters without a camera's name.
    """

    model: str
    cameras: dict[str, CameraParameters]
    plain: CameraParameters
    classes: str
    foreground: list[str]
    confidence_threshold: float
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
    hang_timeout_s: float
    hang_restarts: int
    diagnostics_period_s: float
    capture_mb: int
    capture_s: float
    capture_folder: str
    capture_on_error: bool
    capture_pause_s: float
    capture_files: int

    @property
    def model_path(self) -> str:
        """Of the model that is asked for."""
        return self.model or str(share_path(SHIPPED_MODEL))

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
            max_batch=min(len(self.cameras), MAX_BATCH),
        )


def declare(node: Node) -> dict[str, str]:
    """Declare all parameters on a node, without those of several cameras.

    A start value of the wrong type or outside its range does not end the node: the parameter keeps its default, and
    what is wrong comes back, for `configure` to refuse until it is set right.

    Returns:
        problems by parameter name.
    """
    return _declare(node, PARAMETERS)


def declare_cameras(node: Node, cameras: Sequence[str]) -> dict[str, str]:
    """Declare the parameters of several cameras, as `declare` does; the plain ones are their defaults."""
    return _declare(
        node,
        [p.of_camera(camera, node.get_parameter(p.name).value) for camera in cameras if camera for p in PER_CAMERA],
    )


def undeclare_cameras(node: Node, cameras: Sequence[str]) -> list[str]:
    """The other way round; returns the names of the parameters."""
    names = [f"{camera}.{p.name}" for camera in cameras if camera for p in PER_CAMERA]
    for name in names:
        node.undeclare_parameter(name)
    return names


def camera_names(node: Node) -> tuple[str, ...]:
    """The parameter `cameras`; one empty name where it is empty or cannot be used."""
    value = node.get_parameter("cameras").value
    return tuple(value) if value and not _TABLE["cameras"].problem(value) else ("",)


def read(node: Node, cameras: Sequence[str]) -> NodeParameters:
    """The declared parameters' present values.

    Args:
        node: that they are declared on.
        cameras: names whose parameters are declared; one empty name for the camera without.
    """

    def camera_values(camera: str) -> CameraParameters:
        prefix = f"{camera}." if camera else ""
        return CameraParameters(**{p.name: node.get_parameter(prefix + p.name).value for p in PER_CAMERA})

    values: dict[str, Any] = {
        field.name: _read_one(node, field.name)
        for field in fields(NodeParameters)
        if field.name not in ("cameras", "plain")
    }
    return NodeParameters(
        **values, cameras={camera: camera_values(camera) for camera in cameras}, plain=camera_values("")
    )


def problem_with(changes: Sequence[RosParameter], configured: bool) -> str:
    """Why a set of changes must be refused, in one line; empty if it may be made.

    Args:
        changes: what `ros2 param set` and the like ask for. Types and ranges of numbers are checked by rclpy before.
        configured: whether the node holds a model; then only live and loadable parameters may change.
    """
    for change in changes:
        parameter = parameter_of(change.name)
        if parameter is None:  # use_sim_time, qos_overrides: not ours
            continue
        problem = parameter.problem(change.value)
        if problem:
            return problem
        if configured and not parameter.live and not parameter.loadable:
            return f"parameter {change.name} takes effect at configure; deactivate and clean up the node first"
    return ""


def followers(before: NodeParameters, now: NodeParameters) -> list[tuple[str, Any]]:
    """Parameters of several cameras that follow a change of the plain one: name and value.

    A camera's own value that differs from the plain one's before stays.
    """
    changed = [p.name for p in PER_CAMERA if p.follows and getattr(before.plain, p.name) != getattr(now.plain, p.name)]
    return [
        (f"{camera}.{name}", getattr(now.plain, name))
        for camera, values in now.cameras.items()
        for name in changed
        if camera and getattr(values, name) == getattr(before.plain, name)
    ]


def parameter_of(name: str) -> Parameter | None:
    """The declaration of a parameter by its name on the node, a camera's included; None where it is none of ours."""
    if name in _TABLE:
        return _TABLE[name]
    camera, _, plain = name.partition(".")
    parameter = _TABLE.get(plain)
    if parameter is None or not parameter.per_camera:
        return None
    return parameter.of_camera(camera, parameter.default)


def _declare(node: Node, parameters: Sequence[Parameter]) -> dict[str, str]:
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    problems = {}
    for parameter in parameters:
        descriptor = _descriptor(parameter)
        try:
            value = node.declare_parameter(parameter.name, parameter.default, descriptor).value
            if isinstance(parameter.default, list) and not value:
                value = []  # an empty list has no type in a parameter file, and arrives as None
            problem = parameter.problem(value)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            if node.has_parameter(parameter.name):
                node.undeclare_parameter(parameter.name)
            node.declare_parameter(parameter.name, parameter.default, descriptor, ignore_override=True)
            problem = f"parameter {parameter.name}: {error}; expected {parameter.expectation}"
        if problem:
            problems[parameter.name] = problem
    return problems


def _descriptor(parameter: Parameter) -> Any:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    # rclpy takes an empty list for one of bytes, and would then refuse texts.
    descriptor = ParameterDescriptor(
        description=parameter.description, dynamic_typing=isinstance(parameter.default, list)
    )
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
    return descriptor


def _read_one(node: Node, name: str) -> Any:
    value = node.get_parameter(name).value
    if isinstance(_TABLE[name].default, list):
        return [] if not value or _TABLE[name].problem(value) else list(value)
    return value
