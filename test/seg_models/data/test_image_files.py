"""Images and masks are whole, and masks hold the ids that were written, or they are refused in one line."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_models.data.folder import FolderDataError, FolderDataset
from seg_models.data.image_files import ImageFileError, read_image, read_mask
from test import broken_files
from test.broken_files import png, png_chunk
from test.seg_models.data.test_folder import write_folder

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def encoded(suffix: str, *options: int) -> bytes:
    """PICTURE as a file."""
    return cv2.imencode(suffix, PICTURE, options)[1].tobytes()


FILES = {
    "png": encoded(".png"),
    "jpeg": encoded(".jpg"),
    "progressive jpeg": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg with restarts": encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
}


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_ids_of_any_number_of_bits_are_those_in_the_file(tmp_path, bits):
    ids = [[value % 2**bits for value in range(row, row + 11)] for row in range(5)]
    path = tmp_path / "mask.png"
    path.write_bytes(png(ids, bits))
    assert read_mask(path).tolist() == ids


def test_a_data_set_with_a_mask_of_one_bit_has_its_two_classes(tmp_path):
    write_folder(tmp_path, 1)
    (tmp_path / "labels/train/0000.png").write_bytes(png([[0] * 16 + [1] * 16] * 24, 1))
    labels = FolderDataset([tmp_path], "train").read(0)[1]
    assert labels.dtype == np.uint8
    assert labels[:, :16].max() == 0
    assert labels[:, 16:].min() == labels[:, 16:].max() == 1


PALETTE = png_chunk(b"PLTE", bytes(range(6)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png([[0, 1] * 16] * 24, 1, 3, PALETTE), "is a palette picture; expected ids in a grey PNG"),
        (png([[0, 1] * 16] * 24, 8, 3, PALETTE), "is a palette picture"),
        (png([[0, 0, 1] * 32] * 24, 8, 2), "is in colour; expected ids in a grey PNG"),
        (png([[0, 0, 1, 255] * 32] * 24, 8, 6), "is in colour with transparency"),
        (png([[0, 255] * 32] * 24, 8, 4), "is grey with transparency"),
        (FILES["jpeg"], "is a JPEG, which changes ids"),
        (b"", "is empty"),
        (b"GIF89a", "is neither PNG nor JPEG"),
        (png([[0] * 32] * 24, 8)[:-12], "it is a PNG that is cut off"),
        (png([[700] * 32] * 24, 16), r"holds ids \[700\]; expected 0..1 or 255"),
        (png([[0] * 32] * 5, 8), r"is \(5, 32\), its image \(24, 32\); same size expected"),
    ],
)
def test_masks_are_called_what_they_are(tmp_path, content, message):
    write_folder(tmp_path, 1)
    path = tmp_path / "labels/train/0000.png"
    path.write_bytes(content)
    with pytest.raises(FolderDataError, match=message) as error:
        FolderDataset([tmp_path], "train").read(0)
    assert str(error.value).startswith(str(path))
    assert str(error.value).isprintable()


@pytest.mark.parametrize("kind", FILES)
def test_whole_images_are_as_opencv_reads_them_and_every_cut_is_refused(tmp_path, kind):
    path = tmp_path / "image"
    content = FILES[kind]
    path.write_bytes(content + b"\0\0 what some cameras add")
    assert np.array_equal(read_image(path), cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
    for end in [*range(0, len(content), 131), len(content) - 2, len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(ImageFileError, match=r"cut off|is empty|neither PNG nor JPEG"):
            read_image(path)


def test_a_thumbnails_end_is_not_the_images(tmp_path):
    thumbnail = FILES["jpeg"]
    exif = b"Exif\0\0" + thumbnail
    content = b"\xff\xd8\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + FILES["progressive jpeg"][2:]
    (tmp_path / "whole.jpg").write_bytes(content)
    assert read_image(tmp_path / "whole.jpg").shape == PICTURE.shape
    (tmp_path / "half.jpg").write_bytes(content[: len(content) - 2000])
    with pytest.raises(ImageFileError, match="a JPEG that is cut off"):
        read_image(tmp_path / "half.jpg")


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path):
    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"x") + png_chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(content)
    for read in (read_image, read_mask):
        with pytest.raises(ImageFileError, match=r"is 30000 x 30000 pixels; expected 1 to 268,435,456"):
            read(tmp_path / "huge.png")


@pytest.mark.parametrize("seed", broken_files.rounds(40))
def test_broken_images_are_refused_in_one_line_or_decoded_to_their_size(tmp_path, seed):
    path = tmp_path / "broken"
    content = FILES[list(FILES)[seed % len(FILES)]]
    how, broken = broken_files.damaged_bytes(content, seed)
    path.write_bytes(broken)
    try:
        image = read_image(path)
    except ImageFileError as refused:
        line = str(refused)
    else:
        line = str(path)
        assert image.dtype == np.uint8
    assert line.startswith(str(path)), how
    assert line.isprintable(), how
