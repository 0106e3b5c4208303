"""Recordings that were made to hurt, lost a part, or were hurt: what is whole is read, the rest is told."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from seg_perception.bag.evaluate import EvaluateOptions, evaluate_bag
from seg_perception.bag.reader import BagError, MessageError, open_bag
from seg_perception.bag.storage_check import CHUNK, MAX_CHUNK_BYTES, MCAP_MAGIC, problem_of, unpack, zstd
from test.seg_perception.broken_files import damaged
from test.seg_perception.tiny_bag import COMPRESSED, image_message, write_bag
from test.seg_perception.tiny_model import INPUT_SIZE, write_tiny_model

SECOND = 10**9
IMAGES, LABELS = "/camera/image_raw", "/camera/labels"


def picture(number: int) -> np.ndarray:
    return np.full((*INPUT_SIZE, 3), 40 * (number % 5), np.uint8)


def images(first: int, count: int) -> list[tuple[str, int, object]]:
    return [
        (IMAGES, SECOND + n * SECOND // 10, image_message(picture(n), SECOND + n * SECOND // 10, "rgb8"))
        for n in range(first, first + count)
    ]


def split_bag(folder: Path, parts: int = 3) -> Path:
    """A recording in parts of four images each, with one metadata.yaml over all."""
    folder.mkdir()
    names = []
    for part in range(parts):
        file = write_bag(folder.parent / f"part{part}", images(4 * part, 4))
        names.append(f"{folder.name}_{part}.mcap")
        shutil.move(file, folder / names[-1])
        metadata = yaml.safe_load((folder.parent / f"part{part}" / "metadata.yaml").read_text())
    info = metadata["rosbag2_bagfile_information"]
    info["relative_file_paths"] = names
    info["files"] = []
    info["message_count"] = 4 * parts
    info["starting_time"] = {"nanoseconds_since_epoch": SECOND}
    info["topics_with_message_count"][0]["message_count"] = 4 * parts
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return folder


def read(path: Path) -> tuple[int, str]:
    """Images that come out, and what is said of the damage."""
    with open_bag(path) as bag:
        return sum(1 for _ in bag.messages([IMAGES])), bag.damage


def test_a_whole_split_recording_says_nothing(tmp_path: Path) -> None:
    assert read(split_bag(tmp_path / "bag")) == (12, "")


@pytest.mark.parametrize("with_metadata", [True, False])
def test_a_missing_part_is_told(tmp_path: Path, with_metadata: bool) -> None:
    folder = split_bag(tmp_path / "bag")
    (folder / "bag_1.mcap").unlink()
    if not with_metadata:
        (folder / "metadata.yaml").unlink()
    count, damage = read(folder)
    assert count == 8
    assert "bag_1.mcap is missing" in damage


def test_an_empty_part_is_told(tmp_path: Path) -> None:
    folder = split_bag(tmp_path / "bag")
    (folder / "bag_2.mcap").write_bytes(b"")
    count, damage = read(folder)
    assert count == 8
    assert "bag_2.mcap is empty (0 bytes)" in damage


@pytest.mark.parametrize("content", ["a: [", "rosbag2_bagfile_information: 3", "", "- [" * 3000, "\x00"])
def test_metadata_that_cannot_be_used_is_told(tmp_path: Path, content: str) -> None:
    folder = split_bag(tmp_path / "bag")
    (folder / "metadata.yaml").write_text(content)
    count, damage = read(folder)
    assert count == 12
    assert "metadata.yaml cannot be used" in damage
    assert len(damage.splitlines()) == 1


def mcap_with_chunk(packed: bytes, compression: str, stated: int) -> bytes:
    """A file of one chunk, without an index."""
    name = compression.encode()
    body = struct.pack("<QQQII", 0, 1, stated, 0, len(name)) + name + struct.pack("<Q", len(packed)) + packed
    header = struct.pack("<I", 4) + b"ros2" + struct.pack("<I", 0)
    footer = struct.pack("<QQI", 0, 0, 0)
    records = [(1, header), (CHUNK, body), (2, footer)]
    return MCAP_MAGIC + b"".join(bytes([k]) + struct.pack("<Q", len(c)) + c for k, c in records) + MCAP_MAGIC


@pytest.mark.parametrize("stated", [8 << 30, 1000])
def test_a_chunk_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path, stated: int) -> None:
    """Both where it states its size and where it lies about it; in a process that may not take so much memory."""
    compressor = zstd.ZstdCompressor(level=1)
    megabyte = bytes(1 << 20)
    packed = b"".join(compressor.compress(megabyte) for _ in range(1500)) + compressor.flush()
    path = tmp_path / "bomb.mcap"
    path.write_bytes(mcap_with_chunk(packed, "zstd", stated))
    program = f"from seg_perception.bag.reader import open_bag\nopen_bag({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)),
    )
    assert "BagError" in done.stderr
    assert "MemoryError" not in done.stderr
    assert str(path) in done.stderr


def test_no_more_is_unpacked_than_a_chunk_states() -> None:
    packed = zstd.compress(bytes(10_000))
    assert unpack(packed, "zstd", 10_000) == bytes(10_000)
    assert len(unpack(packed, "zstd", 100)) == 101  # one byte more tells that it does not fit
    assert unpack(packed, "zstd", MAX_CHUNK_BYTES + 1) == b""
    assert unpack(packed[:-5], "zstd", 10_000) in (b"", bytes(10_000)[: len(unpack(packed[:-5], "zstd", 10_000))])


def test_an_index_that_lost_a_chunk_is_noticed(tmp_path: Path) -> None:
    file = write_bag(tmp_path / "bag", images(0, 12))
    data = bytearray(file.read_bytes())
    assert problem_of(file) == ""
    summary_start = struct.unpack_from("<Q", data, len(data) - 28)[0]
    data[summary_start + 40] ^= 1
    file.write_bytes(bytes(data))
    if struct.unpack_from("<I", data, len(data) - 12)[0]:
        assert "its index does not match its checksum" in problem_of(file)
    count, damage = read(file)
    assert count == 12 or damage


@pytest.mark.parametrize("name", ["messages", "topics"])
def test_a_view_in_place_of_a_table_is_refused_at_once(tmp_path: Path, name: str) -> None:
    file = write_bag(tmp_path / "bag", images(0, 2), "sqlite3")
    with sqlite3.connect(file) as database:
        database.execute(f"ALTER TABLE {name} RENAME TO moved")
        database.execute(
            f"CREATE VIEW {name} AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) "
            "SELECT id, 1 AS topic_id, id AS timestamp, x'00' AS data, 'a' AS name, 'b' AS type FROM n"
        )
    database.close()
    with pytest.raises(BagError, match=f"{name} is a view, expected a table"):
        open_bag(file)


def test_columns_that_hold_no_time_or_bytes_are_left_out_and_told(tmp_path: Path) -> None:
    """SQLite takes any type in any column; of a number, bytes() makes as many zeros."""
    file = write_bag(tmp_path / "bag", images(0, 4), "sqlite3")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE messages SET data = 8000000000 WHERE id = 2")
        database.execute("UPDATE messages SET timestamp = 'soon' WHERE id = 3")
        database.commit()
    count, damage = read(file)
    assert count == 2
    assert "2 damaged places, left out" in damage


def test_names_of_several_lines_are_told_in_one(tmp_path: Path) -> None:
    """A damaged length takes what follows the name for a part of it."""
    file = write_bag(tmp_path / "bag", images(0, 2), "sqlite3")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE topics SET type = ?", ["sensor_msgs/msg/Image\nuint32 height\n" + "x" * 5000])
        database.commit()
    with open_bag(file) as bag:
        (message, *_) = bag.messages()
        with pytest.raises(MessageError) as unreadable:
            bag.deserialize(message)
        with pytest.raises(BagError) as missing:
            bag.topic("/none")
    for said in (str(unreadable.value), str(missing.value)):
        assert len(said.splitlines()) == 1
        assert len(said) < 1000


def test_metadata_that_stands_for_gigabytes_is_given_to_nobody(tmp_path: Path) -> None:
    folder = split_bag(tmp_path / "bag")
    lines = ["a0: &a0 {a: 1}", *(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 60))]
    (folder / "metadata.yaml").write_text("\n".join(lines))
    count, damage = read(folder)
    assert count == 12
    assert "metadata.yaml cannot be used: it has the alias *a0 in line 2" in damage


def test_what_is_no_file_and_no_folder_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mcap")
    with pytest.raises(BagError, match=r"pipe\.mcap is neither a file nor a folder"):
        open_bag(tmp_path / "pipe.mcap")
    with pytest.raises(BagError, match="cannot be read: File name too long"):
        open_bag(tmp_path / ("a" * 5000))


def test_one_unreadable_label_is_left_out_and_told(tmp_path: Path) -> None:
    def label(n: int) -> tuple[str, int, object]:
        stamp = SECOND + n * SECOND // 10
        mask = np.zeros(INPUT_SIZE, np.uint8) if n != 2 else np.zeros((3, 3), np.uint8)
        return LABELS, stamp, image_message(mask, stamp, "mono8")

    messages = sorted([*images(0, 6), *(label(n) for n in range(6))], key=lambda message: message[1])
    file = write_bag(tmp_path / "bag", messages)
    model = write_tiny_model(tmp_path / "m.onnx")
    result = evaluate_bag(EvaluateOptions(file, model, IMAGES, LABELS, engine="onnxruntime"))
    assert (result.frames_out, result.labelled_frames) == (6, 5)
    (warning,) = result.warnings
    assert warning.startswith("1 of 6 label messages left out")
    assert LABELS in warning
    assert str(file) in warning
    assert "1.200000000 s" in warning


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damaged_recordings_are_read_as_far_as_they_are_whole(tmp_path: Path, storage: str) -> None:
    file = write_bag(tmp_path / "bag", images(0, 6), storage)
    whole = file.read_bytes()
    copy = tmp_path / f"damaged{file.suffix}"
    for data in damaged(whole, 120, seed=3):
        copy.write_bytes(data)
        with contextlib.suppress(BagError):
            count, damage = read(copy)
            assert count <= 7
            # Fewer images than there were, and not a word: that must not be.
            assert count >= 6 or damage


def test_a_label_topic_of_another_type_is_refused(tmp_path: Path) -> None:
    file = write_bag(tmp_path / "bag", images(0, 2), topics=[("/other", COMPRESSED)])
    model = write_tiny_model(tmp_path / "m.onnx")
    with pytest.raises(BagError, match="no label on /other"):
        evaluate_bag(EvaluateOptions(file, model, IMAGES, "/other", engine="onnxruntime"))
