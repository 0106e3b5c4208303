from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from seg_perception.bag.canvas import CAPTION_HEIGHT, PANEL_WIDTH
from seg_perception.bag.video import SegmentationVideo
from seg_perception.model.model_file import ModelInfo, read_model_info
from seg_perception.segmenter import Segmentation
from test.seg_perception.tiny_model import PALETTE, write_tiny_model


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return read_model_info(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def frame(size: tuple[int, int], label: int) -> tuple[np.ndarray, Segmentation]:
    labels = np.full(size, label, np.uint8)
    cells = np.arange(size[1], dtype=np.uint16)[None] // 8
    return np.full((*size, 3), 60, np.uint8), Segmentation(labels, None, np.repeat(cells, size[0], axis=0), {})


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while True:
        readable, picture = capture.read()
        if not readable:
            capture.release()
            return frames, rate
        frames.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def test_a_video_has_every_frame_with_its_panels(tmp_path: Path, info: ModelInfo) -> None:
    path = tmp_path / "new" / "video.mp4"
    video = SegmentationVideo(path, info, 12.5)
    labels = [0, 1, 2, 3] * 3
    for label in labels:
        video.add(*frame((48, 64), label))
    assert video.close() == ""
    pictures, rate = read_video(path)
    assert len(pictures) == video.frames == len(labels)
    assert rate == pytest.approx(12.5)
    assert pictures[0].shape[1] == 3 * PANEL_WIDTH
    middle = CAPTION_HEIGHT + 180  # panels are 480x360
    for picture, label in zip(pictures, labels, strict=True):
        camera, mask = picture[middle, PANEL_WIDTH // 2], picture[middle, PANEL_WIDTH * 3 // 2]
        expected = 0.4 * 60 + 0.6 * np.array(PALETTE[label])
        # The codec is lossy and halves the resolution of colour.
        assert np.abs(camera.astype(int) - 60).max() < 16
        assert np.abs(mask.astype(int) - expected).max() < 24


def test_images_of_another_size_are_fitted_into_the_first_ones_panels(tmp_path: Path, info: ModelInfo) -> None:
    video = SegmentationVideo(tmp_path / "v.mp4", info, 10.0)
    for size in ((48, 64), (100, 31), (1, 1)):
        video.add(*frame(size, 1))
    assert video.close() == ""
    assert len(read_video(tmp_path / "v.mp4")[0]) == 3


def test_a_video_without_frames_says_so(tmp_path: Path, info: ModelInfo) -> None:
    assert "no frame came" in SegmentationVideo(tmp_path / "v.mp4", info, 10.0).close()
    assert not (tmp_path / "v.mp4").exists()


def test_a_video_is_vp9_in_colours_that_browsers_take(tmp_path: Path, info: ModelInfo) -> None:
    video = SegmentationVideo(tmp_path / "v.mp4", info, 10.0)
    for _ in range(25):
        video.add(*frame((48, 64), 1))
    assert video.close() == ""
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("vp9", "yuv420p")
        keys = sum(packet.is_keyframe for packet in container.demux(stream) if packet.size)
    assert keys >= 3  # one a second, for the scrubber


def test_a_failed_video_leaves_the_one_that_was_there(tmp_path: Path, info: ModelInfo) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"the earlier one")
    video = SegmentationVideo(path, info, 10.0)
    video.add(*frame((48, 64), 1))
    video.frames += 1
    assert video.close()
    assert path.read_bytes() == b"the earlier one"
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_without_pyav_the_run_goes_on_and_says_what_to_install(
    tmp_path: Path, info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    video = SegmentationVideo(tmp_path / "v.mp4", info, 10.0)
    video.add(*frame((48, 64), 1))
    video.add(*frame((48, 64), 1))
    assert "pip install 'seg_perception[video]'" in video.close()
    assert video.frames == 0


def test_a_video_that_does_not_read_back_is_reported(tmp_path: Path, info: ModelInfo) -> None:
    video = SegmentationVideo(tmp_path / "v.mp4", info, 10.0)
    video.add(*frame((48, 64), 1))
    video.frames += 1  # as if the codec had swallowed one
    assert "wrote 2 frames, 1 can be read back" in video.close()
