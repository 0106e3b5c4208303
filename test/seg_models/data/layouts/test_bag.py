"""Recordings with labels as training data."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from torch.utils.data import DataLoader

from seg_models.data.folder import FolderDataset
from seg_models.data.layouts.samples import FolderDataError
from seg_models.losses import IGNORE
from test.seg_models.data.test_folder import CLASSES

STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
LABELS = np.array([[0, 1, IGNORE], [1, 1, 0]], np.uint8)


def header(stamp_ns: int):
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def raw(pixels: np.ndarray, stamp_ns: int, encoding: str):
    rows = np.pad(pixels.reshape(len(pixels), -1), ((0, 0), (0, 5)))  # drivers pad rows
    return STORE.types[IMAGE](
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def png(pixels: np.ndarray, stamp_ns: int):
    data = cv2.imencode(".png", pixels)[1].reshape(-1)
    return STORE.types[COMPRESSED](header=header(stamp_ns), format="png", data=data)


def bag(folder: Path, compressed: bool, storage: StoragePlugin, labels: np.ndarray = LABELS) -> None:
    """Three images, the second without a mask; masks arrive after the next image."""
    colours = [np.full((2, 3, 3), (value, 2, 3), np.uint8) for value in (10, 20, 30)]  # BGR
    with Writer(folder, version=8, storage_plugin=storage) as writer:
        image_type, label_type = (COMPRESSED, COMPRESSED) if compressed else (IMAGE, IMAGE)
        images = writer.add_connection("/camera/image", image_type, typestore=STORE)
        masks = writer.add_connection("/camera/labels", label_type, typestore=STORE)
        for index, colour in enumerate(colours):
            stamp = 10**9 + index
            image = png(colour, stamp) if compressed else raw(colour, stamp, "bgr8")
            writer.write(images, 2 * 10**9 + index * 100, STORE.serialize_cdr(image, image_type))
            if index != 1:
                mask = png(labels, stamp) if compressed else raw(labels, stamp, "mono8")
                writer.write(masks, 2 * 10**9 + index * 100 + 150, STORE.serialize_cdr(mask, label_type))


def recordings(root: Path, *bags: tuple[bool, StoragePlugin], **keys: object) -> Path:
    topics = {"image_topic": "/camera/image", "label_topic": "/camera/labels"} | keys
    (root / "train").mkdir(parents=True)
    (root / "classes.yaml").write_text(yaml.safe_dump({"classes": CLASSES, **topics}))
    for index, (compressed, storage) in enumerate(bags):
        bag(root / f"train/drive{index}", compressed, storage)
    return root


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_frames_with_a_mask_of_the_same_stamp_are_read(tmp_path, compressed, storage):
    data = FolderDataset([recordings(tmp_path, (compressed, storage))], "train", kind="bag")
    assert len(data) == 2
    for index, blue in enumerate((10, 30)):
        image, labels = data.read(index)
        assert image[0, 0].tolist() == [3, 2, blue]
        assert labels.tolist() == LABELS.tolist()
    assert len({path.stem for path in data.images}) == 2


def test_several_recordings_are_one_split_also_a_lone_file_and_in_loader_processes(tmp_path):
    root = recordings(tmp_path, (False, StoragePlugin.MCAP), (True, StoragePlugin.SQLITE3))
    (lone,) = (root / "train/drive0").glob("*.mcap")
    lone.rename(root / "train/alone.mcap")
    (root / "train/drive0/metadata.yaml").unlink()
    data = FolderDataset([root], "train", kind="bag")
    assert len(data) == 4
    alone = [data.read(index)[0].tolist() for index in range(4)]
    for context in ("fork", "spawn"):
        loader = DataLoader(data, None, num_workers=1, multiprocessing_context=multiprocessing.get_context(context))
        assert [image.permute(1, 2, 0).tolist() for image, _ in loader] == alone


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FolderDataError, match=r"no recordings in .*train, rosbag2 folders"):
        FolderDataset([recordings(tmp_path / "a")], "train", kind="bag")
    root = recordings(tmp_path / "b", (False, StoragePlugin.MCAP), label_topic="/truth")
    with pytest.raises(
        FolderDataError, match=r"has no images on /truth; its topics: /camera/image \(sensor_msgs/msg/Image"
    ):
        FolderDataset([root], "train", kind="bag")
    root = recordings(tmp_path / "c", (False, StoragePlugin.MCAP), label_topic="")
    with pytest.raises(FolderDataError, match=r"names no image_topic and label_topic"):
        FolderDataset([root], "train", kind="bag")


def test_ids_outside_the_table_name_the_recording_and_the_moment(tmp_path):
    root = recordings(tmp_path)
    bag(root / "train/drive", False, StoragePlugin.MCAP, np.full((2, 3), 7, np.uint8))
    with pytest.raises(FolderDataError, match=r"drive/camera_labels/2000000150 holds ids \[7\]; expected 0..1 or 255"):
        FolderDataset([root], "train", kind="bag").read(0)
