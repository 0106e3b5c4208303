"""Reads back what `seg_perception view` has recorded, with Rerun's own reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Entity:
    """What was logged to one place.

    Attributes:
        stamps_ns: of each entry on the timeline "stamp"; empty where it has none.
        frames: of each entry on the timeline "frame".
        columns: values of each component, an entry each; static ones too.
    """

    stamps_ns: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)


def read_recording(path: Path) -> dict[str, Entity]:
    """Every entity of the run, by its path."""
    from rerun.chunk import RrdReader

    entities: dict[str, Entity] = {}
    for chunk in RrdReader(path).stream().to_chunks():
        entity = entities.setdefault(chunk.entity_path, Entity())
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            column = batch.column(name)
            if name == "stamp":
                entity.stamps_ns += [value.value for value in column]
            elif name == "frame":
                entity.frames += column.to_pylist()
            elif ":" in name:
                entity.columns.setdefault(name, []).extend(column.to_pylist())
    return entities


def arrays(entity: Entity, kind: str = "SegmentationImage") -> list[np.ndarray]:
    """The pictures of an entity, [H, W] each."""
    result = []
    for buffer, layout in zip(entity.columns[f"{kind}:buffer"], entity.columns[f"{kind}:format"], strict=True):
        ((pixels,), (size,)) = (buffer, layout)
        raw = np.array(pixels, np.uint8)
        dtype = np.uint8 if raw.size == size["width"] * size["height"] else np.uint16
        result.append(raw.view(dtype).reshape(size["height"], size["width"]))
    return result


def class_colours(entity: Entity) -> dict[int, tuple[str, tuple[int, int, int]]]:
    """Name and RGB of each class id of an annotation context."""
    ((classes,),) = entity.columns["AnnotationContext:context"]
    result = {}
    for entry in classes:
        info = entry["class_description"]["info"]
        rgba = info["color"]
        result[entry["class_id"]] = (info["label"], (rgba >> 24 & 255, rgba >> 16 & 255, rgba >> 8 & 255))
    return result
