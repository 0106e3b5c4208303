"""The deployment model: one ONNX file that carries everything a robot needs, and what it says of itself.

Its tensors are those of one of two forms, see `forms`. The metadata keys are the fields of `ModelInfo`; structured values
are JSON.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.model.errors import EXPORT_HINT, ModelFileError
from seg_perception.model.forms import (
    check_superpixels,
    check_tensors,
    expected_outputs,
    form_of,
    painting_geometry,
)
from seg_perception.model.onnx_header import OnnxFormatError, OnnxHeader, read_onnx_header
from seg_perception.painting_geometry import PaintingGeometry

UNLABELLED = 255
MAX_CLASSES = 255  # 255 itself is kept for "not labelled"
MAX_NAME = 200  # letters of a class
MAX_SIDE = 16_384  # pixels, cells, features along one side
REQUIRED_KEYS = ("format_version", "architecture", "class_names", "palette", "input_size")


@dataclass(frozen=True)
class ModelInfo:
    """What a deployment model says of itself.

    Attributes:
        path: the file.
        format_version: of the contract, "1" or "2".
        form: "labels" or "association".
        name: of the model, such as "rooms_spt_lite0"; the file's stem where the file gives none.
        architecture: such as "superpixel_transformer".
        class_names: K names, in the order of the class indices.
        palette: uint8 [K, 3], RGB.
        input_size: (H, W) of the network, pixels.
        normalization: {"mean": [r, g, b], "std": [r, g, b]} in 0..255 units, or None. It is part of the graph;
            kept here for people to read.
        training_data, license, source_commit: free text, empty where the file has none.
        superpixel_grid: (rows, columns), or None for a model without superpixels.
        has_superpixels: whether there are superpixels.
        geometry: of painting; None for the form `labels`.
        batch_size: the number of images the graph is fixed to, or None where it takes any number.
        opset: of ONNX.
        file_size_bytes: of the file.
        temperature: that its confidence was calibrated with, empty where it was not. It is part of the graph.
    """

    path: Path
    format_version: str
    form: str
    name: str
    architecture: str
    class_names: tuple[str, ...]
    palette: np.ndarray
    input_size: tuple[int, int]
    normalization: dict[str, list[float]] | None
    training_data: str
    license: str
    source_commit: str
    superpixel_grid: tuple[int, int] | None
    has_superpixels: bool
    geometry: PaintingGeometry | None
    batch_size: int | None
    opset: int
    file_size_bytes: int
    temperature: str = ""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return {
            "path": str(self.path),
            "name": self.name,
            "architecture": self.architecture,
            "format_version": self.format_version,
            "form": self.form,
            "input_size": list(self.input_size),
            "superpixel_grid": list(self.superpixel_grid) if self.superpixel_grid else None,
            "cell": list(self.geometry.cell) if self.geometry else None,
            "feature_cell": list(self.geometry.feature_cell) if self.geometry else None,
            "class_names": list(self.class_names),
            "palette": self.palette.tolist(),
            "normalization": self.normalization,
            "training_data": self.training_data,
            "license": self.license,
            "source_commit": self.source_commit,
            "batch_size": self.batch_size,
            "opset": self.opset,
            "file_size_bytes": self.file_size_bytes,
            "temperature": self.temperature,
        }


def read_model_info(path: str | Path) -> ModelInfo:
    """Read and check what the deployment model at `path` says of itself; its weights are not loaded.

    Raises:
        ModelFileError: the file is missing, empty, cut short, no ONNX file, without the contract's metadata, or with
            other tensors than the contract's.
    """
    path = Path(path)
    header = _read_header(path)
    metadata = header.metadata
    missing = [key for key in REQUIRED_KEYS if key not in metadata]
    if missing:
        raise ModelFileError(
            f"model file {path} is ONNX but no deployment model: its metadata lacks {', '.join(missing)}; {EXPORT_HINT}"
        )
    form = form_of(path, metadata)
    if header.external_weights:
        raise ModelFileError(
            f"model file {path} keeps {len(header.external_weights)} weights in other files "
            f"(the first: {header.external_weights[0]}); a deployment model is one file; {EXPORT_HINT}"
        )
    fields = _MetadataReader(path, metadata)
    names = f"a JSON list of 1 to {MAX_CLASSES} different names without control characters"
    class_names = fields.read("class_names", _class_names, names)
    palette = fields.read("palette", _palette, "a JSON list of [r, g, b] with values 0 to 255")
    input_size = fields.read("input_size", _size, f"JSON [height, width], 1 to {MAX_SIDE}")
    if len(palette) != len(class_names):
        raise ModelFileError(
            f"model file {path}: palette has {len(palette)} colours for {len(class_names)} classes; {EXPORT_HINT}"
        )
    grid, feature_cell, cell = (
        fields.read(key, _size, expected) if key in metadata else None
        for key, expected in (
            ("superpixel_grid", f"JSON [rows, columns], 1 to {MAX_SIDE}"),
            ("feature_cell", f"JSON [height, width], 1 to {MAX_SIDE}"),
            ("cell", f"JSON [height, width], 1 to {MAX_SIDE}"),
        )
    )
    normalization = None
    if "normalization" in metadata:
        normalization = fields.read("normalization", _normalization, 'JSON {"mean": [r, g, b], "std": [r, g, b]}')
    has_output = any(tensor.name == "superpixels" for tensor in header.outputs)
    check_superpixels(path, form, has_output, grid)
    geometry = None
    if form == "association":
        geometry = painting_geometry(path, input_size, grid, feature_cell, cell)
    outputs = expected_outputs(form, input_size, geometry, len(class_names), has_output)
    return ModelInfo(
        path=path,
        format_version=metadata["format_version"],
        form=form,
        name=_printable(metadata.get("name", "") or path.stem),
        architecture=_printable(metadata["architecture"]),
        class_names=class_names,
        palette=palette,
        input_size=input_size,
        normalization=normalization,
        training_data=_printable(metadata.get("training_data", "")),
        license=_printable(metadata.get("license", "")),
        source_commit=_printable(metadata.get("source_commit", "")),
        superpixel_grid=grid,
        has_superpixels=has_output or form == "association",
        geometry=geometry,
        batch_size=check_tensors(path, header, input_size, outputs),
        opset=header.opset,
        file_size_bytes=path.stat().st_size,
        temperature=_printable(metadata.get("temperature", "")),
    )


def _is_control(character: str) -> bool:
    """Whether it would break a line, drive a terminal, or cannot be written as UTF-8."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _printable(text: str) -> str:
    """For terminals and logs of one line: control characters, such as a line break, become question marks."""
    return "".join("?" if _is_control(character) else character for character in text)


