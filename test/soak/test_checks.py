"""The soak's checks find what they are for: each kind of wrong mask, among right ones."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.cdr import Header
from test.soak.checks import REMEMBERED_S, MaskChecks, Sent

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def checks(told: list[str]) -> MaskChecks:
    """Of a camera that has sent five images, one a second."""
    checks = MaskChecks("front", 0.9, told.append)
    for number in range(1, 6):
        checks.sent(header(number), Sent(1, number, float(number), (3, 4), LABELS))
    return checks


def header(number: int) -> Header:
    return Header(100, number, b"front")


def test_masks_of_images_each_once_and_in_order_are_right(checks, told):
    for number in (1, 2, 4, 5):  # one was overtaken
        checks.arrived(header(number), LABELS, number + 0.25)
    assert not checks.violations
    assert told == []
    assert list(checks.arrived_s) == [1.25, 2.25, 4.25, 5.25]
    assert list(checks.ages_s) == [0.25] * 4
    assert checks.lowest_agreement == 1.0


@pytest.mark.parametrize(
    "wrong", [Header(100, 9, b"front"), Header(101, 2, b"front"), Header(100, 2, b"rear"), Header(100, 2, b"front\0")]
)
def test_a_header_of_no_image_is_found(checks, told, wrong):
    checks.arrived(header(1), LABELS, 1.1)
    checks.arrived(wrong, LABELS, 2.1)
    assert dict(checks.violations) == {"of no image": 1}
    assert "front: a mask of no image" in told[0]


def test_a_second_mask_of_an_image_is_found(checks, told):
    checks.arrived(header(2), LABELS, 2.1)
    checks.arrived(header(2), LABELS, 2.2)
    assert dict(checks.violations) == {"twice": 1}
    assert "a second mask of image 2" in told[0]
    assert len(checks.arrived_s) == 1


def test_a_mask_that_comes_after_that_of_a_later_image_is_found(checks):
    for number in (1, 3, 2, 4):
        checks.arrived(header(number), LABELS, 6.0)
    assert dict(checks.violations) == {"out of order": 1}


def test_between_two_publishers_there_is_no_order(checks):
    checks.sent(Header(50, 0, b"front"), Sent(2, 1, 6.0, (3, 4)))
    checks.arrived(header(5), LABELS, 7.0)
    checks.arrived(Header(50, 0, b"front"), LABELS, 7.0)
    checks.arrived(header(4), LABELS, 7.0)
    assert dict(checks.violations) == {"out of order": 1}  # the last alone, within its own publisher


def test_a_mask_of_another_size_or_picture_is_found(checks):
    checks.arrived(header(1), LABELS[:2], 1.1)
    other = LABELS.copy()
    other[0] += 1  # a third of it
    checks.arrived(header(2), other, 2.1)
    assert dict(checks.violations) == {"of another size": 1, "of another picture": 1}
    assert checks.lowest_agreement == pytest.approx(8 / 12)


def test_a_mask_of_an_image_that_cannot_have_one_is_found(checks):
    checks.sent(header(6), Sent(1, 6, 6.0, (3, 4), LABELS, usable=False))
    checks.arrived(header(6), LABELS, 6.1)
    assert dict(checks.violations) == {"of a broken image": 1}


def test_images_are_forgotten_after_a_while_and_their_masks_are_of_none(checks):
    checks.sent(header(7), Sent(1, 7, 1.5 + REMEMBERED_S, (3, 4), LABELS))
    checks.arrived(header(2), LABELS, 62.0)
    checks.arrived(header(1), LABELS, 62.0)
    assert checks.violations["of no image"] == 1
    assert checks.violations["out of order"] == 0


def test_two_images_with_one_header_are_a_mistake_of_the_test_itself(checks):
    with pytest.raises(AssertionError, match="two images have the header"):
        checks.sent(header(3), Sent(1, 9, 9.0, (3, 4)))


def test_recovery_is_the_first_mask_of_an_image_sent_since(checks):
    checks.ask_after(2.5)
    checks.arrived(header(2), LABELS, 2.7)  # sent before
    assert checks.recovered_s() is None
    checks.arrived(header(3), LABELS, 3.2)
    checks.arrived(header(4), LABELS, 4.2)
    assert checks.recovered_s() == 3.2


def test_the_longest_gap_counts_from_both_ends(checks):
    assert checks.longest_gap_s(2.0, 9.0) == 7.0
    for number in (1, 2, 3):
        checks.arrived(header(number), LABELS, float(number))
    assert checks.longest_gap_s(0.5, 3.5) == 1.0
    assert checks.longest_gap_s(0.5, 9.0) == 6.0
    assert checks.longest_gap_s(-4.0, 3.0) == 5.0
