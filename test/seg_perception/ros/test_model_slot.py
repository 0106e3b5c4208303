"""A model takes another's place between two frames, whatever the frames do meanwhile."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from seg_perception.ros.model_slot import ModelSlot, SlotClosedError
from seg_perception.segmenter import Segmenter
from test.seg_perception.tiny_model import write_tiny_model
from test.seg_perception.waiting import wait_until


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Segmenter, Segmenter]:
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")
    return Segmenter(path, "onnxruntime"), Segmenter(path, "onnxruntime")


def nothing() -> None:
    """Nothing to do between the frames."""


def test_without_a_frame_in_hand_it_is_replaced_at_once(models):
    slot = ModelSlot(models[0])
    assert slot.replace(models[1], nothing) is models[0]
    assert slot.segmenter is models[1]


def test_a_frame_in_hand_keeps_its_model_and_the_change_waits_for_its_end(models):
    slot, order = ModelSlot(models[0]), []
    with slot.serving() as segmenter:
        thread = threading.Thread(target=lambda: slot.replace(models[1], lambda: order.append("between")))
        thread.start()
        time.sleep(0.12)  # several looks of the waiting thread
        assert segmenter is slot.segmenter is models[0]
        order.append("frame")
    thread.join(timeout=10)
    assert order == ["frame", "between"]
    assert slot.segmenter is models[1]


def test_frames_that_follow_without_a_pause_do_not_hold_it_up(models):
    slot, stop, seen = ModelSlot(models[0]), threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            with slot.serving() as segmenter:
                seen.append(models.index(segmenter))
                time.sleep(0.002)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for index in (1, 0, 1):
            enough = len(seen) + 5
            wait_until(lambda n=enough: len(seen) > n, 10, "frames")
            slot.replace(models[index], nothing)
            assert slot.segmenter is models[index]
    finally:
        stop.set()
        worker.join(timeout=10)
    changes = [(a, b) for a, b in pairwise(seen) if a != b]
    assert changes[:2] == [(0, 1), (1, 0)]  # once changed, it stays changed
    assert len(changes) <= 3


def test_what_goes_wrong_between_the_frames_leaves_the_model_in_place(models):
    def fail() -> None:
        raise RuntimeError("no such publisher")

    slot = ModelSlot(models[0])
    with pytest.raises(RuntimeError, match="no such publisher"):
        slot.replace(models[1], fail)
    assert slot.segmenter is models[0]
    with slot.serving() as segmenter:
        assert segmenter is models[0]


def test_a_model_that_waits_for_the_frame_in_hand_is_overtaken_by_the_next_one(models):
    slot, outcomes = ModelSlot(models[0]), {}

    def replace(name: str, model: Segmenter) -> None:
        try:
            outcomes[name] = slot.replace(model, nothing)
        except SlotClosedError as error:
            outcomes[name] = error

    first = threading.Thread(target=replace, args=("first", Segmenter(models[1].info.path)), daemon=True)
    second = threading.Thread(target=replace, args=("second", models[1]), daemon=True)
    with slot.serving():
        first.start()
        wait_until(lambda: slot._change is not None, 10, "the first one to wait")
        second.start()
        wait_until(lambda: "first" in outcomes, 10, "its refusal")
    for thread in (first, second):
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert isinstance(outcomes["first"], SlotClosedError)
    assert outcomes["second"] is models[0]
    assert slot.segmenter is models[1]


def test_a_slot_that_was_closed_lets_nothing_in_even_with_a_frame_that_hangs(models):
    slot, errors = ModelSlot(models[0]), []

    def replace() -> None:
        try:
            slot.replace(models[1], nothing)
        except SlotClosedError as error:
            errors.append(error)

    with slot.serving():
        thread = threading.Thread(target=replace)
        thread.start()
        assert slot.close() is models[0]
        wait_until(lambda: errors, 10, "the refusal")
    thread.join(timeout=10)
    with pytest.raises(SlotClosedError):
        slot.replace(models[1], nothing)
    assert slot.segmenter is models[0]
