"""What the class ids mean, as a message: vision_msgs/LabelInfo, or the same as JSON where vision_msgs is missing."""

from __future__ import annotations

import importlib.util
from typing import Any

from std_msgs.msg import String

from seg_perception.classes import ClassMap
from seg_perception.labels import label_info_json


def label_info_message(model: str, classes: ClassMap, stamp: Any) -> Any:
    """The message for what the labels are made of.

    Args:
        model: its name.
        classes: the robot's, made of the model's.
        stamp: builtin_interfaces/Time of the header.

    Returns:
        vision_msgs/LabelInfo where that package is installed, else std_msgs/String with JSON.
    """
    if importlib.util.find_spec("vision_msgs") is None:
        return String(data=label_info_json(model, classes.names, classes.palette))
    from vision_msgs.msg import LabelInfo, VisionClass

    message = LabelInfo()
    message.header.stamp = stamp
    message.class_map = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(classes.names)]
    return message
