"""The worker with several cameras: together where the engine gains by it, and each camera's trouble its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy (ROS 2) is not installed")

from seg_perception.cdr import Header, read_image, write_image
from seg_perception.classes import unchanged
from seg_perception.engines.base import EngineError, MaskRequest
from seg_perception.engines.onnxruntime import OnnxRuntimeEngine
from seg_perception.painting import Painted, Painter
from seg_perception.ros.camera_health import CameraHealth
from seg_perception.ros.frame_decoder import FrameDecoder
from seg_perception.ros.frame_pipeline import Frame, FrameJob, FramePipeline
from seg_perception.ros.frame_statistics import FrameStatistics
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.model_slot import ModelSlot
from seg_perception.ros.outputs import Outputs
from seg_perception.ros.parameter_values import CameraParameters
from seg_perception.ros.parameters import PARAMETERS
from seg_perception.ros.publication import Serving
from seg_perception.ros.work_in_hand import WorkInHand
from seg_perception.ros.worker import FrameSource, Worker
from seg_perception.segmenter import Segmenter
from test.seg_perception.tiny_model import CELL, GRID, tiny_labels, write_tiny_association_model
from test.seg_perception.waiting import wait_until

WAIT_S = 30.0


class BatchEngine(OnnxRuntimeEngine):
    """Paints up to three images at once, as an engine on a GPU does; counts them."""

    best_batch = 3

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.calls: list[int] = []
        self.trouble: Callable[[], list[Painted] | None] | None = None
        self.broken = False
        assert self.info.geometry is not None
        self._painter = Painter(self.info.geometry)

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        if self.broken:
            raise EngineError("the device is gone")
        return super().infer(image)

    def infer_painted_batch(self, images: np.ndarray, requests: Sequence[MaskRequest]) -> list[Painted] | None:
        self.calls.append(len(requests))
        if self.trouble is not None:
            return self.trouble()
        painted = []
        for image, request in zip(images, requests, strict=True):
            outputs = self.infer(image[None])
            scores = (outputs["association"][0], outputs["class_logits"][0])
            painted.append(self._painter.paint(*scores, request.size, True, request.confidence, request.superpixels))
        return painted


class Publisher:
    """Keeps what is published; somebody always listens."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def publish(self, message: bytes) -> None:
        self.messages.append(message)

    def get_subscription_count(self) -> int:
        return 1


class Source:
    """A camera without ROS: its pipeline, and publishers that keep what they are given."""

    def __init__(self, segmenter: Segmenter, names: tuple[str, ...] = ("labels", "confidence"), **values: Any) -> None:
        self.publishers = {name: Publisher() for name in names}
        self.errors: list[str] = []
        self.statistics = FrameStatistics()
        defaults: dict[str, Any] = {p.name: p.default for p in PARAMETERS if p.per_camera}
        info = segmenter.info
        serving = Serving(info, unchanged(info.class_names, info.palette), Outputs(dict(self.publishers)))  # type: ignore[arg-type]
        self._pipeline = FramePipeline(
            FrameDecoder(False),
            self.statistics,
            lambda: CameraParameters(**(defaults | values)),
            lambda: serving,
            None,
            lambda: 0,
            CameraHealth(),
            None,
        )

    @property
    def label(self) -> str:
        return "a camera"

    def prepare(self, frame: Frame, segmenter: Segmenter, hand: WorkInHand) -> FrameJob | None:
        return self._pipeline.prepare(frame, segmenter, hand)

    def given_up(self, error: str, hung: Callable[[], str]) -> None:
        self.errors.append(error)

    def overtaken(self) -> None:
        self.errors.append("overtaken")

    def failed(self, error: str) -> None:
        self.errors.append(error)

    def labels(self) -> list[np.ndarray]:
        images = [read_image(message) for message in self.publishers["labels"].messages]
        return [np.frombuffer(image.data, np.uint8).reshape(image.height, image.width) for image in images]


def cells_image(seed: int, factor: int = 1) -> np.ndarray:
    colours = np.random.default_rng(seed).integers(0, 256, (*GRID, 3), np.uint8)
    return colours.repeat(factor * CELL[0], 0).repeat(factor * CELL[1], 1)


def frame(rgb: np.ndarray) -> Frame:
    return Frame(write_image(Header(1, 2, b"camera"), "rgb8", rgb), time.perf_counter())


@pytest.fixture
def segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Segmenter]:
    monkeypatch.setattr(
        "seg_perception.segmenter.create_engine", lambda kind, info, *arguments, **options: BatchEngine(info)
    )
    with Segmenter(write_tiny_association_model(tmp_path / "tiny.onnx")) as segmenter:
        yield segmenter


def engine_of(segmenter: Segmenter) -> BatchEngine:
    engine = segmenter._engine
    assert isinstance(engine, BatchEngine)
    return engine