def _read_header(path: Path) -> OnnxHeader:
    try:
        is_there, is_file = path.exists(), path.is_file()
    except OSError as error:  # a folder on the way that may not be entered, or a name that is too long
        raise ModelFileError(f"model file {_shown(path)} cannot be read: {error.strerror}") from error
    if not is_there:
        raise ModelFileError(f"model file {path} does not exist; give the path of a deployment model (.onnx)")
    if not is_file:
        raise ModelFileError(f"model file {path} is not a file; give the path of a deployment model (.onnx)")
    try:
        return read_onnx_header(path)
    except OnnxFormatError as error:
        raise ModelFileError(f"model file {path} cannot be used: {error}; copy it again or {EXPORT_HINT}") from error
    except OSError as error:
        raise ModelFileError(f"model file {path} cannot be read: {error.strerror}") from error


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 300 else text[:297] + "..."


class _MetadataReader:
    def __init__(self, path: Path, metadata: dict[str, str]) -> None:
        self._path = path
        self._metadata = metadata

    def read(self, key: str, convert: Callable[[Any], Any], expected: str) -> Any:
        text = self._metadata[key]
        try:
            return convert(json.loads(text))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise ModelFileError(
                f"model file {self._path}: metadata {key} is {shown!r}, expected {expected}; {EXPORT_HINT}"
            ) from error


def _class_names(value: Any) -> tuple[str, ...]:
    names = tuple(value)
    if not isinstance(value, list) or not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in names):
        raise ValueError("not a list of names")
    if any(_is_control(character) for name in names for character in name):
        raise ValueError("line breaks, other control characters or halves of surrogate pairs in names")
    if not 1 <= len(names) <= MAX_CLASSES or len(set(names)) != len(names):
        raise ValueError("too few, too many or repeated names")
    return names


def _palette(value: Any) -> np.ndarray:
    array = np.array(value, dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 3 or array.min() < 0 or array.max() > 255:
        raise ValueError("not colours")
    palette = array.astype(np.uint8)  # (K, 3)
    palette.setflags(write=False)
    return palette


def _size(value: Any) -> tuple[int, int]:
    rows, columns = value
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in (rows, columns)):
        raise ValueError("not two positive whole numbers")
    return rows, columns


def _normalization(value: Any) -> dict[str, list[float]]:
    result = {key: [float(number) for number in value[key]] for key in ("mean", "std")}
    if any(len(numbers) != 3 or not all(map(math.isfinite, numbers)) for numbers in result.values()):
        raise ValueError("not three finite numbers")
    return result
