"""Reads the outline of an ONNX file - metadata, inputs, outputs - without the `onnx` package and without its weights.

An ONNX file is one protocol-buffer message. Only the few fields needed here are walked (field numbers from
onnx.proto3); the rest is skipped by its length, so a file of any size is read in a moment. A file cut short shows
as a field that is longer than what is left.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_FIELD_NUMBER = 536_870_911  # of any protocol-buffer message

# TensorProto.DataType
_ELEMENT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}


class OnnxFormatError(ValueError):
    """The bytes are not a whole ONNX file."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of the graph."""

    name: str
    element_type: str
    shape: tuple[int | str, ...]  # a str is a dimension left open, by its name ("" where it has none)

    def __str__(self) -> str:
        return f"{self.name} {self.element_type} [{', '.join(str(size) or '?' for size in self.shape)}]"


@dataclass(frozen=True)
class OnnxHeader:
    """What a file says of itself."""

    ir_version: int
    opset: int
    producer: str
    metadata: dict[str, str]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    external_weights: tuple[str, ...]  # names of weights kept in other files


def read_onnx_header(path: Path) -> OnnxHeader:
    """Outline of the ONNX file at `path`.

    Raises:
        OnnxFormatError: the file is empty, cut short, or no ONNX file.
        OSError: it cannot be read.
    """
    if path.stat().st_size == 0:
        raise OnnxFormatError("the file is empty (0 bytes)")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        return _parse_model(view)


@dataclass(frozen=True)
class _Field:
    number: int
    wire_type: int
    value: int  # of a number
    start: int  # of a message, string or bytes, from the start of the file
    end: int


def _parse_model(view: memoryview) -> OnnxHeader:
    ir_version = 0
    opset = 0
    producer = ""
    metadata: dict[str, str] = {}
    graph: _Field | None = None
    for field in _fields(view, 0, len(view)):
        if field.number == 1 and field.wire_type == _VARINT:
            ir_version = field.value
        elif field.wire_type != _BYTES:
            continue
        elif field.number == 2:
            producer = _text(view, field)
        elif field.number == 7:
            graph = field
        elif field.number == 8:
            domain, version = _parse_opset(view, field)
            opset = version if domain in ("", "ai.onnx") else opset
        elif field.number == 14:
            key, value = _parse_pair(view, field)
            metadata[key] = value
    if graph is None or ir_version == 0:
        raise OnnxFormatError("it is not an ONNX file (no graph in it)")
    inputs, outputs, external = _parse_graph(view, graph)
    return OnnxHeader(ir_version, opset, producer, metadata, inputs, outputs, external)


def _parse_graph(
    view: memoryview, graph: _Field
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...], tuple[str, ...]]:
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    weights: set[str] = set()
    external: list[str] = []
    for field in _fields(view, graph.start, graph.end):
        if field.wire_type != _BYTES:
            continue
        if field.number == 5:
            name, is_external = _parse_weight(view, field)
            weights.add(name)
            if is_external:
                external.append(name)
        elif field.number == 11:
            inputs.append(_parse_value_info(view, field))
        elif field.number == 12:
            outputs.append(_parse_value_info(view, field))
    # Files of IR version 3 list weights among the inputs too.
    real_inputs = tuple(tensor for tensor in inputs if tensor.name not in weights)
    return real_inputs, tuple(outputs), tuple(external)


def _parse_opset(view: memoryview, message: _Field) -> tuple[str, int]:
    domain, version = "", 0
    for field in _fields(view, message.start, message.end):
        if field.number == 1 and field.wire_type == _BYTES:
            domain = _text(view, field)
        elif field.number == 2 and field.wire_type == _VARINT:
            version = field.value
    return domain, version


def _parse_pair(view: memoryview, message: _Field) -> tuple[str, str]:
    key, value = "", ""
    for field in _fields(view, message.start, message.end):
        if field.number == 1 and field.wire_type == _BYTES:
            key = _text(view, field)
        elif field.number == 2 and field.wire_type == _BYTES:
            value = _text(view, field)
    return key, value


def _parse_weight(view: memoryview, message: _Field) -> tuple[str, bool]:
    name, external = "", False
    for field in _fields(view, message.start, message.end):
        if field.number == 8 and field.wire_type == _BYTES:
            name = _text(view, field)
        elif field.number == 14 and field.wire_type == _VARINT:
            external = field.value == 1
    return name, external


def _parse_value_info(view: memoryview, message: _Field) -> TensorInfo:
    name, element_type = "", "not a tensor"
    shape: tuple[int | str, ...] = ()
    for field in _fields(view, message.start, message.end):
        if field.wire_type != _BYTES:
            continue
        if field.number == 1:
            name = _text(view, field)
        elif field.number == 2:
            for kind in _fields(view, field.start, field.end):
                if kind.number == 1 and kind.wire_type == _BYTES:
                    element_type, shape = _parse_tensor_type(view, kind)
    return TensorInfo(name, element_type, shape)


def _parse_tensor_type(view: memoryview, message: _Field) -> tuple[str, tuple[int | str, ...]]:
    element_type = "undefined"
    shape: list[int | str] = []
    for field in _fields(view, message.start, message.end):
        if field.number == 1 and field.wire_type == _VARINT:
            element_type = _ELEMENT_TYPES.get(field.value, f"element type {field.value}")
        elif field.number == 2 and field.wire_type == _BYTES:
            for dimension in _fields(view, field.start, field.end):
                if dimension.number == 1 and dimension.wire_type == _BYTES:
                    shape.append(_parse_dimension(view, dimension))
    return element_type, tuple(shape)


def _parse_dimension(view: memoryview, message: _Field) -> int | str:
    for field in _fields(view, message.start, message.end):
        if field.number == 1 and field.wire_type == _VARINT:
            return field.value
        if field.number == 2 and field.wire_type == _BYTES:
            return _text(view, field)
    return ""


def _text(view: memoryview, field: _Field) -> str:
    try:
        return bytes(view[field.start : field.end]).decode()
    except UnicodeDecodeError as error:
        raise OnnxFormatError("it is not an ONNX file (a name in it is not text)") from error


def _fields(view: memoryview, position: int, end: int) -> Iterator[_Field]:
    """The fields of the message in view[position:end]."""
    while position < end:
        tag, position = _varint(view, position, end)
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number <= _MAX_FIELD_NUMBER:
            raise OnnxFormatError("it is not an ONNX file (no protocol-buffer field where one must start)")
        if wire_type == _VARINT:
            value, position = _varint(view, position, end)
            yield _Field(number, wire_type, value, position, position)
            continue
        if wire_type == _BYTES:
            length, position = _varint(view, position, end)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise OnnxFormatError("it is not an ONNX file (a field of no known type)")
        if position + length > end:
            missing = position + length - end
            raise OnnxFormatError(f"it is cut short or no ONNX file ({missing} bytes are missing after byte {end})")
        yield _Field(number, wire_type, 0, position, position + length)
        position += length


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise OnnxFormatError(f"it is cut short or no ONNX file (it ends within a field at byte {end})")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise OnnxFormatError("it is not an ONNX file (a number in it is too long)")
