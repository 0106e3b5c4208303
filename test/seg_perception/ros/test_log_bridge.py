from __future__ import annotations

import logging

from seg_perception.ros.log_bridge import logged_by


class Heard:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def error(self, text: str) -> None:
        self.lines.append(("error", text))

    def warning(self, text: str) -> None:
        self.lines.append(("warning", text))

    def info(self, text: str) -> None:
        self.lines.append(("info", text))


def test_what_the_package_logs_reaches_the_node_while_it_runs() -> None:
    heard = Heard()
    logger = logging.getLogger("seg_perception.engines.select")
    with logged_by(heard):
        logger.info("engine auto: %s", "openvino")
        logger.warning("left out")
        logger.error("failed")
        logger.debug("chatter")
        logging.getLogger("another.package").error("not ours")
    logger.error("afterwards")
    assert heard.lines == [("info", "engine auto: openvino"), ("warning", "left out"), ("error", "failed")]
