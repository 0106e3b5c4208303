"""Deployment models and recordings, damaged: read as far as they make sense, or refused in one line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.bag.reader import BagError, MessageError, open_bag
from seg_perception.model.model_file import REQUIRED_KEYS, ModelFileError, read_model_info
from seg_perception.model.onnx_header import OnnxFormatError, read_onnx_header
from test.seg_perception.broken_files import field, varint
from test.seg_perception.fuzz.fuzzing import answered, broken, fuzz
from test.seg_perception.tiny_bag import image_message, write_bag
from test.seg_perception.tiny_model import write_tiny_association_model, write_tiny_model

MODELS: dict[int, bytes] = {}
BAGS: dict[str, bytes] = {}


@pytest.fixture(scope="module", autouse=True)
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small whole files of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    for number, write in enumerate((write_tiny_model, write_tiny_association_model)):
        MODELS[number] = write(folder / f"{number}.onnx").read_bytes()
    pictures = [("/a", n + 1, image_message(np.zeros((2, 3, 3), np.uint8), n, "rgb8")) for n in range(3)]
    for storage in ("mcap", "sqlite3"):
        BAGS[storage] = write_bag(folder / storage, pictures, storage).read_bytes()


def assert_read_or_refused(path: Path) -> None:
    with answered(ModelFileError):
        json.dumps(read_model_info(path).to_dict(), allow_nan=False).encode("utf-8")


@fuzz(200)
@given(st.data())
def test_a_damaged_model_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data.draw(broken(st.sampled_from(sorted(MODELS)).map(MODELS.__getitem__))))
    assert_read_or_refused(path)


NUMBERS = st.integers(0, 30)
MESSAGES = st.recursive(
    st.binary(max_size=12),
    lambda inner: st.lists(
        st.builds(field, NUMBERS, inner)
        | st.builds(lambda n, v: varint(n << 3) + varint(v), NUMBERS, st.integers(0, 2**70)),
        max_size=5,
    ).map(b"".join),
    max_leaves=25,
)


@fuzz(300)
@given(MESSAGES)
def test_made_up_protocol_buffers_are_an_outline_or_an_error(tmp_path: Path, message: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(varint(1 << 3) + varint(10) + field(7, message) + message)
    with answered(OnnxFormatError):
        read_onnx_header(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["mean", "std", "a"]), inner, max_size=3)
    ),
    max_leaves=12,
).map(json.dumps)
KEYS = st.sampled_from(
    [*REQUIRED_KEYS, "form", "superpixel_grid", "cell", "feature_cell", "normalization", "name", "license"]
)


@fuzz(200)
@given(st.booleans(), st.dictionaries(KEYS, JSON | st.text(max_size=8), min_size=1, max_size=3))
def test_any_metadata_is_read_or_refused(tmp_path: Path, is_association: bool, changes: dict[str, str]) -> None:
    write = write_tiny_association_model if is_association else write_tiny_model
    assert_read_or_refused(write(tmp_path / "m.onnx", changes=dict(changes)))


def assert_bag_is_read_or_refused(path: Path) -> None:
    with answered(BagError), open_bag(path) as bag:
        for message in bag.messages():
            assert isinstance(message.data, bytes)
            with answered(MessageError):
                bag.deserialize(message)
        assert len(bag.damage.splitlines()) <= 1


@fuzz(150)
@given(st.data(), st.sampled_from(["mcap", "sqlite3"]))
def test_a_damaged_recording_is_read_or_refused(tmp_path: Path, data: st.DataObject, storage: str) -> None:
    path = tmp_path / ("b.mcap" if storage == "mcap" else "b.db3")
    path.write_bytes(data.draw(broken(st.just(BAGS[storage]))))
    assert_bag_is_read_or_refused(path)


RECORDS = st.lists(
    st.tuples(
        st.integers(0, 16) | st.integers(0, 255), st.binary(max_size=90), st.sampled_from([0, 0, 0, 1, 2**31, 2**63])
    ),
    max_size=8,
).map(lambda records: b"".join(bytes([kind]) + (len(c) + lie).to_bytes(8, "little") + c for kind, c, lie in records))


@fuzz(300)
@given(RECORDS, st.booleans())
def test_made_up_records_are_read_or_refused(tmp_path: Path, records: bytes, is_closed: bool) -> None:
    magic = BAGS["mcap"][:8]
    path = tmp_path / "b.mcap"
    path.write_bytes(magic + records + (magic if is_closed else b""))
    assert_bag_is_read_or_refused(path)


CELLS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=9) | st.binary(max_size=40)


@fuzz(100)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=3), st.tuples(CELLS, CELLS))
def test_a_database_with_anything_in_its_columns_is_read_or_refused(
    tmp_path: Path, rows: list[tuple[object, object, object]], topic: tuple[object, object]
) -> None:
    path = tmp_path / "b.db3"
    path.write_bytes(BAGS["sqlite3"])
    with closing(sqlite3.connect(path)) as database:
        names = ", ".join(column[1] for column in database.execute("PRAGMA table_info(topics)"))
        database.execute(f"CREATE TABLE anything AS SELECT {names} FROM topics")  # without its constraints
        database.execute("DROP TABLE topics")
        database.execute("ALTER TABLE anything RENAME TO topics")
        database.execute("UPDATE topics SET name = ?, type = ?", topic)
        database.execute("DROP TABLE messages")
        database.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data)")
        database.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (?, 5, x'00')", [row[:1] for row in rows]
        )
        database.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", [row[1:] for row in rows]
        )
        database.commit()
    assert_bag_is_read_or_refused(path)
