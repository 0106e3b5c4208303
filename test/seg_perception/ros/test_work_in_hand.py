"""What a worker says of its work, and what becomes of one that was given up."""

from __future__ import annotations

import threading

import pytest

from seg_perception.ros.work_in_hand import DECODE, INFER, PUBLISH, GivenUpError, Work, WorkInHand


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_stage_and_time_of_the_frame_in_hand_are_seen():
    clock = Clock()
    hand = WorkInHand(clock)
    assert hand.present is None
    with hand.taken("camera front"):
        clock.now += 1.5
        assert hand.present == Work("camera front", DECODE, 1.5)
        hand.at(INFER)
        assert hand.present == Work("camera front", INFER, 1.5)
        assert hand.present.in_engine
        clock.now += 1
        hand.at(PUBLISH)
        assert str(hand.present) == "an image of camera front has been published for 2.5 s"
    assert hand.present is None
    assert hand.usual_s == 2.5


def test_the_usual_time_is_the_longest_of_the_last_frames():
    clock = Clock()
    hand = WorkInHand(clock)
    for seconds in (9.0, *[0.5] * 7):
        with hand.taken("camera"):
            clock.now += seconds
    assert hand.usual_s == 9.0
    with hand.taken("camera"):
        clock.now += 0.1
    assert hand.usual_s == 0.5


def test_a_thread_that_was_given_up_learns_it_wherever_it_looks_next():
    hand = WorkInHand()
    reached = []

    def work() -> None:
        try:
            with hand.taken("camera"):
                hand.at(INFER)
                begun.set()
                go_on.wait(10)
                hand.at(PUBLISH)
                reached.append("published")
        except GivenUpError:
            reached.append("ended")

    begun, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    left = hand.give_up()
    assert left is not None
    assert left.in_engine
    go_on.set()
    thread.join(10)
    assert reached == ["ended"]
    with pytest.raises(GivenUpError), hand.taken("camera"):
        pass
    assert hand.give_up() is None


def test_only_what_takes_too_long_is_given_up():
    clock = Clock()
    hand = WorkInHand(clock)
    assert hand.give_up_after(0.0) is None
    with hand.taken("camera"):
        clock.now += 2
        assert hand.give_up_after(2.0) is None
        hand.at(INFER)
        clock.now += 1
        assert hand.give_up_after(2.0) == Work("camera", INFER, 3.0)
        assert hand.given_up
