"""Counts, rates and percentiles, on a clock that the test moves."""

from __future__ import annotations

import pytest

from seg_perception.ros.frame_statistics import Drop, FrameStatistics


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_rates_and_percentiles_of_a_steady_stream(clock):
    statistics = FrameStatistics(clock)
    for i in range(101):
        statistics.arrived()
        if i % 10 == 5:
            statistics.dropped(Drop.OVERTAKEN)
        statistics.published(float(i), 2.0 * i, {"decode": 1.0, "infer": float(i)})
        clock.now += 0.1
    clock.now -= 0.1
    summary = statistics.summary()
    assert summary.input_rate_hz == pytest.approx(10.0)
    assert summary.output_rate_hz == pytest.approx(10.0)
    assert summary.latency_ms == pytest.approx({"p50": 50.0, "p95": 95.0, "p99": 99.0})
    assert summary.ages_ms == pytest.approx({"p50": 100.0, "p95": 190.0, "p99": 198.0})
    assert summary.stages_ms["decode"] == {"p50": 1.0, "p95": 1.0, "p99": 1.0}
    assert summary.stages_ms["infer"] == pytest.approx({"p50": 50.0, "p95": 95.0, "p99": 99.0})
    assert (summary.received, summary.published, summary.drops[Drop.OVERTAKEN]) == (101, 101, 10)


def test_the_rate_of_a_dead_stream_falls_and_its_silence_grows(clock):
    statistics = FrameStatistics(clock)
    for _ in range(3):
        statistics.arrived()
        clock.now += 0.1
    clock.now += 9.9
    summary = statistics.summary()
    assert summary.silence_s == pytest.approx(10.0)
    assert summary.input_rate_hz == pytest.approx(0.1)


def test_silence_before_the_first_image_counts_from_the_start(clock):
    statistics = FrameStatistics(clock)
    clock.now += 3
    summary = statistics.summary()
    assert summary.silence_s == pytest.approx(3.0)
    assert summary.latency_ms == {}
    assert summary.ages_ms == {}


def test_errors_are_recent_only_once(clock):
    statistics = FrameStatistics(clock)
    statistics.failed("first")
    statistics.failed("second")
    first, second = statistics.summary(), statistics.summary()
    assert (first.errors_recently, first.last_error, first.failed) == (2, "second", 2)
    assert (second.errors_recently, second.failed) == (0, 2)


def test_drops_are_told_apart_by_their_reason(clock):
    statistics = FrameStatistics(clock)
    for count, reason in enumerate(Drop):
        for _ in range(count):
            statistics.dropped(reason)
    assert statistics.summary().drops == {reason: count for count, reason in enumerate(Drop)}


def test_the_time_that_a_camera_was_disabled_is_no_silence(clock):
    statistics = FrameStatistics(clock)
    for _ in range(3):
        statistics.arrived()
        clock.now += 0.1
    clock.now += 60
    statistics.resumed()
    clock.now += 0.5
    summary = statistics.summary()
    assert summary.silence_s == pytest.approx(0.5)
    assert (summary.received, summary.input_rate_hz) == (3, 0.0)
