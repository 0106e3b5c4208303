"""Masks and depths paired by their stamps."""

from __future__ import annotations

from seg_perception.stamp_pairing import KEPT, StampPairing

GAP_S = 0.05


def ms(number: float) -> int:
    return round(number * 1e6)


def pairing(masks: list[float] = (), depths: list[float] = ()) -> StampPairing[float, float]:
    pairs: StampPairing[float, float] = StampPairing()
    for stamp in masks:
        pairs.add_first(ms(stamp), stamp)
    for stamp in depths:
        pairs.add_second(ms(stamp), stamp)
    return pairs


def test_the_nearest_stamp_wins() -> None:
    assert pairing([100], [60, 95, 128]).take(GAP_S) == (100, 95)
    assert pairing([100], [60, 85, 110]).take(GAP_S) == (100, 110)


def test_nothing_is_paired_while_a_nearer_one_may_still_come() -> None:
    pairs = pairing([100], [70])
    assert pairs.take(GAP_S) is None
    pairs.add_second(ms(103), 103)
    assert pairs.take(GAP_S) == (100, 103)


def test_nearly_equal_stamps_do_not_wait() -> None:
    assert pairing([100], [96]).take(GAP_S) == (100, 96)
    assert pairing([100], [100]).take(0.0) == (100, 100)


def test_what_is_too_far_apart_makes_no_pair() -> None:
    assert pairing([100], [40, 160]).take(GAP_S) is None
    assert pairing([100]).take(GAP_S) is None


def test_each_is_used_once_and_older_ones_are_let_go() -> None:
    pairs = pairing([100, 133, 166], [100, 133, 166])
    assert pairs.take(GAP_S) == (166, 166)
    assert pairs.take(GAP_S) is None
    pairs.add_first(ms(199), 199)
    assert pairs.take(GAP_S) is None
    pairs.add_second(ms(200), 200)
    assert pairs.take(GAP_S) == (199, 200)


def test_masks_without_a_depth_of_their_own_leave_room_for_those_that_have_one() -> None:
    assert pairing([100, 300], [101]).take(GAP_S) == (100, 101)


def test_a_recording_that_begins_anew_is_paired_at_once() -> None:
    pairs = pairing([5000], [5040])
    pairs.add_first(ms(100), 100)
    pairs.add_second(ms(101), 101)
    assert pairs.take(GAP_S) == (100, 101)


def test_no_more_than_a_few_wait() -> None:
    pairs = pairing(list(range(0, 10_000, 100)))
    pairs.add_second(ms(100 * (99 - KEPT)), 0)
    assert pairs.take(GAP_S) is None
