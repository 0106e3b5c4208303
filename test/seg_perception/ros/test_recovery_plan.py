"""Which engine follows one that hangs or fails."""

from __future__ import annotations

import pytest

from seg_perception.ros.recovery_plan import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, REMEMBER_S, RecoveryPlan


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plan(clock: Clock, asked: str = "auto", serving: str = "tensorrt", installed: str = "onnxruntime openvino"):
    return RecoveryPlan(asked, serving, lambda package: package in installed.split(), clock)


def test_the_same_engine_gets_a_second_chance_and_then_the_next_one_serves():
    clock = Clock()
    recovery = plan(clock)
    assert [recovery.next_engine("hung twice") for _ in range(6)] == [
        *("auto", "onnxruntime"),  # which is tensorrt; then the first that needs no GPU
        *("onnxruntime", "openvino"),
        *("openvino", "auto"),
    ]


def test_who_serves_instead_of_whom_is_told_until_the_first_one_serves_again():
    clock = Clock()
    recovery = plan(clock, installed="openvino")
    assert recovery.problem == ""
    recovery.next_engine("hung twice")
    assert recovery.problem == ""
    recovery.next_engine("hung twice")
    assert recovery.problem == "tensorrt hung twice; openvino serves instead, until the next configure"
    for _ in range(2):
        recovery.next_engine("failed")
    assert recovery.problem == ""


def test_troubles_that_lie_far_apart_replace_nothing():
    clock = Clock()
    recovery = plan(clock)
    for _ in range(5):
        assert recovery.next_engine("hung twice") == "auto"
        clock.now += REMEMBER_S


@pytest.mark.parametrize(("installed", "serving"), [("", "openvino"), ("openvino", "openvino")])
def test_an_engine_without_another_one_is_started_again_and_again(installed, serving):
    recovery = plan(Clock(), "openvino", serving, installed)
    assert {recovery.next_engine("hung twice") for _ in range(5)} == {"openvino"}
    assert recovery.problem == ""


def test_failures_start_it_anew_after_pauses_that_grow():
    clock = Clock()
    recovery = plan(clock)
    assert not recovery.fails_too_often(FAILURES - 1)
    assert recovery.fails_too_often(FAILURES)
    pauses = []
    for _ in range(10):
        recovery.next_engine("failed")
        began = clock.now
        while not recovery.fails_too_often(FAILURES):
            clock.now += FIRST_PAUSE_S
        pauses.append(clock.now - began)
    assert pauses[:3] == [2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
