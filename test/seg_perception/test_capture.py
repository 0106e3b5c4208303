"""The last seconds of a node: bounds of the buffer, and the file that is made of it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from seg_perception import capture
from seg_perception.bag.frames import FrameSource
from seg_perception.bag.reader import open_bag
from seg_perception.capture import CaptureBuffer, CapturedMessage, CaptureError, CaptureWriter, Channel
from seg_perception.cdr import Header, write_image
from seg_perception.cli import main
from test.seg_perception.tiny_bag import TYPESTORE
from test.seg_perception.tiny_model import write_tiny_model

IMAGE = Channel("/camera/image_raw", "sensor_msgs/msg/Image", reliable=False)
LABELS = Channel("/segmentation/labels", "sensor_msgs/msg/Image")
INFO = Channel("/segmentation/label_info", "std_msgs/msg/String", latched=True)
OVERHEAD = 200  # bytes counted for a message beside its own


class Clock:
    """Nanoseconds that go on when told."""

    def __init__(self) -> None:
        self.ns = 10**18

    def __call__(self) -> int:
        return self.ns


def image(index: int, encoding: str = "rgb8", size: tuple[int, int] = (24, 32)) -> bytes:
    """A serialized image, its stamp `index` seconds."""
    pixels = np.random.default_rng(index).integers(0, 256, (*size, 3) if encoding == "rgb8" else size, np.uint8)
    return write_image(Header(index, 0, b"camera"), encoding, pixels)


def text(content: str) -> bytes:
    return bytes(TYPESTORE.serialize_cdr(TYPESTORE.types["std_msgs/msg/String"](data=content), "std_msgs/msg/String"))


def filled(seconds: int = 10) -> CaptureBuffer:
    """A buffer with an image and a mask a second."""
    clock = Clock()
    buffer = CaptureBuffer(10**8, 3600.0, clock)
    buffer.add(INFO, text("{}"))
    for index in range(seconds):
        clock.ns += 10**9
        buffer.add(IMAGE, image(index))
        buffer.add(LABELS, image(index, "mono8"))
    return buffer


def saved(writer: CaptureWriter, folder: Path, **options: object) -> tuple[Path | None, str]:
    """The answer to `save`, waited for."""
    answer: list[tuple[Path | None, str]] = []
    done = threading.Event()

    def take(path: Path | None, said: str) -> None:
        answer.append((path, said))
        done.set()

    writer.save(folder, take, **options)  # type: ignore[arg-type]
    assert done.wait(30)
    return answer[0]


def test_the_very_objects_are_kept_and_no_copies():
    buffer = CaptureBuffer(10**6, 10.0)
    data = image(1)
    buffer.add(IMAGE, data)
    assert buffer.messages()[0].data is data


def test_it_is_bounded_in_bytes_and_the_oldest_go_first():
    data = [bytes([index]) * 800 for index in range(10)]
    buffer = CaptureBuffer(3 * (800 + OVERHEAD), 10.0)
    for one in data:
        buffer.add(IMAGE, one)
    assert [message.data for message in buffer.messages()] == data[-3:]
    assert buffer.size_bytes == 3 * (800 + OVERHEAD)
    buffer.add(IMAGE, bytes(10_000))  # more than all that may be kept
    assert buffer.messages() == []
    assert buffer.size_bytes == 0


def test_it_is_bounded_in_seconds():
    clock = Clock()
    buffer = CaptureBuffer(10**6, 2.0, clock)
    for index in range(6):
        buffer.add(IMAGE, bytes([index]))
        clock.ns += 10**9
    assert [message.data[0] for message in buffer.messages()] == [3, 4, 5]


def test_off_it_keeps_nothing_but_what_is_latched_and_can_be_turned_on():
    buffer = CaptureBuffer(0, 10.0)
    buffer.add(INFO, b"names")
    buffer.add(IMAGE, b"image")
    assert buffer.messages() == []
    buffer.limit(10**6, 10.0)
    buffer.add(IMAGE, b"image")
    assert [message.data for message in buffer.messages()] == [b"names", b"image"]
    buffer.limit(0, 10.0)
    assert buffer.messages() == []
    assert buffer.size_bytes == 0


def test_a_latched_message_stays_however_old_and_is_dated_as_what_follows():
    clock = Clock()
    buffer = CaptureBuffer(10**6, 2.0, clock)
    buffer.add(INFO, b"old")
    buffer.add(INFO, b"names")
    clock.ns += 10**12
    buffer.add(IMAGE, b"image")
    assert buffer.messages() == [CapturedMessage(INFO, clock.ns, b"names"), CapturedMessage(IMAGE, clock.ns, b"image")]


def test_negative_bounds_are_refused():
    with pytest.raises(ValueError, match="expected both to be at least 0"):
        CaptureBuffer(-1, 2.0)


def test_many_threads_fill_it_while_it_is_read():
    buffer = CaptureBuffer(50 * (10 + OVERHEAD), 10.0)

    def fill() -> None:
        for _ in range(2000):
            buffer.add(IMAGE, bytes(10))

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        times = [message.time_ns for message in buffer.messages()]
        assert times == sorted(times)
        assert len(times) <= 50
    for thread in threads:
        thread.join()
    assert len(buffer.messages()) == 50
    assert buffer.size_bytes == 50 * (10 + OVERHEAD)


def test_the_file_is_a_recording_like_any_other(tmp_path):
    path, said = saved(CaptureWriter(filled(), "front"), tmp_path / "new" / "folder")
    assert path is not None
    assert said == f"{path}: 9.0 s, 21 messages of 3 topics"
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing unfinished beside it
    with open_bag(path) as bag:
        assert bag.damage == ""
        topics = bag.topics()
        assert {name: (topic.type, topic.count) for name, topic in topics.items()} == {
            IMAGE.topic: (IMAGE.type, 10),
            LABELS.topic: (LABELS.type, 10),
            INFO.topic: (INFO.type, 1),
        }
        assert not topics[IMAGE.topic].offered_qos.reliable
        assert topics[INFO.topic].offered_qos.transient_local
        assert bag.end_ns - bag.start_ns == 9 * 10**9  # the latched message does not stretch it
        assert [m.data for m in bag.messages([IMAGE.topic])] == [image(index) for index in range(10)]
        frames = list(FrameSource(bag, IMAGE.topic, LABELS.topic))
    assert [frame.stamp_ns for frame in frames] == [index * 10**9 for index in range(10)]
    assert all(frame.labels is not None for frame in frames)


def test_evaluate_bag_scores_it(tmp_path):
    path, _ = saved(CaptureWriter(filled(3), "front"), tmp_path)
    model = write_tiny_model(tmp_path / "m.onnx")
    command = [
        "evaluate-bag",
        str(path),
        "--model",
        str(model),
        "--image-topic",
        IMAGE.topic,
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--engine", "onnxruntime"]) == 0


def test_rosbag2_finds_its_own_metadata_in_the_file(tmp_path):
    path, _ = saved(CaptureWriter(filled(), "front"), tmp_path)
    content = path.read_bytes()
    assert b"serialized_metadata" in content  # what rosbag2's MCAP plugin looks for
    assert f"relative_file_paths:\n- {path.name}".encode() in content
    assert b"zstd" in content


def test_label_info_of_vision_msgs_is_described_in_the_file(tmp_path):
    buffer = CaptureBuffer(10**6, 10.0)
    buffer.add(Channel("/s/label_info", "vision_msgs/msg/LabelInfo", latched=True), bytes(24))
    buffer.add(IMAGE, image(1))
    path, said = saved(CaptureWriter(buffer, "front"), tmp_path)
    assert path is not None, said
    with open_bag(path) as bag:
        assert bag.topics()["/s/label_info"].type == "vision_msgs/msg/LabelInfo"


def test_nothing_to_save_and_a_second_save_are_refused_in_one_line(tmp_path):
    with pytest.raises(CaptureError, match="set the parameter capture_mb above 0"):
        CaptureWriter(CaptureBuffer(0, 1.0), "a").save(tmp_path, lambda *_: None)
    with pytest.raises(CaptureError, match="no message has come in"):
        CaptureWriter(CaptureBuffer(10, 1.0), "a").save(tmp_path, lambda *_: None)
    writer = CaptureWriter(filled(), "a")
    first, release = threading.Event(), threading.Event()

    def hold(path: Path | None, said: str) -> None:
        first.set()
        release.wait(30)

    original, capture.write_recording = (
        capture.write_recording,
        lambda *args: (first.set(), release.wait(30), original(*args)),
    )
    try:
        writer.save(tmp_path, hold)
        assert first.wait(30)
        with pytest.raises(CaptureError, match="another capture is being written"):
            writer.save(tmp_path, hold)
    finally:
        release.set()
        capture.write_recording = original


def test_two_saves_within_a_second_are_two_files(tmp_path):
    writer = CaptureWriter(filled(), "a")
    paths = {saved(writer, tmp_path)[0] for _ in range(3)}
    assert len(paths) == 3
    assert all(path is not None and path.exists() for path in paths)


def test_of_files_nobody_asked_for_the_newest_stay(tmp_path):
    writer = CaptureWriter(filled(2), "a")
    asked, _ = saved(writer, tmp_path)
    paths = [saved(writer, tmp_path, event="error", keep=2)[0] for _ in range(4)]
    assert asked is not None
    assert asked.exists()
    assert [path is not None and path.exists() for path in paths] == [False, False, True, True]


def test_a_disk_with_too_little_room_is_one_line_and_not_filled(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(capture, "LEAVE_FREE_BYTES", 10**18)
    path, said = saved(CaptureWriter(filled(), "a"), tmp_path)
    assert path is None
    assert "MB free, expected at least" in said
    assert "make room or set capture_folder" in said
    assert list(tmp_path.iterdir()) == []
    assert len(caplog.records) == 1


@pytest.mark.parametrize("folder", ["taken", "taken/below"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, folder):
    (tmp_path / "taken").write_text("a file")
    path, said = saved(CaptureWriter(filled(), "a"), tmp_path / folder)
    assert path is None
    assert said.startswith("capture not saved: [Errno")


def test_a_write_that_fails_in_the_middle_leaves_nothing_behind_and_the_next_one_works(tmp_path):
    # A limit on the size of files, in a process of its own, is a full disk as the writer sees it.
    code = f"""
import resource, signal, sys
from pathlib import Path
from test.seg_perception.test_capture import CaptureWriter, filled, saved
folder = Path({str(tmp_path)!r})
writer = CaptureWriter(filled(20), "a")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, {resource.RLIM_INFINITY}))
path, said = saved(writer, folder)
assert path is None and said.startswith("capture not saved: [Errno 27]"), (path, said)
assert list(folder.iterdir()) == [], list(folder.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, ({resource.RLIM_INFINITY}, {resource.RLIM_INFINITY}))
path, said = saved(writer, folder)
assert path is not None and path.exists(), said
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_killed_process_left_is_removed_later(tmp_path):
    fresh, old = tmp_path / ".a_1.part", tmp_path / ".a_2.part"
    fresh.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    saved(CaptureWriter(filled(2), "a"), tmp_path)
    assert fresh.exists()
    assert not old.exists()
