"""The size of masks, as people write it."""

from __future__ import annotations

import pytest

from seg_perception.output_size import parse_output_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [("camera", (480, 640)), ("network", (384, 512)), ("320x200", (200, 320)), ("1x8192", (8192, 1))],
)
def test_sizes(text: str, expected: tuple[int, int]):
    size = parse_output_size(text)
    assert size is not None
    assert size.of((480, 640), (384, 512)) == expected


@pytest.mark.parametrize(
    "text", ["", "Camera", "320", "320x", "0x4", "4x-1", "8193x1", "1x99999", "320X200", "3.2x2", "1x1x1"]
)
def test_what_is_none(text: str):
    assert parse_output_size(text) is None
