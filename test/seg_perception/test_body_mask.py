"""The mask of the robot's own body: files that are one, files that are none, sizes, cells."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_perception.body_mask import BodyMask, BodyMaskError, read_body_mask
from test.seg_perception.tiny_model import CELL, GRID, INPUT_SIZE


def lower_half(size: tuple[int, int]) -> np.ndarray:
    body = np.zeros(size, bool)
    body[size[0] // 2 :] = True
    return body


@pytest.mark.parametrize("form", ["grey", "one", "colour", "alpha", "16 bits"])
def test_what_is_not_black_and_not_transparent_is_the_body(tmp_path: Path, form: str):
    body = lower_half((6, 8))
    image = {
        "grey": body.astype(np.uint8) * 255,
        "one": body.astype(np.uint8),
        "colour": body[..., None] * np.array([0, 0, 7], np.uint8),
        "alpha": np.concatenate([np.full((6, 8, 3), 200), body[..., None] * 255], -1).astype(np.uint8),
        "16 bits": body.astype(np.uint16) * 3,
    }[form]
    path = tmp_path / "body.png"
    cv2.imwrite(str(path), image)
    np.testing.assert_array_equal(read_body_mask(path).at((6, 8)) == 255, body)


def test_it_is_there_at_any_size_by_the_nearest_pixel_and_made_once():
    mask = BodyMask(lower_half((6, 8)))
    np.testing.assert_array_equal(mask.at((48, 100)), lower_half((48, 100)) * np.uint8(255))
    assert mask.at((48, 100)) is mask.at((48, 100))
    assert not mask.at((3, 1)).flags.writeable


def test_cells_that_are_the_bodys_by_half_count_as_the_body():
    body = np.zeros(INPUT_SIZE, bool)
    body[4:8] = True  # half of the cells of the first row
    body[8:11] = True  # three eighths of those of the second
    cells = BodyMask(body).in_cells(INPUT_SIZE, GRID, CELL)
    np.testing.assert_array_equal(cells, np.arange(3)[:, None] == np.zeros((1, 4)))


def test_a_grid_that_hangs_over_counts_the_inputs_last_pixels():
    body = np.zeros((10, 10), bool)
    body[9:] = True
    np.testing.assert_array_equal(BodyMask(body).in_cells((10, 10), (2, 2), (8, 8)), [[0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "cannot be decoded: it starts with"),
        (b"hello, world", "cannot be decoded: it starts with"),
        (cv2.imencode(".png", np.full((4, 4), 9, np.uint8))[1].tobytes()[:-20], "cut short or damaged"),
        (cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes(), "it is black all over"),
        (cv2.imencode(".png", np.full((4, 4), 9, np.uint8))[1].tobytes(), "no pixel of it is black"),
        (b"P5 90000 90000 255\n0", "is 90000x90000 pixels in"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, content: bytes | None, said: str):
    path = tmp_path / "body.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BodyMaskError, match="body mask") as error:
        read_body_mask(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_is_refused(tmp_path: Path):
    with pytest.raises(BodyMaskError, match="is not a file"):
        read_body_mask(tmp_path)
