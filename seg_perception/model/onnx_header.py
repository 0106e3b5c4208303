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
# Bounds of what a sensible file has, an order of magnitude above the largest model here; a file made to keep the reader busy
# meets them within a second.
MAX_FIELDS = 1_000_000  # protocol-buffer fields, of all messages that are walked
MAX_NAME_BYTES = 4_096  # of a tensor, dimension, key or domain
MAX_VALUE_BYTES = 1 << 20  # of one value of the metadata
MAX_METADATA = 256  # entries
MAX_DEPTH = 32  # of graphs inside of nodes
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
    external_weights: tuple[str, ...]  # names of tensors kept in other files, also of those inside of nodes


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
        return _Reader(view).model()


@dataclass(frozen=True)
class _Field:
    number: int
    wire_type: int
    value: int  # of a number
    start: int  # of a message, string or bytes, from the start of the file
    end: int


class _Reader:
    """Walks one file, and no further than the bounds."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._left = MAX_FIELDS
        self._external: list[str] = []

    def model(self) -> OnnxHeader:
        """ModelProto."""
        ir_version = 0
        opset = 0
        producer = ""
        metadata: dict[str, str] = {}
        graph: _Field | None = None
        for field in self._fields(0, len(self._view)):
            if field.number == 1 and field.wire_type == _VARINT:
                ir_version = field.value
            elif field.wire_type != _BYTES:
                continue
            elif field.number == 2:
                producer = self._text(field)
            elif field.number == 7:
                graph = field
            elif field.number == 8:
                domain, version = self._opset(field)
                opset = version if domain in ("", "ai.onnx") else opset
            elif field.number == 14:
                key, value = self._pair(field)
                metadata[key] = value
                if len(metadata) > MAX_METADATA:
                    raise OnnxFormatError(f"it has more than {MAX_METADATA} entries of metadata")
            elif field.number == 25:  # a function
                self._nodes(field, node_number=7, depth=0)
            elif field.number == 20:  # training: graphs that nobody runs here, but engines may read
                for part in self._fields(field.start, field.end):
                    if part.number in (1, 2) and part.wire_type == _BYTES:
                        self._graph(part, 0)
        if graph is None or ir_version == 0:
            raise OnnxFormatError("it is not an ONNX file (no graph in it)")
        inputs, outputs = self._graph(graph, 0)
        return OnnxHeader(ir_version, opset, producer, metadata, inputs, outputs, tuple(self._external))

    def _graph(self, graph: _Field, depth: int) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        """GraphProto: inputs and outputs; notes tensors, also those inside of nodes, that are kept in other files."""
        if depth > MAX_DEPTH:
            raise OnnxFormatError(f"its graphs lie more than {MAX_DEPTH} deep in each other")
        inputs: list[TensorInfo] = []
        outputs: list[TensorInfo] = []
        weights: set[str] = set()
        for field in self._fields(graph.start, graph.end):
            if field.wire_type != _BYTES:
                continue
            if field.number == 1:
                self._node(field, depth)
            elif field.number == 5:
                weights.add(self._weight(field))
            elif field.number == 11:
                inputs.append(self._value_info(field))
            elif field.number == 12:
                outputs.append(self._value_info(field))
            elif field.number == 15:
                self._sparse_weight(field)
        # Files of IR version 3 list weights among the inputs too.
        return tuple(tensor for tensor in inputs if tensor.name not in weights), tuple(outputs)

    def _nodes(self, message: _Field, node_number: int, depth: int) -> None:
        for field in self._fields(message.start, message.end):
            if field.number == node_number and field.wire_type == _BYTES:
                self._node(field, depth)

    def _node(self, node: _Field, depth: int) -> None:
        """NodeProto: the tensors and graphs in its attributes."""
        for attribute in self._fields(node.start, node.end):
            if attribute.number != 5 or attribute.wire_type != _BYTES:
                continue
            for field in self._fields(attribute.start, attribute.end):
                if field.wire_type != _BYTES:
                    continue
                if field.number in (5, 10):
                    self._weight(field)
                elif field.number in (6, 11):
                    self._graph(field, depth + 1)
                elif field.number in (22, 23):
                    self._sparse_weight(field)

    def _opset(self, message: _Field) -> tuple[str, int]:
        domain, version = "", 0
        for field in self._fields(message.start, message.end):
            if field.number == 1 and field.wire_type == _BYTES:
                domain = self._text(field)
            elif field.number == 2 and field.wire_type == _VARINT:
                version = field.value
        return domain, version

    def _pair(self, message: _Field) -> tuple[str, str]:
        key, value = "", ""
        for field in self._fields(message.start, message.end):
            if field.number == 1 and field.wire_type == _BYTES:
                key = self._text(field)
            elif field.number == 2 and field.wire_type == _BYTES:
                value = self._text(field, MAX_VALUE_BYTES)
        return key, value

    def _weight(self, message: _Field) -> str:
        """TensorProto: its name."""
        name, external = "", False
        for field in self._fields(message.start, message.end):
            if field.number == 8 and field.wire_type == _BYTES:
                name = self._text(field)
            elif field.number == 14 and field.wire_type == _VARINT:
                external |= field.value == 1
            elif field.number == 13:
                external = True
        if external:
            self._external.append(name or "a tensor without a name")
        return name

    def _sparse_weight(self, message: _Field) -> None:
        """SparseTensorProto: its values and their places are tensors."""
        for field in self._fields(message.start, message.end):
            if field.number in (1, 2) and field.wire_type == _BYTES:
                self._weight(field)

    def _value_info(self, message: _Field) -> TensorInfo:
        name, element_type = "", "not a tensor"
        shape: tuple[int | str, ...] = ()
        for field in self._fields(message.start, message.end):
            if field.wire_type != _BYTES:
                continue
            if field.number == 1:
                name = self._text(field)
            elif field.number == 2:
                for kind in self._fields(field.start, field.end):
                    if kind.number == 1 and kind.wire_type == _BYTES:
                        element_type, shape = self._tensor_type(kind)
        return TensorInfo(name, element_type, shape)

    def _tensor_type(self, message: _Field) -> tuple[str, tuple[int | str, ...]]:
        element_type = "undefined"
        shape: list[int | str] = []
        for field in self._fields(message.start, message.end):
            if field.number == 1 and field.wire_type == _VARINT:
                element_type = _ELEMENT_TYPES.get(field.value, f"element type {field.value}")
            elif field.number == 2 and field.wire_type == _BYTES:
                for dimension in self._fields(field.start, field.end):
                    if dimension.number == 1 and dimension.wire_type == _BYTES:
                        shape.append(self._dimension(dimension))
        return element_type, tuple(shape)

    def _dimension(self, message: _Field) -> int | str:
        for field in self._fields(message.start, message.end):
            if field.number == 1 and field.wire_type == _VARINT:
                return field.value
            if field.number == 2 and field.wire_type == _BYTES:
                return self._text(field)
        return ""

    def _text(self, field: _Field, most: int = MAX_NAME_BYTES) -> str:
        if field.end - field.start > most:
            raise OnnxFormatError(f"it has a text of {field.end - field.start} bytes where at most {most} make sense")
        try:
            return bytes(self._view[field.start : field.end]).decode()
        except UnicodeDecodeError as error:
            raise OnnxFormatError("it is not an ONNX file (a name in it is not text)") from error

    def _fields(self, position: int, end: int) -> Iterator[_Field]:
        """The fields of the message in view[position:end]."""
        view = self._view
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise OnnxFormatError(f"it has more than {MAX_FIELDS} fields, more than any model")
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
