from __future__ import annotations

import io

import pytest

from seg_perception import progress
from seg_perception.progress import Progress, spoken


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the job believes in; the test moves them."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then_with_the_time_left(clock: list[float]) -> None:
    log = io.StringIO()
    with Progress("scoring", 120, "frame", stream=log) as job:
        for _ in range(60):
            clock[0] += 0.5
            job.step()
    assert log.getvalue().splitlines() == [
        "scoring: 20 of 120 frames, 50 s left",
        "scoring: 40 of 120 frames, 40 s left",
        "scoring: 60 of 120 frames, 30 s left",
        "scoring: 60 of 120 frames took 30 s",
    ]


def test_a_terminal_gets_a_bar_that_ends_whole() -> None:
    terminal = Terminal()
    with Progress("scoring", 3, "frame", stream=terminal) as job:
        for _ in range(3):
            job.step("fine")
    assert "3/3" in terminal.getvalue()
    assert "fine" in terminal.getvalue()


def test_a_job_that_nobody_watches_is_silent(clock: list[float]) -> None:
    log = io.StringIO()
    with Progress("scoring", None, "frame", shown=False, stream=log) as job:
        clock[0] += 100
        job.step()
    assert log.getvalue() == ""


def test_without_a_total_the_count_is_told_alone(clock: list[float]) -> None:
    job = Progress("reading", None, "message", stream=io.StringIO())
    job.step()
    assert job.line("one bag") == "reading: 1 message (one bag)"


@pytest.mark.parametrize(("seconds", "text"), [(7.6, "8 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_spoken(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
