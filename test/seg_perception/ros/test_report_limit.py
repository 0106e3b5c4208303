"""Errors in the log: each kind once in a while."""

from __future__ import annotations

from seg_perception.ros.report_limit import MOST_KINDS, REPORT_INTERVAL_S, ReportLimit


class Log:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.limit = ReportLimit(self.lines.append, lambda: self.now)


def test_the_same_error_is_logged_once_an_interval_with_what_was_left_out():
    log = Log()
    for _ in range(5):
        log.limit.report("cut short")
    log.now += REPORT_INTERVAL_S
    log.limit.report("cut short")
    assert log.lines == ["cut short", "cut short (4 more like it)"]


def test_errors_that_differ_in_numbers_and_bytes_are_the_same():
    log = Log()
    for size in range(100):
        log.limit.report(f"expected 2304 bytes, got {size}; it starts with ff {size:02x} 00")
    log.limit.report("another kind")
    assert len(log.lines) == 2


def test_errors_that_differ_each_time_do_not_fill_the_memory():
    log = Log()
    for number in range(20 * MOST_KINDS):
        log.limit.report("".join(chr(97 + int(digit)) for digit in str(number)))
    assert len(log.limit._reported) <= MOST_KINDS + 1
