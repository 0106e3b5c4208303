"""Files of settings: classes, parameters, and what a folder says of its recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.bag.parts import METADATA, missing_parts
from seg_perception.classes import ClassMapError, read_class_map
from seg_perception.plain_yaml import PlainYamlError, read_plain_yaml
from seg_perception.ros.parameter_files import ParameterFileError, check_parameter_files
from test.seg_perception.fuzz.fuzzing import answered, broken, fuzz

NAMES = ("floor", "rug", "wall")
PALETTE = np.zeros((3, 3), np.uint8)

WORDS = st.sampled_from(
    [*NAMES, "classes", "of", "color", "confidence", "foreground", "confidence_threshold", "ros__parameters"]
) | st.text(max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.dates() | st.binary(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)
TREES = st.builds(
    lambda classes, rest: {"classes": classes, **rest},
    st.dictionaries(WORDS, VALUES | st.sampled_from(NAMES), min_size=1, max_size=4),
    st.fixed_dictionaries({}, optional={"foreground": VALUES, "confidence_threshold": SCALARS, "x": VALUES}),
)
# Pieces of YAML, put together without any plan.
PIECES = st.lists(
    st.sampled_from(
        [
            "classes:",
            " ",
            "\n",
            "  ",
            "- ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            ": ",
            "a",
            "1",
            "&a ",
            "*a",
            "<<: ",
            "!!int ",
            "!!set ",
            "!!x ",
            "|",
            ">",
            "? ",
            "'",
            '"',
            "# ",
            "---\n",
            "...",
            "%YAML 9\n",
            "0x",
            "1:2",
            "2001-01-01",
            "~",
            "\t",
            "\\",
            "\ufeff",
            "\x85",
        ]
    ),
    max_size=40,
).map("".join)


def dumped(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


FILES = TREES.map(dumped) | PIECES.map(str.encode) | broken(TREES.map(dumped)) | st.binary(max_size=60)


@fuzz(400)
@given(FILES)
def test_a_classes_file_is_a_table_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with answered(ClassMapError):
        read_class_map(path, NAMES, PALETTE)


@fuzz(200)
@given(FILES)
def test_a_parameter_file_passes_or_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with answered(ParameterFileError):
        check_parameter_files(["--params-file", str(path)])


@fuzz(200)
@given(FILES, st.lists(VALUES, max_size=3))
def test_the_metadata_of_a_recording_is_used_or_told(tmp_path: Path, content: bytes, names: list[object]) -> None:
    (tmp_path / METADATA).write_bytes(content)
    with answered():
        assert len(missing_parts(tmp_path)) <= 3
    (tmp_path / METADATA).write_bytes(dumped({"rosbag2_bagfile_information": {"relative_file_paths": names}}))
    with answered():
        assert len(missing_parts(tmp_path)) <= 3


def bombs() -> dict[str, str]:
    """Kilobytes of YAML that stand for gigabytes."""
    lists = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 12)
    )
    merged = "a0: &a0 {a: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
    return {"lists": lists, "merged": merged, "deep": "[" * 100_000, "dashes": "- " * 100_000, "number": "9" * 200_000}


@pytest.mark.parametrize("kind", bombs())
def test_kilobytes_that_stand_for_gigabytes_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(bombs()[kind])
    with answered(), pytest.raises(PlainYamlError):
        read_plain_yaml(path, 1 << 20)


def test_a_device_without_an_end_is_no_file() -> None:
    with pytest.raises(PlainYamlError, match="is not a file"):
        read_plain_yaml(Path("/dev/zero"), 1 << 20)
