"""`seg_perception view` on topics: a real publisher and the real node, over DDS."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.seg_perception.node_process import START_S, Camera, NodeProcess
from test.seg_perception.tiny_model import CLASS_NAMES, INPUT_SIZE, PALETTE, grid_cells, tiny_labels, write_tiny_model
from test.seg_perception.view.recordings import arrays, class_colours, read_recording
from test.seg_perception.view.test_view_command import HEADLESS, ROOT, command, shadowed
from test.seg_perception.waiting import wait_until

pytest.importorskip("rerun", reason="needs Rerun: pip install 'seg_perception[view]'")
pytest.importorskip("rclpy", reason="needs rclpy: source a ROS 2 installation, or pip install 'seg_perception[ros]'")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def viewing(environment: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    """The real command, running."""
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment | {key: "" for key in ("DISPLAY", "WAYLAND_DISPLAY")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """One that still runs is killed, and what it said is shown: its test has failed."""
    if process.poll() is None:
        process.kill()
        print(*process.communicate(), sep="\n")


def random_rgb(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)


def test_images_of_a_topic_are_segmented_and_shown_with_their_stamps(
    tmp_path: Path, ros_environment: dict[str, str], ros_node: Any, model: Path
):
    camera = Camera(ros_node, "/view_camera/image", outputs=())
    file = tmp_path / "run.rrd"
    process = viewing(ros_environment, "/view_camera/image", "--model", model, "--record", file, "--wait", START_S)
    try:
        wait_until(lambda: camera.publisher.get_subscription_count() > 0, START_S, "the view's subscription")
        sent = {}
        for number in range(900):
            if number >= 40 and file.is_file() and file.stat().st_size > 250_000:  # over ten pictures; a busy machine misses some
                break
            rgb = random_rgb(number)
            stamp = camera.publish(rgb).header.stamp
            sent[stamp.sec * 10**9 + stamp.nanosec] = rgb
            try:
                process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
        bad = camera.message(random_rgb())
        bad.encoding = "jpeg2000"
        camera.publisher.publish(bad)
        wait_until(lambda: process.poll() is not None or file.stat().st_size > 20_000, START_S, "some pictures")
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=START_S)
    finally:
        end(process)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    labels = read_recording(file)["/camera/labels"]
    assert len(labels.stamps_ns) >= 10, (out, errors)
    for stamp_ns, seen in zip(labels.stamps_ns, arrays(labels), strict=True):
        np.testing.assert_array_equal(seen, tiny_labels(sent[stamp_ns]))
    assert f"shown       {len(labels.stamps_ns)} images" in out


def publish_until_it_ends(process: subprocess.Popen[str], cameras: list[Camera]) -> list[dict[int, np.ndarray]]:
    """A random image of each camera again and again, until the view has seen enough; the images by their stamps.

    The first one waits until the view listens to the cameras beside the node: it asks for a number of labels, and on a
    busy machine these could all come before it has heard where the node has its images from.
    """
    for camera in cameras:
        wait_until(lambda c=camera: c.publisher.get_subscription_count() >= 2, START_S, "the view's image subscription")
    sent: list[dict[int, np.ndarray]] = [{} for _ in cameras]

    def has_ended() -> bool:
        for number, camera in enumerate(cameras):
            rgb = random_rgb(100 * number + len(sent[number]))
            stamp = camera.publish(rgb).header.stamp
            sent[number][stamp.sec * 10**9 + stamp.nanosec] = rgb
        try:
            process.wait(timeout=0.15)
        except subprocess.TimeoutExpired:
            return False
        return True

    wait_until(has_ended, START_S, "the end of the view")
    return sent


@pytest.mark.parametrize("name", ["view_node", "view_nodes/left"])
def test_what_a_running_node_publishes_is_shown_without_a_second_model(
    tmp_path: Path, ros_environment: dict[str, str], ros_node: Any, model: Path, name: str
):
    node_name, _, camera_name = name.partition("/")
    topic = f"/{node_name}/image"
    parameters = {"cameras": "[right, left]", "left.image": topic} if camera_name else {"image": topic}
    node = NodeProcess(ros_environment, node_name, model=model, diagnostics_period_s=0.2, **parameters)
    file = tmp_path / "run.rrd"
    camera = Camera(ros_node, topic, name)
    try:
        node.wait_for("active: listening to")
        camera.connect()
        process = viewing(ros_environment, f"/{name}", "--record", file, "--wait", START_S, "--max-frames", 12)
        (sent,) = publish_until_it_ends(process, [camera])
        out, errors = process.communicate(timeout=START_S)
    finally:
        end(process)
        node.stop()
    assert process.returncode == 0, errors
    assert "shown       12 images" in out
    seen = read_recording(file)
    labels, superpixels = seen["/camera/labels"], seen["/camera/superpixels"]
    for stamp_ns, pixels in zip(labels.stamps_ns, arrays(labels), strict=True):
        np.testing.assert_array_equal(pixels, tiny_labels(sent[stamp_ns]))
    np.testing.assert_array_equal(arrays(superpixels)[0], grid_cells(INPUT_SIZE))
    assert set(superpixels.stamps_ns) & set(labels.stamps_ns)  # one timeline, so that they stand beside each other
    assert seen["/camera/image"].stamps_ns  # found by what the node says it listens to
    colours = class_colours(labels)
    assert [colours[i][0] for i in range(len(CLASS_NAMES))] == list(CLASS_NAMES)
    from importlib.util import find_spec

    if find_spec("vision_msgs") is None:  # LabelInfo has no colours, the JSON that stands in for it has
        assert [colours[i][1] for i in range(len(CLASS_NAMES))] == list(PALETTE)
    assert "/latency/infer_ms" in seen
    assert "/latency/latency_p95_ms" in seen


def test_several_cameras_of_a_node_are_shown_each_in_its_place(
    tmp_path: Path, ros_environment: dict[str, str], ros_node: Any, model: Path
):
    name = "view_several"
    cameras = [Camera(ros_node, f"/{name}/{camera}/image", f"{name}/{camera}") for camera in ("front", "rear")]
    topics = {f"{camera}.image": f"/{name}/{camera}/image" for camera in ("front", "rear")}
    node = NodeProcess(
        ros_environment, name, model=model, cameras=["front", "rear"], diagnostics_period_s=0.2, **topics
    )
    file = tmp_path / "run.rrd"
    try:
        node.wait_for("active: listening to")
        for camera in cameras:
            camera.connect()
        process = viewing(ros_environment, f"/{name}", "--record", file, "--wait", START_S, "--max-frames", 16)
        sent = publish_until_it_ends(process, cameras)
        out, errors = process.communicate(timeout=START_S)
    finally:
        end(process)
        node.stop()
    assert process.returncode == 0, errors
    assert "shown       16 images" in out
    seen = read_recording(file)
    for place, images in {"/front/camera": sent[0], "/rear/camera": sent[1]}.items():
        labels = seen[f"{place}/labels"]
        assert labels.stamps_ns
        for stamp_ns, pixels in zip(labels.stamps_ns, arrays(labels), strict=True):
            np.testing.assert_array_equal(pixels, tiny_labels(images[stamp_ns]))
        assert class_colours(labels)[1][0] == CLASS_NAMES[1]
        assert seen[f"{place}/image"].stamps_ns  # found by the camera's own status
        assert f"{place.removesuffix('/camera')}/latency/infer_ms" in seen
    assert "/camera/labels" not in seen


def test_cameras_are_those_with_labels_below_the_nodes_name():
    from seg_perception.view.topics import RAW, cameras_below

    topics = {f"/seg/{name}": [RAW] for name in ("rear/labels", "front/labels", "front/confidence", "a/b/labels")}
    topics |= {"/seg/odd/labels": ["std_msgs/msg/String"], "/other/top/labels": [RAW], "/segx/up/labels": [RAW]}
    assert cameras_below("/seg", topics) == ("front", "rear")


def test_depth_of_a_topic_becomes_points(tmp_path: Path, ros_environment: dict[str, str], ros_node: Any, model: Path):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, Image

    camera = Camera(ros_node, "/view_rgbd/image", outputs=())
    depth_publisher = ros_node.create_publisher(Image, "/view_rgbd/depth", qos_profile_sensor_data)
    info_publisher = ros_node.create_publisher(CameraInfo, "/view_rgbd/info", qos_profile_sensor_data)
    file, rgb = tmp_path / "run.rrd", random_rgb()
    height, width = INPUT_SIZE
    millimetres = np.full(INPUT_SIZE, 1500, np.uint16).tobytes()
    arguments = ["/view_rgbd/image", "--depth-topic", "/view_rgbd/depth", "--info-topic", "/view_rgbd/info"]
    process = viewing(
        ros_environment, *arguments, "--model", model, "--record", file, "--wait", START_S, "--max-frames", 10
    )

    def ended() -> bool:
        message = camera.message(rgb)
        info = CameraInfo(header=message.header, height=height, width=width)
        info.k = [10.0, 0.0, 15.5, 0.0, 10.0, 11.5, 0.0, 0.0, 1.0]
        info_publisher.publish(info)
        depth = Image(header=message.header, height=height, width=width, encoding="16UC1", step=2 * width)
        depth.data = millimetres
        depth_publisher.publish(depth)
        camera.publisher.publish(message)
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            return False
        return True

    try:
        wait_until(ended, START_S, "ten pictures")
        _, errors = process.communicate(timeout=START_S)
    finally:
        end(process)
    assert process.returncode == 0, errors
    points = read_recording(file)["/points"]
    assert points.stamps_ns
    xyz, classes = points.columns["Points3D:positions"][-1], points.columns["Points3D:class_ids"][-1]
    np.testing.assert_array_equal(classes, tiny_labels(rgb).reshape(-1))
    np.testing.assert_allclose(xyz[0], [-15.5 / 10 * 1.5, -11.5 / 10 * 1.5, 1.5], rtol=1e-6)


def test_a_topic_without_images_is_said(ros_environment: dict[str, str], ros_node: Any, tmp_path: Path):
    from sensor_msgs.msg import Imu

    ros_node.create_publisher(Imu, "/view_other/imu", 1)
    for name, wait_s, expected in (
        ("/view_gone/image", 1, "nothing publishes images on /view_gone/image after 1 s; "),
        ("/view_other/imu", START_S, "topic /view_other/imu is sensor_msgs/msg/Imu, expected sensor_msgs/msg/Image or"),
    ):
        process = viewing(ros_environment, name, "--wait", wait_s, "--record", tmp_path / "run.rrd")
        _, errors = process.communicate(timeout=2 * START_S)
        assert process.returncode == 2
        assert expected in errors
        assert "Traceback" not in errors


def test_topics_that_have_images_are_named():
    from seg_perception.view.topics import image_topics

    heard = {f"/camera_{n:02}/image": ["sensor_msgs/msg/Image"] for n in range(14)}
    heard |= {"/a/compressed": ["sensor_msgs/msg/CompressedImage"], "/b/imu": ["sensor_msgs/msg/Imu"]}
    text = image_topics(heard)
    assert "/a/compressed, /camera_00/image" in text
    assert text.endswith("and 3 more")
    assert "imu" not in text
    assert "ROS_DOMAIN_ID" in image_topics({"/b/imu": ["sensor_msgs/msg/Imu"]})


def test_a_topic_without_ros_says_what_is_missing(tmp_path: Path):
    (tmp_path / "rclpy.py").write_text("raise ImportError('no rclpy')\n")
    environment = HEADLESS | {"PYTHONPATH": shadowed(tmp_path)}
    done = subprocess.run(
        command("/camera/image_raw"), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "topic /camera/image_raw needs ROS 2" in done.stderr
    assert "seg_perception[ros]" in done.stderr


def test_waiting_messages_are_bounded_by_kind_and_the_oldest_goes():
    from seg_perception.view.node_outputs import Arrivals

    arrivals = Arrivals(most=2)
    for number in range(5):
        arrivals.put(("front", "labels"), number)
    arrivals.put(("front", "points"), "cloud")
    arrivals.put(("rear", "labels"), 9)  # another camera's are another kind
    taken = [arrivals.take(0.0) for _ in range(5)]
    assert taken == [
        (("front", "labels"), 3),
        (("front", "labels"), 4),
        (("front", "points"), "cloud"),
        (("rear", "labels"), 9),
        None,
    ]
    assert arrivals.dropped == 3


def test_points_of_a_cloud_are_read_by_its_fields(ros_environment: dict[str, str]):
    from sensor_msgs.msg import PointCloud2, PointField

    from seg_perception.cloud import FIELDS, POINT
    from seg_perception.view.node_outputs import labelled_points

    points = np.zeros((2, 3), POINT)
    points["x"], points["z"], points["label"] = 1.5, 2.5, np.arange(6).reshape(2, 3)
    points["z"][0, 1] = np.nan
    fields = [PointField(name=name, offset=offset, datatype=kind, count=1) for name, offset, kind in FIELDS]
    cloud = PointCloud2(height=2, width=3, fields=fields, point_step=20, row_step=60, data=points.tobytes())
    read = labelled_points(cloud)
    assert read["label"].tolist() == [0, 2, 3, 4, 5]
    assert set(read["x"].tolist()) == {1.5}
    cloud.fields = [field for field in fields if field.name != "label"]
    with pytest.raises(ValueError, match="expected x y z as float32 and label as uint8"):
        labelled_points(cloud)
