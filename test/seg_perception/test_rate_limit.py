"""Which images pass a rate limit."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.rate_limit import RateLimit


def passed(arrivals_s: np.ndarray, rate_hz: float) -> np.ndarray:
    """The arrival times of those that pass."""
    limit = RateLimit()
    return np.array([t for t in arrivals_s if limit.admits(float(t), rate_hz)])


def test_without_a_limit_all_pass():
    times = np.arange(100) / 30
    assert len(passed(times, 0.0)) == 100


@pytest.mark.parametrize("rate_hz", [1.0, 7.5, 10.0, 15.0, 20.0, 29.0])
def test_as_many_pass_as_are_allowed_and_evenly(rate_hz: float):
    times = 5.0 + np.arange(3000) / 30
    through = passed(times, rate_hz)
    assert len(through) == pytest.approx(100 * rate_hz, abs=1.5)
    # the interval of the schedule, to the next image of the camera, or up to a tenth early
    assert np.abs(np.diff(through) - 1 / rate_hz).max() <= max(1 / 30, 0.1 / rate_hz) + 1e-9


def test_jitter_costs_no_image_of_a_camera_that_keeps_the_rate():
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, 1000)
    times = np.arange(1000) / 10 + jitter
    assert len(passed(times, 10.0)) == 1000


def test_a_camera_of_a_lower_rate_passes_whole_and_a_pause_is_not_made_up_for():
    assert len(passed(np.arange(50) / 5, 10.0)) == 50
    after_pause = np.concatenate([[0.0], 100 + np.arange(30) / 30])
    assert len(passed(after_pause, 10.0)) == 11


def test_a_new_rate_holds_at_once():
    limit = RateLimit()
    assert limit.admits(0.0, 0.1)
    assert not limit.admits(1.0, 0.1)
    assert limit.admits(1.1, 20.0)
    assert limit.admits(1.11, 0.0)
