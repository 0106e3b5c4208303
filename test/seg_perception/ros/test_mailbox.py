"""The latest-frame hand-over of several cameras."""

from __future__ import annotations

import threading
from collections import Counter

from seg_perception.ros.mailbox import Mailbox


def test_the_newest_item_replaces_one_that_waits():
    mailbox: Mailbox[str, int] = Mailbox()
    assert [mailbox.put("front", i) for i in range(4)] == [False, True, True, True]
    assert mailbox.take() == [("front", 3)]
    assert mailbox.put("front", 4) is False
    assert mailbox.take(timeout_s=0.0) == [("front", 4)]


def test_the_sender_that_has_waited_longest_is_served_with_its_newest_item():
    mailbox: Mailbox[str, int] = Mailbox()
    for sender, item in (("rear", 1), ("front", 2), ("front", 3), ("rear", 4), ("left", 5)):
        mailbox.put(sender, item)
    assert mailbox.take() == [("rear", 4)]
    mailbox.put("rear", 6)  # now the last in the queue
    assert [mailbox.take()[0] for _ in range(3)] == [("front", 3), ("left", 5), ("rear", 6)]


def test_under_overload_a_fast_sender_gets_no_more_than_a_slow_one():
    mailbox: Mailbox[str, int] = Mailbox()
    served: Counter[str] = Counter()
    for step in range(3000):
        mailbox.put("fast", step)
        if step % 5 == 0:
            mailbox.put("slow", step)
        if step % 10 == 9:  # half as often as the slow one asks
            served[mailbox.take()[0][0]] += 1
    assert abs(served["fast"] - served["slow"]) <= 1


def test_several_senders_are_taken_together_but_never_one_twice():
    mailbox: Mailbox[str, int] = Mailbox()
    for item, sender in enumerate(("a", "b", "c", "b")):
        mailbox.put(sender, item)
    assert mailbox.take(most=2) == [("a", 0), ("b", 3)]
    assert mailbox.take(most=2) == [("c", 2)]


def test_what_a_sender_withdraws_is_never_taken():
    mailbox: Mailbox[str, int] = Mailbox()
    mailbox.put("front", 1)
    mailbox.put("rear", 2)
    assert mailbox.withdraw("front") is True
    assert mailbox.withdraw("front") is False
    assert mailbox.take() == [("rear", 2)]


def test_taking_from_an_empty_mailbox_waits_no_longer_than_told():
    assert Mailbox().take(timeout_s=0.01) == []


def test_closing_wakes_the_taker_and_gives_up_the_item():
    mailbox: Mailbox[str, int] = Mailbox()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.close()
    thread.join(timeout=5)
    assert taken == [[]]
    assert mailbox.closed
    assert mailbox.put("front", 1) is False
    assert mailbox.take() == []


def test_every_item_is_either_taken_or_replaced_and_order_is_kept():
    mailbox: Mailbox[str, int] = Mailbox()
    taken: dict[str, list[int]] = {"front": [], "rear": []}

    def take_all() -> None:
        while items := mailbox.take():
            for sender, item in items:
                taken[sender].append(item)
            if all(items and items[-1] == 3000 for items in taken.values()):
                return

    thread = threading.Thread(target=take_all)
    thread.start()
    replaced = Counter(sender for i in range(1, 3001) for sender in taken if mailbox.put(sender, i))
    thread.join(timeout=30)
    for sender, items in taken.items():
        assert items == sorted(items)
        assert items[-1] == 3000
        assert len(items) + replaced[sender] == 3000


def test_what_is_put_back_is_taken_first_unless_something_newer_came():
    mailbox: Mailbox[str, int] = Mailbox()
    mailbox.put("rear", 1)
    assert mailbox.put_back("front", 2)
    assert not mailbox.put_back("rear", 0)
    assert mailbox.take(most=2) == [("front", 2), ("rear", 1)]
    mailbox.close()
    assert not mailbox.put_back("front", 3)
