"""~/points of the real node over DDS: of depth and of clouds, of one camera and of several, and what bad depth costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_perception.cdr import Header, write_image
from seg_perception.cloud import POINT
from test.seg_perception.node_diagnostics import Diagnostics
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import enable_camera
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

ROWS, COLUMNS = INPUT_SIZE
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
DEPTH = RNG.integers(300, 5000, INPUT_SIZE).astype(np.uint16)
DEPTH[:3] = 0  # none there
FX, CX, CY = 40.0, COLUMNS / 2 - 0.5, ROWS / 2 - 0.5
QUIET_S = 1.0  # in which what must not come does not come


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")


class DepthCamera(Camera):
    """A camera with depth beside it, whose driver publishes a calibration before every frame."""

    def __init__(self, node: Any, prefix: str, name: str, depth_kind: str = "Image") -> None:
        import sensor_msgs.msg
        from rclpy.qos import qos_profile_sensor_data

        super().__init__(node, f"{prefix}/image", name)
        self.depth = node.create_publisher(
            getattr(sensor_msgs.msg, depth_kind), f"{prefix}/depth", qos_profile_sensor_data
        )
        self.info = node.create_publisher(sensor_msgs.msg.CameraInfo, f"{prefix}/info", qos_profile_sensor_data)
        self.clouds: list[Any] = []
        self.depth_stamps: set[tuple[int, int]] = set()
        self.listener = node.create_subscription(
            sensor_msgs.msg.PointCloud2, f"/{name}/points", self.clouds.append, qos_profile_sensor_data
        )

    def calibration(self) -> Any:
        from sensor_msgs.msg import CameraInfo

        info = CameraInfo(height=ROWS, width=COLUMNS)
        info.k = [FX, 0.0, CX, 0.0, FX, CY, 0.0, 0.0, 1.0]
        return info

    def publish_pair(self, depth: np.ndarray = DEPTH, encoding: str = "16UC1", apart_ms: int = 4) -> Any:
        """An image and its depth, which is stamped a little later; returns the image's message."""
        self.info.publish(self.calibration())
        message = self.message(PICTURE)
        message.header.stamp.nanosec *= 100_000  # 0.1 ms each
        later = message.header.stamp.nanosec + apart_ms * 1_000_000
        self.depth_stamps.add((1000, later))
        self.publisher.publish(message)
        self.depth.publish(write_image(Header(1000, later, b"depth_optical_frame"), encoding, depth))
        return message

    def connect_depth(self) -> None:
        """Wait until the node listens to the depth, which it does once somebody wants points."""
        self.connect()
        wait_until(lambda: self.depth.get_subscription_count() > 0, START_S, "the subscription of the depth")

        def came() -> bool:
            self.publish_pair()
            time.sleep(0.1)
            return bool(self.clouds)

        wait_until(came, START_S, "a first cloud")
        time.sleep(0.3)
        self.clouds.clear()


def points(cloud: Any) -> np.ndarray:
    return np.frombuffer(cloud.data, POINT).reshape(cloud.height, cloud.width)


def cloud_of(camera: DepthCamera, publish: Callable[[], Any]) -> Any:
    """The cloud of a pair; sent anew until it comes, since inputs are best effort."""

    def came() -> bool:
        publish()
        time.sleep(0.1)
        return bool(camera.clouds)

    camera.clouds.clear()
    wait_until(came, ANSWER_S, "a cloud")
    return camera.clouds[0]


def test_points_of_depth_have_place_colour_class_and_confidence(started, ros_node, model):
    started("deep", model=model, depth="/deep/depth", depth_camera_info="/deep/info")
    camera = DepthCamera(ros_node, "/deep", "deep")
    camera.connect_depth()
    cloud = cloud_of(camera, camera.publish_pair)
    assert cloud.header.frame_id == "depth_optical_frame"
    assert (cloud.header.stamp.sec, cloud.header.stamp.nanosec) in camera.depth_stamps
    assert cloud.is_dense
    here = DEPTH > 0
    found = points(cloud)[0]
    assert len(found) == here.sum()
    z = DEPTH[here] / 1000
    np.testing.assert_allclose(found["z"], z, rtol=1e-6)  # single precision
    np.testing.assert_allclose(found["x"], (np.nonzero(here)[1] - CX) / FX * z, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["label"], tiny_labels(PICTURE)[here])
    np.testing.assert_array_equal(found["confidence"], PICTURE[here][:, 2])
    np.testing.assert_array_equal(np.stack([found["r"], found["g"], found["b"]], 1), PICTURE[here])


def test_points_stay_organised_where_that_is_asked_for_and_depth_may_be_coarser_and_in_metres(started, ros_node, model):
    started("kept", model=model, depth="/kept/depth", camera_info="/kept/info", points_keep_invalid=True)
    camera = DepthCamera(ros_node, "/kept", "kept")
    camera.connect_depth()
    metres = (DEPTH[::2, ::2] / 1000).astype(np.float32)
    metres[0, 0] = np.inf
    cloud = cloud_of(camera, lambda: camera.publish_pair(metres, "32FC1"))
    while (cloud.height, cloud.width) != metres.shape:  # of what was sent before
        cloud = cloud_of(camera, lambda: camera.publish_pair(metres, "32FC1"))
    assert not cloud.is_dense
    found = points(cloud)
    assert math.isnan(found["z"][0, 0])
    np.testing.assert_allclose(found["z"][4:], metres[4:], rtol=1e-6)


