"""Saying how long something takes."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="needs rclpy: source a ROS 2 installation, or pip install 'seg_perception[ros]'")

from seg_perception.ros.background import telling_how_long
from test.seg_perception.waiting import wait_until

SOON_S = 30.0


def test_what_takes_long_is_told_again_and_again_and_no_more_once_it_is_done():
    lines: list[str] = []
    with telling_how_long(lines.append, "opening the engine", every_s=0.01):
        wait_until(lambda: len(lines) > 2, SOON_S, "three lines")
    time.sleep(0.1)
    count = len(lines)
    time.sleep(0.1)
    assert len(lines) == count
    assert lines[0] == "opening the engine has taken 0 s, and goes on"


def test_what_does_not_take_long_is_no_matter_and_errors_pass():
    lines: list[str] = []
    with pytest.raises(ValueError, match="it"), telling_how_long(lines.append, "x", every_s=60.0):
        raise ValueError("it")
    assert lines == []
