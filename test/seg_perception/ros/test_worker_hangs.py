"""The worker's thread with cameras that hang, without ROS: who loses a frame, and who does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_perception.ros.frame_pipeline import Frame
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.model_slot import ModelSlot
from seg_perception.ros.work_in_hand import DECODE, WorkInHand
from seg_perception.ros.worker import CameraMailbox, Worker
from seg_perception.segmenter import Segmenter
from test.seg_perception.tiny_model import write_tiny_model
from test.seg_perception.waiting import wait_until

SOON_S = 30.0


class Source:
    """A camera whose frames take until they are let go; None comes of them, as where nobody listens."""

    def __init__(self, label: str, hangs: bool = False) -> None:
        self.label = label
        self.go_on = threading.Event()
        if not hangs:
            self.go_on.set()
        self.prepared: list[bytes] = []
        self.errors: list[str] = []
        self.overtaken_count = 0
        self.hung: Callable[[], str] = lambda: ""

    def prepare(self, frame: Frame, segmenter: Segmenter, hand: WorkInHand) -> None:
        self.prepared.append(frame.serialized)
        assert self.go_on.wait(SOON_S)

    def failed(self, error: str) -> None:
        self.errors.append(error)

    def given_up(self, error: str, hung: Callable[[], str]) -> None:
        self.errors.append(error)
        self.hung = hung

    def overtaken(self) -> None:
        self.overtaken_count += 1


class Batched(Segmenter):
    """One that takes two frames at once."""

    best_batch = 2  # type: ignore[assignment]


@pytest.fixture
def slot(tmp_path: Path) -> ModelSlot:
    return ModelSlot(Batched(write_tiny_model(tmp_path / "m.onnx"), "onnxruntime"))


def frame(content: bytes) -> Frame:
    return Frame(content, 0.0)


@pytest.mark.parametrize("newer", [False, True])
def test_a_frame_that_was_taken_beside_one_that_hangs_is_done_by_the_next_worker(slot: ModelSlot, newer: bool) -> None:
    mailbox: CameraMailbox = Mailbox()
    bad, good = Source("bad", hangs=True), Source("good")
    mailbox.put(bad, frame(b"bad 1"))
    mailbox.put(good, frame(b"good 1"))
    worker = Worker(mailbox, slot)
    worker.start()
    wait_until(lambda: bad.prepared, SOON_S, "the hang")
    if newer:
        mailbox.put(good, frame(b"good 2"))
    assert worker.give_up_after(1000.0) is None
    work = worker.give_up_after(0.0)
    assert work is not None
    assert (work.camera, work.stage) == ("bad", DECODE)
    assert len(bad.errors) == 1
    assert "an image of bad has been decoded for" in bad.hung()
    following = Worker(mailbox, ModelSlot(slot.segmenter))
    following.start()
    expected = [b"good 2" if newer else b"good 1"]
    wait_until(lambda: good.prepared == expected, SOON_S, "the good frame")
    assert (good.errors, good.overtaken_count) == ([], int(newer))
    bad.go_on.set()  # it comes back, and ends without a word
    assert worker.join(SOON_S)
    assert bad.hung() == ""
    assert len(bad.errors) == 1
    mailbox.close()
    assert following.join(SOON_S)


def test_what_cameras_send_is_no_failure_of_the_engine(slot: ModelSlot) -> None:
    class Broken(Source):
        def prepare(self, frame: Frame, segmenter: Segmenter, hand: WorkInHand) -> None:
            super().prepare(frame, segmenter, hand)
            raise ValueError("broken\nin two lines")

    mailbox: CameraMailbox = Mailbox()
    broken = Broken("broken")
    worker = Worker(mailbox, slot)
    worker.start()
    for number in range(3):
        mailbox.put(broken, frame(b"x"))
        wait_until(lambda number=number: len(broken.errors) == number + 1, SOON_S, "the error")
    assert worker.engine_failures == 0
    assert set(broken.errors) == {"unexpected ValueError: broken in two lines"}
    mailbox.close()
    assert worker.join(SOON_S)
    assert len(broken.prepared) == 3
