"""Levels and content of the diagnostic status."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("diagnostic_msgs", reason="diagnostic_msgs (ROS 2) is not installed")

from diagnostic_msgs.msg import DiagnosticStatus

from seg_perception.ros.diagnostics import NodeState, diagnostic_status
from seg_perception.ros.frame_statistics import Drop, FrameStatistics, Summary

STATE = NodeState("active", "", "/camera/image_raw", "rooms", "openvino", stale_after_s=2.0, late_after_ms=100.0)


def summary(**changes) -> Summary:
    """A healthy stream with some values changed."""
    healthy = dataclasses.replace(
        FrameStatistics().summary(),
        received=10,
        published=9,
        drops={drop: int(drop is Drop.OVERTAKEN) for drop in Drop},
        output_rate_hz=10.0,
        latency_ms={"p50": 20.0, "p95": 40.0, "p99": 60.0},
        stages_ms={"infer": {"p50": 12.0, "p95": 15.0, "p99": 19.0}},
        ages_ms={"p50": 30.0, "p95": 50.0, "p99": 70.0},
        silence_s=0.1,
    )
    return dataclasses.replace(healthy, **changes)


@pytest.mark.parametrize(
    ("state", "changes", "level", "message"),
    [
        ({}, {}, DiagnosticStatus.OK, "active"),
        ({"enabled": False}, {"silence_s": 2.5}, DiagnosticStatus.OK, "active; the camera is disabled"),
        ({}, {"silence_s": 2.5}, DiagnosticStatus.STALE, "no image on /camera/image_raw for 2.5 s"),
        ({}, {"latency_ms": {"p95": 150.0}}, DiagnosticStatus.WARN, "latency p95 is 150 ms, above 100 ms"),
        (
            {},
            {"errors_recently": 3, "last_error": "encoding 'x' is not supported"},
            DiagnosticStatus.ERROR,
            "3 images failed: encoding 'x' is not supported",
        ),
        ({"problem": "no model"}, {}, DiagnosticStatus.ERROR, "no model"),
        ({"warnings": ("", "tensorrt failed: no memory")}, {}, DiagnosticStatus.WARN, "tensorrt failed: no memory"),
        (
            {"warnings": ("3 images with stamp 0", "", "the lens")},
            {"latency_ms": {"p95": 150.0}},
            DiagnosticStatus.WARN,
            "latency p95 is 150 ms, above 100 ms; 3 images with stamp 0; the lens",
        ),
        ({"trouble": "no masks: it hangs"}, {"errors_recently": 3}, DiagnosticStatus.ERROR, "no masks: it hangs"),
        (
            {"why_silent": "nothing publishes there"},
            {"silence_s": 2.5},
            DiagnosticStatus.STALE,
            "no image on /camera/image_raw for 2.5 s: nothing publishes there",
        ),
        ({"busy": "building the TensorRT engine: 40 %"}, {}, DiagnosticStatus.OK, "building the TensorRT engine: 40 %"),
        (
            {},
            {"drops": dict.fromkeys(Drop, 5), "output_rate_hz": 0.0},
            DiagnosticStatus.OK,
            "active; nobody subscribes to an output",
        ),
    ],
)
def test_levels(state, changes, level, message):
    status = diagnostic_status("/segmentation", dataclasses.replace(STATE, **state), summary(**changes))
    assert (status.level, status.message) == (level, message)


def test_values_carry_counts_and_latencies():
    values = {v.key: v.value for v in diagnostic_status("/segmentation", STATE, summary()).values}
    assert values["dropped"] == "1"
    assert values["latency_p95_ms"] == "40.0"
    assert (values["age_ms"], values["age_p95_ms"], values["age_p99_ms"]) == ("30.0", "50.0", "70.0")
    assert (values["stage_infer_ms"], values["stage_infer_p95_ms"]) == ("12.0", "15.0")
    assert values["stage_infer_p99_ms"] == "19.0"
    assert values["engine"] == "openvino"


def test_an_inactive_node_is_not_an_error():
    status = diagnostic_status("/s", dataclasses.replace(STATE, lifecycle="inactive"), None)
    assert (status.level, status.message) == (DiagnosticStatus.OK, "inactive")


def test_what_the_machine_tells_is_among_the_values():
    state = dataclasses.replace(STATE, health={"temperature_cpu_c": "51.0"})
    assert {v.key: v.value for v in diagnostic_status("/s", state, None).values}["temperature_cpu_c"] == "51.0"
