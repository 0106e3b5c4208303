from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.bag.evaluate import EvaluateOptions, evaluate_bag
from seg_perception.bag.frames import prefetch
from seg_perception.bag.reader import BagError
from test.seg_perception.tiny_bag import IMAGE, compressed_message, image_message, write_bag
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model

SECOND = 10**9
CAMERA, LABELS = "/camera/image_raw", "/camera/labels"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def colour_image(colours: list[tuple[int, int, int]]) -> np.ndarray:
    """Vertical stripes of equal width at the network's size, so that nothing is interpolated."""
    return np.repeat(np.array([colours], np.uint8), INPUT_SIZE[1] // len(colours), axis=1).repeat(INPUT_SIZE[0], axis=0)


DARK, RED, GREEN, YELLOW = (0, 0, 51), (255, 0, 51), (0, 255, 51), (255, 255, 51)


def labels_of(ids: list[int]) -> np.ndarray:
    return np.repeat(np.array([ids], np.uint8), INPUT_SIZE[1] // len(ids), axis=1).repeat(INPUT_SIZE[0], axis=0)


def labelled_messages(compressed: bool) -> list[tuple[str, int, Any]]:
    """Three frames: all right; half of red taken for dark; without labels."""
    frames = [
        (colour_image([DARK, RED, GREEN, YELLOW]), labels_of([0, 1, 2, 3])),
        (colour_image([DARK, DARK, RED, GREEN]), labels_of([0, 1, 1, 255])),
        (colour_image([DARK]), None),
    ]
    messages: list[tuple[str, int, Any]] = []
    for index, (rgb, labels) in enumerate(frames):
        stamp = (index + 1) * SECOND
        image = compressed_message(rgb, stamp, "png") if compressed else image_message(rgb, stamp, "rgb8")
        messages.append((CAMERA, stamp + 5, image))
        if labels is not None:
            label = compressed_message(labels, stamp, "png") if compressed else image_message(labels, stamp, "mono8")
            messages.append((LABELS, stamp + 7, label))
    return messages


def options(bag: Path, model: Path, **changes: Any) -> EvaluateOptions:
    return replace(EvaluateOptions(bag, model, CAMERA, LABELS, engine="onnxruntime", threads=1), **changes)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compressed", [False, True])
def test_scores_on_a_small_bag_are_those_worked_out_by_hand(
    tmp_path: Path, model: Path, storage: str, compressed: bool
) -> None:
    file = write_bag(tmp_path / "bag", labelled_messages(compressed), storage)
    for bag in (file, file.parent):
        report = evaluate_bag(options(bag, model)).to_dict()
        # In quarters of an image. Dark: 2 right, 1 too many. Red: 2 right, 1 missed. Green and yellow: 1 right.
        assert report["iou"] == {"dark": pytest.approx(2 / 3), "red": pytest.approx(2 / 3), "green": 1.0, "yellow": 1.0}
        assert report["miou"] == pytest.approx(10 / 12)
        assert report["pixel_accuracy"] == pytest.approx(6 / 7)
        assert (report["frames_in"], report["frames_out"], report["frames_dropped"]) == (3, 3, 0)
        assert report["frames_labelled"] == 2
        assert report["engine"] == "onnxruntime"
        assert report["model"] == "tiny"
        assert report["truncated"] is False
        assert set(report["stages_ms"]) == {"decode", "preprocess", "infer", "paint"}
        assert report["latency_ms"]["p50"] > 0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_random_images_of_another_size_score_the_same_with_both_engines(
    tmp_path: Path, model: Path, engine: str
) -> None:
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (4, *INPUT_SIZE, 3), np.uint8)
    messages: list[tuple[str, int, Any]] = []
    for index, rgb in enumerate(small):
        large = rgb.repeat(2, axis=0).repeat(2, axis=1)
        labels = rng.integers(0, 4, large.shape[:2], np.uint8)
        messages.append((CAMERA, index, image_message(large, index, "rgb8")))
        messages.append((LABELS, index, image_message(labels, index, "mono8")))
    truth = np.stack([np.asarray(message.data).reshape(48, 64) for topic, _, message in messages if topic == LABELS])
    predicted = np.stack([tiny_labels(rgb) for rgb in small]).repeat(2, axis=1).repeat(2, axis=2)
    result = evaluate_bag(options(write_bag(tmp_path / "bag", messages), model, engine=engine))
    expected = [np.sum((truth == k) & (predicted == k)) / np.sum((truth == k) | (predicted == k)) for k in range(4)]
    assert list(result.iou.values()) == pytest.approx(expected)


def test_labels_may_come_before_their_images_and_some_be_missing(tmp_path: Path, model: Path) -> None:
    messages = labelled_messages(compressed=False)
    late = sorted(messages, key=lambda entry: (entry[0] == CAMERA, entry[1]))
    moved = [(topic, index, message) for index, (topic, _, message) in enumerate(late)]
    result = evaluate_bag(options(write_bag(tmp_path / "bag", moved), model))
    assert result.miou == pytest.approx(10 / 12)
    assert result.frames_out == 3


def test_without_a_label_topic_only_latencies_are_told(tmp_path: Path, model: Path) -> None:
    bag = write_bag(tmp_path / "bag", labelled_messages(compressed=False))
    report = evaluate_bag(options(bag, model, label_topic=None)).to_dict()
    assert report["miou"] is None
    assert report["frames_out"] == 3


def test_the_only_image_topic_is_taken_and_said(tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = write_bag(tmp_path / "bag", labelled_messages(compressed=False))
    with caplog.at_level(logging.INFO):
        assert evaluate_bag(options(bag, model, image_topic=None)).frames_out == 3
    assert f"image topic: {CAMERA} (the only one in the bag)" in caplog.text
    with pytest.raises(BagError, match=f"has 2 image topics: {CAMERA}, {LABELS}; say which with --image-topic"):
        evaluate_bag(options(bag, model, image_topic=None, label_topic=None))


def test_max_frames_stops_early(tmp_path: Path, model: Path) -> None:
    bag = write_bag(tmp_path / "bag", labelled_messages(compressed=True))
    result = evaluate_bag(options(bag, model, max_frames=1))
    assert (result.frames_in, result.frames_out, result.miou) == (1, 1, 1.0)


def test_the_size_of_images_may_change_on_the_way(tmp_path: Path, model: Path) -> None:
    sizes = [(24, 32), (48, 64), (1, 1), (30, 31)]
    messages = [
        (CAMERA, index, image_message(np.zeros((*size, 3), np.uint8), index, "bgr8"))
        for index, size in enumerate(sizes)
    ]
    result = evaluate_bag(options(write_bag(tmp_path / "bag", messages), model, label_topic=None))
    assert result.image_sizes == {(width, height): 1 for height, width in sizes}


def broken(message: Any, **changes: Any) -> Any:
    return replace(message, **changes)


def test_images_that_cannot_be_decoded_are_left_out_and_counted(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = labelled_messages(compressed=False)
    good = messages[0][2]
    messages += [
        (CAMERA, 10 * SECOND, broken(good, step=7)),
        (CAMERA, 11 * SECOND, broken(good, step=7)),
        (CAMERA, 12 * SECOND, broken(good, encoding="odd8")),
        (CAMERA, 13 * SECOND, broken(good, height=0)),
        (CAMERA, 14 * SECOND, b"\x00\x01\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\xff\xff"),
    ]
    # Stamps of their own, so that labels stay paired.
    for number, (topic, time_ns, message) in enumerate(messages[5:9], start=5):
        stamp = type(good.header.stamp)(sec=100 + number, nanosec=0)
        messages[number] = (topic, time_ns, broken(message, header=replace(good.header, stamp=stamp)))
    result = evaluate_bag(options(write_bag(tmp_path / "bag", messages), model))
    assert result.miou == pytest.approx(10 / 12)
    assert (result.frames_in, result.frames_out, result.frames_dropped) == (8, 3, 5)
    assert sorted(result.drop_reasons.values()) == [1, 1, 1, 2]
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 4
    assert "with step 7: expected at least 96 bytes a row" in caplog.text
    assert "encoding 'odd8' is not supported" in caplog.text


def test_a_bag_of_which_no_image_can_be_used_ends_with_the_reason(tmp_path: Path, model: Path) -> None:
    message = image_message(np.zeros((4, 4), np.float32), 0, "32FC1")
    messages = [(CAMERA, index, message) for index in range(60)]
    bag = write_bag(tmp_path / "bag", messages)
    with pytest.raises(BagError, match=f"none of the first 25 images on {CAMERA} can be used: encoding '32FC1'"):
        evaluate_bag(options(bag, model, label_topic=None))


def error_of(tmp_path: Path, model: Path, messages: list[tuple[str, int, Any]], **changes: Any) -> str:
    with pytest.raises(BagError) as caught:
        evaluate_bag(options(write_bag(tmp_path / "bag", messages), model, **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_topic_that_is_missing_is_told_with_those_there_are(tmp_path: Path, model: Path) -> None:
    error = error_of(tmp_path, model, labelled_messages(False), image_topic="/rgb")
    assert "has no topic '/rgb'; it has: /camera/image_raw (sensor_msgs/msg/Image, 3 messages); /camera/labels" in error


def test_a_topic_without_messages_is_refused(tmp_path: Path, model: Path) -> None:
    bag = write_bag(tmp_path / "bag", labelled_messages(False), topics=[("/empty", IMAGE)])
    with pytest.raises(BagError, match=r"topic /empty of bag .* has no messages"):
        evaluate_bag(options(bag, model, image_topic="/empty"))


def test_labels_of_another_size_are_refused(tmp_path: Path, model: Path) -> None:
    messages = labelled_messages(False)[:1]
    messages.append((LABELS, SECOND, image_message(np.zeros((12, 16), np.uint8), SECOND, "mono8")))
    assert "label topic /camera/labels has images of 16x12 pixels, image topic /camera/image_raw of 32x24" in error_of(
        tmp_path, model, messages
    )


def test_ids_outside_the_classes_are_named_with_their_topic(tmp_path: Path, model: Path) -> None:
    messages = labelled_messages(False)[:1]
    messages.append((LABELS, SECOND, image_message(labels_of([0, 4, 17, 255]), SECOND, "8UC1")))
    assert error_of(tmp_path, model, messages) == (
        "label topic /camera/labels: labels hold the ids 4, 17; expected 0 to 3, or 255 for pixels without a label"
    )


def test_labels_that_are_no_class_ids_are_refused(tmp_path: Path, model: Path) -> None:
    messages = labelled_messages(False)[:1]
    colour = compressed_message(colour_image([RED]), SECOND, "png")
    assert "label topic /camera/labels: label PNG has 3 channels" in error_of(
        tmp_path, model, [*messages, (LABELS, SECOND, colour)]
    )


def test_labels_with_other_stamps_are_refused_before_the_work(tmp_path: Path, model: Path) -> None:
    messages = labelled_messages(False)[:1]
    messages.append((LABELS, SECOND, image_message(labels_of([0]), SECOND + 1, "mono8")))
    error = error_of(tmp_path, model, messages)
    assert "no label on /camera/labels (1 messages, the first at 1.000000001 s) has the header stamp" in error
    assert "/camera/image_raw (1 messages, the first at 1.000000000 s)" in error


def test_stamps_that_repeat_cannot_be_paired(tmp_path: Path, model: Path) -> None:
    messages = labelled_messages(False)[:2] * 2
    assert "has 2 messages with the header stamp 1.000000000 s" in error_of(tmp_path, model, messages)


def test_a_cut_bag_is_scored_as_far_as_it_goes(tmp_path: Path, model: Path) -> None:
    rng = np.random.default_rng(0)
    messages: list[tuple[str, int, Any]] = []
    for index in range(30):
        rgb = rng.integers(0, 256, (120, 160, 3), np.uint8)
        messages.append((CAMERA, index, image_message(rgb, index, "rgb8")))
        messages.append((LABELS, index, image_message(rgb[..., 0] // 64, index, "mono8")))
    file = write_bag(tmp_path / "bag", messages)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    result = evaluate_bag(options(cut, model))
    assert result.truncated
    assert 15 <= result.frames_out < 30
    assert result.miou is not None
    assert len(result.warnings) == 1
    assert "cut.mcap ends early" in result.warnings[0]


def test_a_video_is_written_and_reads_back(tmp_path: Path, model: Path) -> None:
    bag = write_bag(tmp_path / "bag", labelled_messages(False))
    video = tmp_path / "out" / "video.mp4"
    result = evaluate_bag(options(bag, model, video=video))
    assert result.files == {"video": "video.mp4"}
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    capture.release()


def test_prefetch_keeps_order_and_passes_errors_on() -> None:
    assert list(prefetch(iter(range(50)), 3)) == list(range(50))

    def failing() -> Iterator[int]:
        yield 1
        raise BagError("gone")

    items = prefetch(failing(), 3)
    assert next(items) == 1
    with pytest.raises(BagError, match="gone"):
        next(items)


def test_prefetch_ends_its_thread_when_it_is_left_early() -> None:
    before = threading.active_count()
    items = prefetch(iter(range(10**9)), 2)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
