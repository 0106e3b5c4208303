"""The latest-frame hand-over."""

from __future__ import annotations

import threading

from seg_perception.ros.mailbox import Mailbox


def test_the_newest_item_replaces_one_that_waits():
    mailbox: Mailbox[int] = Mailbox()
    assert [mailbox.put(i) for i in range(4)] == [False, True, True, True]
    assert mailbox.take() == 3
    assert mailbox.replaced == 3
    assert mailbox.put(4) is False
    assert mailbox.take(0.0) == 4


def test_taking_from_an_empty_mailbox_waits_no_longer_than_told():
    assert Mailbox().take(timeout_s=0.01) is None


def test_closing_wakes_the_taker_and_gives_up_the_item():
    mailbox: Mailbox[int] = Mailbox()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.close()
    thread.join(timeout=5)
    assert taken == [None]
    assert mailbox.closed
    assert mailbox.put(1) is False
    assert mailbox.take() is None


def test_every_item_is_either_taken_or_counted_as_replaced():
    mailbox: Mailbox[int] = Mailbox()
    taken = []

    def take_all() -> None:
        while (item := mailbox.take()) is not None:
            taken.append(item)
            if item == 5000:
                return

    thread = threading.Thread(target=take_all)
    thread.start()
    for i in range(1, 5001):
        mailbox.put(i)
    thread.join(timeout=10)
    assert taken == sorted(taken)
    assert taken[-1] == 5000
    assert len(taken) + mailbox.replaced == 5000
