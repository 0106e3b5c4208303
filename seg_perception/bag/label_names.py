"""What the ids of a recording's labels mean: those of the model, or a robot's own classes made of them.

Labels that a node has published, as recorded or in a capture, may be of merged classes; the `label_info` beside them says so.
Compared by id with another numbering they would be scored, and silently wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.bag.reader import BagError, BagReader, MessageError
from seg_perception.classes import ClassMap, read_class_map
from seg_perception.model.model_file import UNLABELLED, ModelInfo
from seg_perception.segmenter import Segmentation

LABEL_INFO_TYPES = ("std_msgs/msg/String", "vision_msgs/msg/LabelInfo")


@dataclass(frozen=True)
class ScoredClasses:
    """In which classes a recording is scored.

    Attributes:
        info: the model, with the names and colours that its masks and the labels have after `predicted` and `truth`.
        own: the robot's classes; None for the model's own.
        truth_table: uint8 [256], from the recording's ids to those of `info`; None where they are the same.
    """

    info: ModelInfo
    own: ClassMap | None
    truth_table: np.ndarray | None

    def predicted(self, segmentation: Segmentation) -> Segmentation:
        """A result of the model in these classes."""
        if self.own is None:
            return segmentation
        return replace(segmentation, labels=self.own.apply(segmentation.labels, segmentation.confidence))

    def truth(self, labels: np.ndarray | None) -> np.ndarray | None:
        """Labels of the recording, uint8 [H, W], in these classes."""
        return labels if labels is None or self.truth_table is None else self.truth_table[labels]


def scored_classes(bag: BagReader, label_topic: str | None, info: ModelInfo, classes: Path | None) -> ScoredClasses:
    """The classes that the model's masks and the recording's labels have in common.

    Args:
        bag: the recording.
        label_topic: None for none.
        info: the model.
        classes: a classes file; its own classes are scored then. None: the model's.

    Raises:
        ClassMapError: the classes file does not do for the model.
        BagError: the recording says that its labels are of other classes.
    """
    own = None if classes is None else read_class_map(classes, info.class_names, info.palette)
    scored = info if own is None else replace(info, class_names=own.names, palette=own.palette)
    recorded = None if label_topic is None else recorded_names(bag, label_topic)
    if recorded is None or recorded == info.class_names:
        table = None if own is None else _truth_table(own, info.num_classes)
        return ScoredClasses(scored, own, table)
    if recorded != scored.class_names:
        wanted = "the model's classes are" if own is None else f"those of {classes} are"
        raise BagError(
            f"labels on {label_topic} are of the classes {_listed(recorded)} by the recorded {_beside(label_topic or '')}; "
            f"{wanted} {_listed(scored.class_names)}; give the file that merged them (--classes FILE), or true labels"
        )
    return ScoredClasses(scored, own, None)


def recorded_names(bag: BagReader, label_topic: str) -> tuple[str, ...] | None:
    """The classes of a label topic by the `label_info` that the same node published; None where there is none.

    Raises:
        BagError: it cannot be read, or says different things.
    """
    topic = bag.topics().get(_beside(label_topic))
    if topic is None or topic.type not in LABEL_INFO_TYPES:
        return None
    said: set[tuple[str, ...]] = set()
    for message in bag.messages([topic.name]):
        try:
            said.add(_names(bag.deserialize(message)))
        except (MessageError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BagError(f"{topic.name} of bag {bag.path} cannot be read: {' '.join(str(error).split())}") from error
    if len(said) > 1:
        raise BagError(f"{topic.name} of bag {bag.path} changes what the ids mean; expected labels of one set of classes")
    return said.pop() if said else None


def _names(message: Any) -> tuple[str, ...]:
    """Of vision_msgs/LabelInfo, or of the same as JSON in std_msgs/String; in the order of their ids."""
    try:
        entries = [(int(entry["class_id"]), str(entry["class_name"])) for entry in json.loads(message.data)["class_map"]]
    except AttributeError:
        entries = [(int(entry.class_id), str(entry.class_name)) for entry in message.class_map]
    return tuple(name for _, name in sorted(entries))


def _beside(label_topic: str) -> str:
    return f"{label_topic.rpartition('/')[0]}/label_info"


def _truth_table(own: ClassMap, num_classes: int) -> np.ndarray:
    """Ids that are no class of the model stay as they are, for the count to find."""
    table = own.table.copy()
    table[num_classes:UNLABELLED] = np.arange(num_classes, UNLABELLED, dtype=np.uint8)
    return table


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown
