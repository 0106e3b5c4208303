"""What a parameter of the node is: type, range, description, and how a value is checked. No ROS in here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from seg_perception.output_size import OUTPUT_SIZE_FORM, parse_output_size

Value = str | bool | int | float | list[str]

MAX_CAMERAS = 16
_SHOWN = 80  # letters of a value in a message


@dataclass(frozen=True)
class Syntax:
    """What a text must look like.

    Attributes:
        pattern: of the whole text.
        expectation: the same in words.
        longest: letters.
    """

    pattern: re.Pattern[str]
    expectation: str
    longest: int

    def allows(self, text: str) -> bool:
        """Whether a text is of this form."""
        return len(text) <= self.longest and self.pattern.fullmatch(text) is not None


# What rcl takes for the name of a topic; see "Topic and Service name mapping to DDS" of the ROS 2 design articles.
# rmw takes 247 letters of the resolved name. Empty: none.
TOPIC = Syntax(
    re.compile(r"|(~?/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*"),
    "a topic such as /camera/image_raw: words of letters, digits and _, not starting with a digit, between /",
    200,
)
CAMERA_NAME = Syntax(
    re.compile(r"(?!qos_overrides$)[A-Za-z](_?[A-Za-z0-9])*"),
    f"up to {MAX_CAMERAS} different names such as [front, rear], of letters, digits and single _, starting with a letter",
    40,
)


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: as in ROS; of one among several cameras `<camera>.<name>`.
        default: also says the type; a list is one of texts.
        description: one sentence; units are in the name.
        minimum, maximum: of a number, inclusive.
        choices: of a string, all allowed values; empty where any is allowed.
        syntax: of a string, or of each text of a list.
        is_output_size: of a string, whether it is one of `output_size.parse_output_size`.
        live: whether it may change while the node is configured; the others take effect at the next configure.
        loadable: not live, but `~/load_model` makes it take effect, too.
        per_camera: whether each of several cameras has its own, `<camera>.<name>`; the plain one is then the default of all.
        camera_default: the default of each of several cameras, where the plain parameter is none for them; {camera} stands
            for its name.
    """

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    syntax: Syntax | None = None
    is_output_size: bool = False
    live: bool = False
    loadable: bool = False
    per_camera: bool = False
    camera_default: str | None = None

    @property
    def kind(self) -> str:
        """The type in words."""
        return "list of str" if isinstance(self.default, list) else type(self.default).__name__

    @property
    def expectation(self) -> str:
        """Type and range, as an error says them."""
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        if self.syntax is not None:
            return self.syntax.expectation
        if self.is_output_size:
            return OUTPUT_SIZE_FORM
        return self.kind if self.minimum is None else f"{self.kind}, {self.minimum:.10g} to {self.maximum:.10g}"

    @property
    def follows(self) -> bool:
        """Whether the plain parameter is the default of several cameras'."""
        return self.per_camera and self.camera_default is None

    def of_camera(self, camera: str, default: Value) -> Parameter:
        """The same of one among several cameras; of the one camera without a name, itself.

        Args:
            camera: its name; empty: the one without.
            default: of the plain parameter now.
        """
        if not camera:
            return self
        own = default if self.camera_default is None else self.camera_default.format(camera=camera)
        return replace(self, name=f"{camera}.{self.name}", default=own)

    def problem(self, value: object) -> str:
        """What is wrong with a value, in one line; empty if nothing is. Types other than lists are checked by rclpy before."""
        said = repr(value)
        shown = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
        return "" if self._fits(value) else f"parameter {self.name} is {shown}, expected {self.expectation}"

    def _fits(self, value: object) -> bool:
        if isinstance(self.default, list):
            return self._fits_list(value)
        if self.choices and value not in self.choices:
            return False
        if self.syntax is not None and not self.syntax.allows(str(value)):
            return False
        if self.is_output_size and parse_output_size(str(value)) is None:
            return False
        low, high = self.minimum, self.maximum
        return low is None or high is None or not isinstance(value, int | float) or low <= value <= high

    def _fits_list(self, value: object) -> bool:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            return False
        if self.syntax is None:
            return True
        return len(value) <= MAX_CAMERAS and len(set(value)) == len(value) and all(map(self.syntax.allows, value))