def test_depth_that_cannot_be_used_is_one_line_a_kind_and_costs_no_label(started, ros_node, model):
    process = started("shallow", model=model, depth="/shallow/depth", depth_camera_info="/shallow/info")
    camera = DepthCamera(ros_node, "/shallow", "shallow")
    camera.connect_depth()
    diagnostics = Diagnostics(ros_node)
    nan = camera.calibration()
    nan.k[0] = math.nan
    bad: list[tuple[Callable[[], Any], str]] = [
        (lambda: camera.publish_pair(DEPTH.astype(np.uint8), "mono8"), "depth image has encoding 'mono8'"),
        (lambda: camera.publish_pair(DEPTH[:5]), "depth is 32x5 pixels, the image 32x24"),
        (lambda: camera.publish_pair(DEPTH, "32FC1"), "depth image is 32x24 32FC1 with step 64"),
        (lambda: camera.depth.publish(b"\0\1\0\0"), "serialized sensor_msgs/Image is cut short"),
        (lambda: camera.publish_pair(apart_ms=300), "points_max_gap_s"),
    ]
    calibration = camera.calibration
    bad.append((camera.publish_pair, "camera_info has fx nan"))
    for publish, said in bad:
        if said.startswith("camera_info"):
            camera.calibration = lambda: nan  # type: ignore[method-assign]

        def told(publish: Callable[[], Any] = publish, said: str = said) -> bool:
            publish()
            time.sleep(0.05)
            return any(said in line for line in process.lines)

        wait_until(told, ANSWER_S, said)
        np.testing.assert_array_equal(pixels(camera.ask(PICTURE)), tiny_labels(PICTURE))
    camera.calibration = calibration  # type: ignore[method-assign]
    cloud_of(camera, camera.publish_pair)
    assert all("points left out: " in line for line in process.lines if "left out" in line)
    for _, said in bad:
        assert sum(said in line for line in process.lines) <= 3  # one in ten seconds
    wait_until(lambda: int(diagnostics.values("/shallow").get("points_failed", 0)) > 4, ANSWER_S, "the count")
    assert diagnostics.values("/shallow")["failed"] == "0"


def test_points_of_the_drivers_own_cloud(started, ros_node, model):
    from test.seg_perception.cdr_bytes import cloud_bytes

    started("clouded", model=model, cloud="/clouded/depth", points_keep_invalid=True)
    camera = DepthCamera(ros_node, "/clouded", "clouded", "PointCloud2")
    camera.connect()
    wait_until(lambda: camera.depth.get_subscription_count() > 0, START_S, "the subscription of the cloud")
    xyz = RNG.normal(size=(*INPUT_SIZE, 3)).astype(np.float32)

    def publish() -> None:
        camera.publish(PICTURE, stamp=(-3, 0))  # of the cloud's own stamp
        camera.depth.publish(cloud_bytes("<", xyz))

    cloud = cloud_of(camera, publish)
    found = points(cloud)
    np.testing.assert_array_equal(np.stack([found["x"], found["y"], found["z"]], -1), xyz)
    np.testing.assert_array_equal(found["label"], tiny_labels(PICTURE))


def test_without_a_listener_no_depth_is_received_and_each_camera_has_its_own_points(started, ros_node, model):
    started(
        "two",
        model=model,
        cameras="[front, rear]",
        **{f"{camera}.depth": f"/{camera}/depth" for camera in ("front", "rear")},
        **{f"{camera}.camera_info": f"/{camera}/info" for camera in ("front", "rear")},
    )
    front = DepthCamera(ros_node, "/front", "two/front")
    rear = DepthCamera(ros_node, "/rear", "two/rear")
    ros_node.destroy_subscription(rear.listener)
    front.connect_depth()
    rear.connect()
    wait_until(lambda: rear.depth.get_subscription_count() == 0, ANSWER_S, "no subscription of the rear depth")
    cloud_of(front, front.publish_pair)
    rear.clouds.clear()
    rear.publish_pair()
    time.sleep(QUIET_S)
    assert rear.clouds == []
    assert enable_camera(ros_node, "two/front", False).success
    wait_until(
        lambda: front.depth.get_subscription_count() == 0, ANSWER_S, "no subscription of a disabled camera's depth"
    )


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"depth": "/d", "cloud": "/c"}, "parameters depth and cloud are both set"),
        ({"depth": "/d"}, "parameter depth is set, but neither depth_camera_info nor camera_info"),
        (
            {"cameras": "[a]", "a.depth": "/d"},
            "parameter a.depth is set, but neither a.depth_camera_info nor a.camera_info",
        ),
    ],
)
def test_what_cannot_give_points_is_refused_when_it_is_configured(ros_environment, model, parameters, said):
    process = NodeProcess(ros_environment, "pointless", model=model, engine="onnxruntime", **parameters)
    try:
        assert said in process.wait_for("cannot configure: ")
    finally:
        assert process.stop() == 0
