"""The two forms of the deployment model: which tensors each has, and whether those of a file fit its own metadata.

    labels (format 1)       labels, confidence uint8 [B, H, W]; superpixels int32 [B, H, W] where there are any
    association (format 2)  association float [B, R, C, P, 9], class_logits float [B, R, C, K]: the robot paints

docs/contract.md says what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seg_perception.model.errors import EXPORT_HINT, ModelFileError
from seg_perception.model.onnx_header import OnnxHeader, TensorInfo
from seg_perception.painting_geometry import PaintingGeometry

FORMS = {"labels": "1", "association": "2"}  # the format version that each came with
FLOATS = ("float32", "float16")
MAX_SUPERPIXELS = 65535  # published as uint16 (16UC1)
MAX_FEATURES = 2**24  # pixel features of an image, nine scores each: 600 MB; an input of 4096x4096 at stride 4 has 2**20


@dataclass(frozen=True)
class Expected:
    """A tensor that a file must have: its types, and its shape behind the batch."""

    name: str
    element_types: tuple[str, ...]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{' or '.join(self.element_types)} [B, {', '.join(str(size) for size in self.shape)}]"


def form_of(path: Path, metadata: dict[str, str]) -> str:
    """Which form a file is of; files of format 1 need not say.

    Raises:
        ModelFileError: another format version than those of FORMS, an unknown form, or a form that its version has not.
    """
    version = metadata["format_version"]
    versions = sorted(set(FORMS.values()))
    if version not in versions:
        raise ModelFileError(
            f"model file {path} has format version {version!r:.80}, this seg_perception reads {' and '.join(versions)}; "
            "install a matching seg_perception or export the model again"
        )
    form = metadata.get("form", "labels" if version == "1" else "")
    if form not in FORMS:
        raise ModelFileError(f"model file {path} is of form {form!r:.80}, expected one of {', '.join(FORMS)}; {EXPORT_HINT}")
    if form == "association" and version == "1":
        raise ModelFileError(f"model file {path} is of form association, which is of format version 2, not 1; {EXPORT_HINT}")
    return form


def painting_geometry(
    path: Path,
    input_size: tuple[int, int],
    grid: tuple[int, int] | None,
    feature_cell: tuple[int, int] | None,
    cell: tuple[int, int] | None,
) -> PaintingGeometry:
    """The geometry of a file of the form `association`, from its metadata.

    Args:
        cell: pixels of the network's input in a cell; None where the grid divides the input without a rest.

    Raises:
        ModelFileError: something is missing, or does not fit the rest; says what fits.
    """
    for key, value in (("superpixel_grid", grid), ("feature_cell", feature_cell)):
        if value is None:
            raise ModelFileError(f"model file {path} is of form association but its metadata lacks {key}; {EXPORT_HINT}")
    assert grid is not None
    assert feature_cell is not None
    if cell is None:
        if input_size[0] % grid[0] or input_size[1] % grid[1]:
            raise ModelFileError(
                f"model file {path}: an input of {_sides(input_size)} is no whole number of the {_sides(grid)} cells of its "
                "superpixel grid; metadata cell must say how many pixels a cell has"
            )
        cell = (input_size[0] // grid[0], input_size[1] // grid[1])
    for side, cells, pixels in zip(input_size, grid, cell, strict=True):
        if cells * pixels < side:
            fit = (-(-input_size[0] // cell[0]), -(-input_size[1] // cell[1]))
            raise ModelFileError(
                f"model file {path}: a grid of {_sides(grid)} cells of {_sides(cell)} pixels does not cover an input of "
                f"{_sides(input_size)}; a superpixel_grid of at least {_sides(fit)} does"
            )
    features = grid[0] * grid[1] * feature_cell[0] * feature_cell[1]
    if features > MAX_FEATURES:
        raise ModelFileError(
            f"model file {path}: {_sides(grid)} cells of {_sides(feature_cell)} pixel features are {features}, expected at most "
            f"{MAX_FEATURES}; {EXPORT_HINT}"
        )
    return PaintingGeometry(input_size, grid, cell, feature_cell)


def expected_outputs(
    form: str, input_size: tuple[int, int], geometry: PaintingGeometry | None, num_classes: int, has_superpixels: bool
) -> list[Expected]:
    """The outputs that a file of a form must have."""
    if form == "association":
        assert geometry is not None
        features = geometry.feature_cell[0] * geometry.feature_cell[1]
        return [
            Expected("association", FLOATS, (*geometry.grid, features, 9)),
            Expected("class_logits", FLOATS, (*geometry.grid, num_classes)),
        ]
    outputs = [Expected("labels", ("uint8",), input_size), Expected("confidence", ("uint8",), input_size)]
    if has_superpixels:
        outputs.append(Expected("superpixels", ("int32",), input_size))
    return outputs


def check_tensors(path: Path, header: OnnxHeader, input_size: tuple[int, int], outputs: list[Expected]) -> int | None:
    """Compare a graph's input and outputs with those of its form.

    Returns:
        the batch size that it is fixed to, or None.

    Raises:
        ModelFileError: a tensor that is missing, or of another type or shape.
    """
    image = Expected("image", ("uint8",), (*input_size, 3))
    if [tensor.name for tensor in header.inputs] != ["image"]:
        came = ", ".join(str(tensor) for tensor in header.inputs)[:300] or "none"
        raise ModelFileError(f"model file {path} has the inputs: {came}; expected one: image {image}")
    _check(path, header.inputs[0], "input", image)
    present = {tensor.name: tensor for tensor in header.outputs}
    for expected in outputs:
        if expected.name not in present:
            names = ", ".join(present)[:300] or "none"
            raise ModelFileError(
                f"model file {path} has no output {expected.name} (its outputs: {names}); {EXPORT_HINT}"
            )
        _check(path, present[expected.name], f"output {expected.name}", expected)
    batch = header.inputs[0].shape[0]
    return batch if isinstance(batch, int) else None


def check_superpixels(path: Path, form: str, has_output: bool, grid: tuple[int, int] | None) -> None:
    """Raise ModelFileError for superpixels without a grid, a grid without superpixels, or more of them than 16 bits name."""
    if form == "labels" and has_output != (grid is not None):
        have, lack = ("output superpixels", "metadata superpixel_grid")
        if not has_output:
            have, lack = lack, have
        raise ModelFileError(f"model file {path} has {have} but no {lack}; {EXPORT_HINT}")
    if grid is not None and grid[0] * grid[1] > MAX_SUPERPIXELS:
        raise ModelFileError(
            f"model file {path} has a superpixel grid of {grid[0]}x{grid[1]} = {grid[0] * grid[1]} cells; "
            f"superpixels are published as 16-bit ids, at most {MAX_SUPERPIXELS}"
        )


def _check(path: Path, tensor: TensorInfo, what: str, expected: Expected) -> None:
    """Type, rank, and every dimension that the file fixes."""
    fits = tensor.element_type in expected.element_types and len(tensor.shape) == 1 + len(expected.shape)
    if not fits or any(
        isinstance(came, int) and came != wanted for came, wanted in zip(tensor.shape[1:], expected.shape, strict=True)
    ):
        raise ModelFileError(f"model file {path}: {what} is {str(tensor)[:300]}, expected {expected}; {EXPORT_HINT}")


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
