from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from seg_perception.bag.reader import BagError, MessageError, open_bag
from test.seg_perception.tiny_bag import COMPRESSED, IMAGE, compressed_message, image_message, write_bag

SECOND = 10**9
STORAGES = ("mcap", "sqlite3")


def frames(count: int, size: tuple[int, int] = (24, 32)) -> list[tuple[str, int, object]]:
    rng = np.random.default_rng(0)
    result: list[tuple[str, int, object]] = []
    for index in range(count):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        result.append(("/camera/image_raw", index * SECOND, image_message(pixels, index * SECOND, "rgb8")))
        result.append(("/camera/small", index * SECOND + 1, compressed_message(pixels, index * SECOND, "png")))
    return result


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("lone", [False, True])
def test_folder_and_lone_file_give_the_same_messages_in_order(tmp_path: Path, storage: str, lone: bool) -> None:
    file = write_bag(tmp_path / "bag", frames(3), storage)
    if lone:
        (tmp_path / "bag" / "metadata.yaml").unlink()
    with open_bag(file if lone else file.parent) as bag:
        assert {name: (topic.type, topic.count) for name, topic in bag.topics().items()} == {
            "/camera/image_raw": (IMAGE, 3),
            "/camera/small": (COMPRESSED, 3),
        }
        assert (bag.start_ns, bag.end_ns) == (0, 2 * SECOND + 1)
        messages = list(bag.messages())
        assert [message.time_ns for message in messages] == [0, 1, SECOND, SECOND + 1, 2 * SECOND, 2 * SECOND + 1]
        assert bag.deserialize(messages[2]).header.stamp.sec == 1
        assert [message.topic for message in bag.messages(["/camera/small"])] == ["/camera/small"] * 3
        assert not bag.truncated