def work_through(segmenter: Segmenter, frames: list[tuple[Source, Frame]]) -> None:
    """Let a worker do frames that all wait when it starts."""
    mailbox: Mailbox[FrameSource, Frame] = Mailbox()
    for source, waiting in frames:
        mailbox.put(source, waiting)
    worker = Worker(mailbox, ModelSlot(segmenter))
    worker.start()
    wait_until(
        lambda: all(s.errors or s.statistics.summary().published for s, _ in frames), WAIT_S, "an answer to every frame"
    )
    mailbox.close()
    assert worker.join(WAIT_S)


def test_frames_that_wait_are_done_together_each_at_its_size(segmenter):
    sources = [Source(segmenter) for _ in range(3)]
    images = [cells_image(seed, factor) for seed, factor in enumerate((1, 2, 3))]
    work_through(segmenter, [(source, frame(rgb)) for source, rgb in zip(sources, images, strict=True)])
    assert engine_of(segmenter).calls == [3]
    for source, rgb in zip(sources, images, strict=True):
        np.testing.assert_array_equal(source.labels(), [tiny_labels(rgb)])
        assert len(source.publishers["confidence"].messages) == 1
        assert {"wait", "decode", "infer", "publish"} <= set(source.statistics.summary().stages_ms)


def test_more_frames_than_the_engine_takes_are_done_in_turns(segmenter):
    sources = [Source(segmenter) for _ in range(5)]
    work_through(segmenter, [(source, frame(cells_image(i))) for i, source in enumerate(sources)])
    assert engine_of(segmenter).calls == [3, 2]
    assert all(len(source.labels()) == 1 for source in sources)


def test_a_frame_that_cannot_be_used_is_its_own_cameras_trouble(segmenter):
    good, bad, other = (Source(segmenter) for _ in range(3))
    work_through(
        segmenter, [(good, frame(cells_image(1))), (bad, Frame(b"\0\1\0\0cut", 0.0)), (other, frame(cells_image(2)))]
    )
    assert engine_of(segmenter).calls == [2]
    assert bad.errors[0].startswith("serialized sensor_msgs/Image is cut short")
    assert (good.errors, other.errors) == ([], [])


def test_a_camera_that_is_smoothed_is_done_alone(segmenter):
    still, plain, other = Source(segmenter, smoothing=0.5), Source(segmenter), Source(segmenter)
    work_through(segmenter, [(source, frame(cells_image(i))) for i, source in enumerate((still, plain, other))])
    assert engine_of(segmenter).calls == [2]
    assert all(len(source.labels()) == 1 for source in (still, plain, other))


def fail() -> list[Painted] | None:
    raise EngineError("no memory for three images")


@pytest.mark.parametrize("trouble", [lambda: None, fail], ids=["refused", "failed"])
def test_where_several_at_once_do_not_go_they_are_done_one_by_one(segmenter, trouble):
    engine_of(segmenter).trouble = trouble
    sources = [Source(segmenter) for _ in range(3)]
    images = [cells_image(i) for i in range(3)]
    work_through(segmenter, [(source, frame(rgb)) for source, rgb in zip(sources, images, strict=True)])
    for source, rgb in zip(sources, images, strict=True):
        assert source.errors == []
        np.testing.assert_array_equal(source.labels(), [tiny_labels(rgb)])


def test_an_engine_that_has_failed_with_several_is_not_asked_for_them_again(segmenter):
    engine = engine_of(segmenter)
    engine.trouble = fail
    sources = [Source(segmenter) for _ in range(5)]
    work_through(segmenter, [(source, frame(cells_image(i))) for i, source in enumerate(sources)])
    assert engine.calls == [3]


def test_an_engine_that_fails_is_told_to_every_camera_in_hand(segmenter):
    engine_of(segmenter).broken = True
    sources = [Source(segmenter) for _ in range(2)]
    work_through(segmenter, [(source, frame(cells_image(i))) for i, source in enumerate(sources)])
    assert [source.errors for source in sources] == [["the device is gone"]] * 2


def test_labels_are_out_before_the_confidence_is_made_and_superpixel_labels_need_no_painting(segmenter, monkeypatch):
    engine_of(segmenter).best_batch = 1
    asked: list[tuple[bool, bool, bool]] = []
    paint = Painter.paint

    def painted(self: Painter, association: np.ndarray, logits: np.ndarray, size: Any, *wanted: bool) -> Painted:
        asked.append(wanted)  # type: ignore[arg-type]
        return paint(self, association, logits, size, *wanted)

    monkeypatch.setattr(Painter, "paint", painted)
    masks, tiny = Source(segmenter), Source(segmenter, ("superpixel_labels",))
    work_through(segmenter, [(masks, frame(cells_image(1))), (tiny, frame(cells_image(2)))])
    assert asked == [(True, False, False), (False, True, False)]  # labels, confidence, superpixels
    message = read_image(tiny.publishers["superpixel_labels"].messages[0])
    expected = tiny_labels(cells_image(2)[:: CELL[0], :: CELL[1]])
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(GRID), expected)
