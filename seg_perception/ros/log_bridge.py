"""What the parts without ROS log, such as which engine was chosen or why one is built again, in the node's own log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PACKAGE = "seg_perception"


class RosLogHandler(logging.Handler):
    """Hands Python's log records to a logger of rclpy.

    Args:
        logger: of a node.
    """

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        # One line of code for each level: rclpy remembers the level of every place that logs, and refuses another there.
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


@contextmanager
def logged_by(logger: Any) -> Iterator[None]:
    """While this lasts, `logger` writes what this package logs from INFO on."""
    package = logging.getLogger(PACKAGE)
    handler, level = RosLogHandler(logger), package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