@pytest.mark.parametrize("storage", STORAGES)
def test_a_folder_without_metadata_is_read_with_a_warning(
    tmp_path: Path, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_bag(tmp_path / "bag", frames(3), storage)
    (file.parent / "metadata.yaml").unlink()
    with open_bag(file.parent) as bag:
        assert len(list(bag.messages())) == 6
        assert "metadata.yaml is missing, its files are whole" in bag.damage
    assert len(caplog.records) == 1


def test_parts_of_a_split_recording_without_metadata_follow_each_other(tmp_path: Path) -> None:
    whole = frames(4)
    for part, name in ((whole[:4], "bag_9"), (whole[4:], "bag_10")):
        file = write_bag(tmp_path / name, part)
        (tmp_path / "split").mkdir(exist_ok=True)
        file.rename(tmp_path / "split" / file.name)
    with open_bag(tmp_path / "split") as bag:
        assert [message.time_ns for message in bag.messages()] == [time_ns for _, time_ns, _ in whole]
        assert bag.topics()["/camera/small"].count == 4


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kept", [0.35, 0.6, 0.97])
def test_a_cut_recording_is_read_as_far_as_it_is_whole(
    tmp_path: Path, storage: str, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    # 240x320x3 frames: some 40 messages of up to 230 kB, so that several MCAP chunks (1 MB) and many pages are cut.
    file = write_bag(tmp_path / "bag", frames(20, (240, 320)), storage)
    with open_bag(file) as bag:
        complete = [(message.topic, message.data) for message in bag.messages()]
    data = file.read_bytes()
    lone = tmp_path / f"cut{file.suffix}"
    lone.write_bytes(data[: int(kept * len(data))])
    caplog.clear()
    with caplog.at_level(logging.WARNING), open_bag(lone) as bag:
        rest = [(message.topic, message.data) for message in bag.messages()]
        assert bag.truncated
        assert sum(topic.count for topic in bag.topics().values()) == len(rest)
    assert rest == complete[: len(rest)]
    # Whatever is lost beyond the cut is one message, or a page of the database's tree.
    assert len(rest) >= int(kept * len(complete)) - 3
    assert len(caplog.records) == 1
    assert "ends early" in caplog.text


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_chunk_that_is_cut_gives_its_first_messages(tmp_path: Path, compression: str) -> None:
    file = write_bag(tmp_path / "bag", frames(8, (120, 160)))
    packed = tmp_path / "packed.mcap"
    packed.write_bytes(compress_chunks(file.read_bytes(), compression))
    with open_bag(packed) as bag:
        complete = [message.data for message in bag.messages()]
    assert len(complete) == 16
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(packed.read_bytes()[: packed.stat().st_size * 6 // 10])
    with open_bag(cut) as bag:
        rest = [message.data for message in bag.messages()]
    assert 4 <= len(rest) < 16
    assert rest == complete[: len(rest)]


def compress_chunks(data: bytes, compression: str) -> bytes:
    """An MCAP file's chunks compressed; index and footer stay behind, the end mark remains."""
    import lz4.frame

    from seg_perception.bag.storage_check import MCAP_MAGIC, zstd

    compress = zstd.compress if compression == "zstd" else lz4.frame.compress
    result = bytearray(MCAP_MAGIC)
    position = len(MCAP_MAGIC)
    while data[position] != 0x0F:  # data end
        kind, size = data[position], int.from_bytes(data[position + 1 : position + 9], "little")
        content = data[position + 9 : position + 9 + size]
        position += 9 + size
        if kind == 0x06:
            packed = compress(content[40:])  # after times, size, CRC, an empty name and the length
            name = compression.encode()
            content = content[:28] + len(name).to_bytes(4, "little") + name + len(packed).to_bytes(8, "little") + packed
        elif kind == 0x07:
            continue
        result += bytes([kind]) + len(content).to_bytes(8, "little") + content
    result += b"\x0f" + (4).to_bytes(8, "little") + bytes(4)
    result += b"\x02" + (20).to_bytes(8, "little") + bytes(20) + MCAP_MAGIC
    return bytes(result)


def test_a_damaged_chunk_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_bag(tmp_path / "bag", frames(20, (240, 320)))
    data = bytearray(file.read_bytes())
    first_chunk = data.index(b"\x06", 9 + 8)
    # rosbags writes no checksums; give the first chunk a wrong one, as a damaged byte would make it.
    data[first_chunk + 9 + 24 : first_chunk + 9 + 28] = (12345).to_bytes(4, "little")
    file.write_bytes(data)
    with caplog.at_level(logging.WARNING), open_bag(file) as bag:
        messages = list(bag.messages())
        assert 30 <= len(messages) < 40
        assert [message.time_ns for message in messages] == sorted(message.time_ns for message in messages)
        assert bag.truncated
    assert "has 1 damaged place, left out" in caplog.text


@pytest.mark.parametrize("storage", STORAGES)
def test_damaged_bytes_anywhere_are_read_or_refused_in_one_line(tmp_path: Path, storage: str) -> None:
    file = write_bag(tmp_path / "bag", frames(4, (60, 80)), storage)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    opened = 0
    for number in range(60):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), 3):
            data[position : position + 8] = rng.bytes(8)
        damaged = tmp_path / f"damaged{number}{file.suffix}"
        damaged.write_bytes(data)
        problem = ""
        try:
            with open_bag(damaged) as bag:
                assert len(list(bag.messages())) <= 8
                problem = bag.damage
                opened += 1
        except BagError as error:
            problem = str(error)
        assert "\n" not in problem
    assert opened > 30


def test_a_message_that_is_no_whole_image_is_reported(tmp_path: Path) -> None:
    messages = [*frames(1), ("/camera/image_raw", SECOND, b"\x00\x01\x00\x00\x01\x02")]
    file = write_bag(tmp_path / "bag", messages)
    with open_bag(file) as bag:
        whole, broken = bag.messages(["/camera/image_raw"])
        assert bag.deserialize(whole).width == 32
        with pytest.raises(MessageError, match=r"/camera/image_raw at 1000000000 ns \(6 bytes\) is no whole"):
            bag.deserialize(broken)


def test_a_missing_topic_lists_those_there_are(tmp_path: Path) -> None:
    with open_bag(write_bag(tmp_path / "bag", frames(1))) as bag:
        with pytest.raises(BagError, match=r"no topic '/rgb'; it has: /camera/image_raw \(sensor_msgs/msg/Image, 1"):
            list(bag.messages(["/rgb"]))
        with pytest.raises(BagError, match="is sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image"):
            bag.topic("/camera/small", [IMAGE])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mcap", None, "does not exist"),
        ("empty.mcap", b"", "is empty"),
        ("text.mcap", b"this is no recording", "does not start as an MCAP file"),
        ("text.db3", b"this is no recording", "no readable rosbag2 database"),
        ("notes.txt", b"x", "is a .txt file; expected a rosbag2 folder, .mcap or .db3"),
        ("folder", "a folder", "holds no recording"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | str | None, message: str
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(BagError, match=message) as caught:
        open_bag(path)
    assert "\n" not in str(caught.value)
