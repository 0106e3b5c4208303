"""A leak is found, and what only looks like one is not."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from test.seg_perception.waiting import wait_until
from test.soak.memory import BLOCKS, MemorySampler, slope

MINUTES = np.linspace(0.0, 60.0, 3600)


def noise(size: int, seed: int = 0) -> np.ndarray:
    """Megabytes that wander and come back, as an allocator's do: neighbours are alike."""
    rng = np.random.default_rng(seed)
    values = np.zeros(size)
    for i, step in enumerate(rng.normal(0.0, 0.3, size - 1), start=1):
        values[i] = 0.99 * values[i - 1] + step
    return values


def test_a_leak_is_found_and_its_slope_lies_within_the_interval():
    found = slope(MINUTES, 300.0 + 0.5 * MINUTES + noise(3600))
    assert found.grows
    assert found.low < 0.5 < found.high
    assert found.minutes == pytest.approx(45.0, abs=0.1)


def test_memory_that_wanders_does_not_grow():
    for seed in range(20):
        found = slope(MINUTES, 300.0 + noise(3600, seed))
        assert not found.grows, seed
        assert found.low < found.per_minute < found.high


def test_what_is_taken_at_the_start_is_no_leak():
    memory = 300.0 + 200.0 * np.minimum(MINUTES / 10, 1.0) + noise(3600)
    assert not slope(MINUTES, memory).grows


@pytest.mark.parametrize(("stays_minutes", "least"), [(0.0, 0.90), (2.0, 0.85), (5.0, 0.80)])
def test_the_interval_holds_the_true_slope_about_as_often_as_it_says(stays_minutes: float, least: float):
    """Levels that are taken at random and stay for a time, as what faults leave behind does; 95 % asked for.

    The correction knows the correlation only from 20 residuals, so that long stays cost some of it.
    """
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        noise = rng.normal(0.0, 20.0, 3600)
        if stays_minutes:
            changes = rng.random(3600) < 1 / (60 * stays_minutes)
            noise = noise[np.maximum.accumulate(np.where(changes, np.arange(3600), 0))]
        found = slope(MINUTES, 0.1 * MINUTES + noise)
        held += found.low <= 0.1 <= found.high
    assert held / 200 >= least


def test_a_certain_slope_that_adds_up_to_little_is_no_leak():
    found = slope(MINUTES, 300.0 + 0.01 * MINUTES)
    assert found.low == pytest.approx(0.01)
    assert not found.grows  # half a megabyte


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="samples of memory after the start, expected 40"):
        slope(MINUTES[:BLOCKS], MINUTES[:BLOCKS])


def test_a_process_that_leaks_is_seen_to_leak():
    leak = "import time\nkept = []\nwhile True:\n    kept.append(b'x' * 20_000)\n    time.sleep(0.001)"
    process = subprocess.Popen([sys.executable, "-c", leak])
    try:
        sampler = MemorySampler(process.pid, 0.02)

        def has_leaked() -> bool:
            samples = sampler.figures
            return len(samples) >= 100 and samples[-1].memory_mb > samples[0].memory_mb + 50

        wait_until(has_leaked, 120.0, "50 MB")
        sampler.close()
    finally:
        process.kill()
        process.wait()
    found = sampler.slope()
    assert found.grows
    assert found.low * found.minutes > 20  # of the last three quarters


def test_sampling_ends_with_the_process():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    sampler = MemorySampler(process.pid, 0.01)
    sampler._thread.join(timeout=10)
    assert not sampler._thread.is_alive()
    sampler.close()
    assert sampler.figures == []
