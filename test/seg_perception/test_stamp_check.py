"""Stamps that are none, come from the future, or go back."""

from __future__ import annotations

import pytest

from seg_perception.stamp_check import FUTURE_NS, StampCheck, StampProblems

S = 1_000_000_000


@pytest.mark.parametrize(
    ("stamps_and_clock", "expected"),
    [
        ([(10 * S, 10 * S), (11 * S, 11 * S)], StampProblems()),
        ([(0, 10 * S), (0, 11 * S), (11 * S, 12 * S)], StampProblems(zero=2)),
        ([(10 * S + FUTURE_NS, 10 * S), (15 * S, 11 * S)], StampProblems(future=1, ahead_s=4.0)),
        ([(10 * S, 0), (11 * S, 0)], StampProblems()),  # simulated time that has not begun
        ([(10 * S, 99 * S), (9 * S, 99 * S), (9 * S, 99 * S), (10 * S, 99 * S)], StampProblems(backwards=1)),
        ([(-5 * S, S), (-4 * S, S)], StampProblems()),  # before 1970, but in order
        ([(-5 * S, S), (-6 * S, S)], StampProblems(backwards=1)),
        ([(10 * S, 99 * S), (0, 99 * S), (11 * S, 99 * S)], StampProblems(zero=1)),  # none is not "before"
    ],
)
def test_problems_are_counted_by_kind(stamps_and_clock, expected):
    check = StampCheck()
    for stamp_ns, now_ns in stamps_and_clock:
        check.add(stamp_ns, now_ns)
    assert check.problems == expected
    assert bool(check.problems.line) == (expected != StampProblems())


def test_what_is_new_can_be_told_from_what_is_known():
    check = StampCheck()
    check.add(0, S)
    before = check.problems
    assert check.problems.since(before).line == ""
    check.add(0, S)
    check.add(9 * S, S)
    assert check.problems.since(before) == StampProblems(zero=1, future=1, ahead_s=8.0)
    assert "1 images with stamp 0" in check.problems.since(before).line
