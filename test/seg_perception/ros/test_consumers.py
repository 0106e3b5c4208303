"""What the consumers of docs/consumers take, held against what the real node publishes, with each one's own QoS.

Each requirement names the line of the consumer's source that makes it. Commits:
kiwicampus/semantic_segmentation_layer a70cf6ec8a44d0903209b6f433d9f8c40dbca0db
MIT-SPARK/Hydra-ROS 5e206f034f27b69949350c9c286ef16d30136309, MIT-SPARK/Hydra 2e58a35baea629eee8838409771876acff015daf
NVIDIA-ISAAC-ROS/isaac_ros_nvblox 319438a008ca72de17066533767ff45b73170076, nvidia-isaac/nvblox
7c76f90749aa26b89faeca2044fbdcabd910d0a6
leggedrobotics/elevation_mapping_cupy main 20a8a26b67a995b43eb44c23568854d1fed82a52, ros2_py
e54a9414e8c75bf238d185e526114496b7fdeed3
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from seg_perception.cdr import Header, read_image, write_image
from seg_perception.classes import unchanged
from seg_perception.cloud import FIELDS, POINT
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.tiny_model import CLASS_NAMES, INPUT_SIZE, PALETTE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until
from test.test_viewer_files import FOXGLOVE, plotted_keys

pytest.importorskip("rclpy", reason="needs rclpy: source a ROS 2 installation, or pip install 'seg_perception[ros]'")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

ROOT = Path(__file__).parents[3]
NAME, IMAGE, INFO = "consumed", "/consumed_camera/image", "/consumed_camera/info"

# nav2::qos::SensorDataQoS(50): semantic_segmentation_layer.cpp 182
NAV2_SENSOR = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
# nav2::qos::LatchedSubscriptionQoS(5): 188
NAV2_LATCHED = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# "SYSTEM_DEFAULT": nvblox_node.hpp 465, nvblox_node.cpp 236
NVBLOX = QoSProfile(depth=10, reliability=ReliabilityPolicy.SYSTEM_DEFAULT, durability=DurabilityPolicy.SYSTEM_DEFAULT)
# message_filters.Subscriber without a profile: elevation_mapping_ros.py (ros2_py) 216-225
DEFAULT = QoSProfile(depth=10)


class Heard:
    """The node's answers to one camera image, taken with a consumer's own QoS."""

    def __init__(self, camera: Camera) -> None:
        from sensor_msgs.msg import CameraInfo

        self.camera = camera
        self.messages: dict[str, list[Any]] = {}
        self._info = camera.node.create_publisher(CameraInfo, INFO, 10)

    def listen(self, output: str, kind: Any, qos: QoSProfile) -> None:
        """Subscribe as the consumer does."""
        received = self.messages.setdefault(output, [])
        self.camera.node.create_subscription(kind, f"/{NAME}/{output}", received.append, qos)

    def answers(self, rgb: np.ndarray) -> dict[str, Any]:
        """Send an image with its CameraInfo until every output has answered it; the answers, of one stamp."""
        from sensor_msgs.msg import CameraInfo

        found: dict[str, Any] = {}

        def all_there() -> bool:
            message = self.camera.publish(rgb)
            info = CameraInfo(header=message.header, height=rgb.shape[0], width=rgb.shape[1])
            info.k = [30.0, 0.0, 16.0, 0.0, 31.0, 12.0, 0.0, 0.0, 1.0]
            info.d = [0.1, 0.2, 0.3, 0.4, 0.5]
            self._info.publish(info)

            def complete() -> bool:
                found.clear()
                for output, received in self.messages.items():
                    same = [m for m in list(received) if m.header.stamp == message.header.stamp]
                    if same:
                        found[output] = same[-1]
                return found.keys() == self.messages.keys()

            try:
                wait_until(complete, 0.5, "")
            except AssertionError:
                return False
            return True

        wait_until(all_there, START_S, f"answers on {list(self.messages)}")
        return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def node(ros_environment: dict[str, str], model: Path) -> Iterator[NodeProcess]:
    process = NodeProcess(ros_environment, NAME, model=model, image=IMAGE, camera_info=INFO, diagnostics_period_s=0.2)
    process.wait_for("active: listening to")
    yield process
    assert process.stop() == 0


@pytest.fixture
def heard(node: NodeProcess, ros_node: Any) -> Heard:
    return Heard(Camera(ros_node, IMAGE, NAME, outputs=()))


def random_rgb(size: tuple[int, int] = INPUT_SIZE) -> np.ndarray:
    return np.random.default_rng(11).integers(0, 256, (*size, 3), np.uint8)


def test_nav2_reads_masks_byte_by_byte_with_one_stamp_and_best_effort(heard: Heard):
    from sensor_msgs.msg import Image

    heard.listen("labels", Image, NAV2_SENSOR)
    heard.listen("confidence", Image, NAV2_SENSOR)
    rgb = random_rgb()
    answers = heard.answers(rgb)
    for mask in answers.values():
        assert mask.encoding == "mono8"
        # data[v * width + u]: segmentation_buffer.cpp 148, 209; and at least width * height bytes: ..._layer.cpp 437
        assert mask.step == mask.width
        assert len(mask.data) == mask.width * mask.height
        assert (mask.height, mask.width) == INPUT_SIZE  # as many as the registered cloud has points: 427, 465
    # Exact or approximate (0.1 s) time of the two: 235, 249
    assert answers["labels"].header == answers["confidence"].header
    u, v = 5, 7
    data, width = answers["labels"].data, answers["labels"].width
    assert data[v * width + u] == tiny_labels(rgb)[v, u]


def test_nav2_gets_names_for_every_id_however_late_it_subscribes(heard: Heard):
    from std_msgs.msg import String

    try:
        from vision_msgs.msg import LabelInfo as Kind
    except ImportError:
        Kind = String
    received: list[Any] = []
    heard.camera.node.create_subscription(Kind, f"/{NAME}/label_info", received.append, NAV2_LATCHED)
    wait_until(lambda: received, ANSWER_S, "label info")
    if Kind is String:
        entries = {e["class_id"]: e["class_name"] for e in json.loads(received[0].data)["class_map"]}
    else:
        entries = {e.class_id: e.class_name for e in received[0].class_map}
    # createSegmentationCostMultimap: name to uint8 id, segmentation_buffer.cpp 94-104
    assert entries == dict(enumerate(CLASS_NAMES))
    assert len(set(entries.values())) == len(entries)
    if Kind is String:
        pytest.skip("names are as they should be; their type, vision_msgs/LabelInfo, needs vision_msgs, not on PyPI")


def test_hydra_gets_labels_of_one_channel_and_of_the_colour_images_size(heard: Heard):
    from sensor_msgs.msg import Image

    heard.listen("labels", Image, DEFAULT)
    rgb = random_rgb((48, 64))
    labels = heard.answers(rgb)["labels"]
    # toCvCopy without an encoding: image_receiver.cpp 126; one channel of 8 or 16 bits: input_conversion.cpp 120-129
    assert labels.encoding in ("mono8", "8UC1", "mono16", "16UC1")
    # sizesMatch with depth, which is aligned to colour: sensor_input_packet.cpp 88-97
    assert (labels.height, labels.width) == rgb.shape[:2]
    assert int(pixels(labels).max()) < len(
        CLASS_NAMES
    )  # no id beyond total_semantic_labels: semantic_integrator.cpp 89


def test_hydras_label_space_is_made_by_the_command_of_its_page(model: Path):
    page = (ROOT / "docs/consumers/hydra.md").read_text(encoding="utf-8")
    program = re.search(r'python3 -c "\n(.+?)" > my_label_space', page, re.DOTALL)
    assert program is not None
    info = subprocess.run(
        [sys.executable, "-m", "seg_perception.cli", "info", str(model), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    made = subprocess.run(
        [sys.executable, "-c", program[1]], input=info.stdout, capture_output=True, text=True, check=True
    )
    space = yaml.safe_load(made.stdout)
    # Keys of LabelSpaceConfig: src/common/label_space_config.cpp 44-48 and config/label_spaces/*.yaml
    assert space["total_semantic_labels"] == len(CLASS_NAMES)
    assert space["invalid_labels"] == [255]
    assert [entry["name"] for entry in space["label_names"]] == list(CLASS_NAMES)
    assert [entry["label"] for entry in space["label_names"]] == list(range(len(CLASS_NAMES)))


def test_nvblox_gets_camera_info_with_the_very_stamp_and_size_of_the_mask(heard: Heard):
    from sensor_msgs.msg import CameraInfo, Image

    heard.listen("labels", Image, NVBLOX)
    heard.listen("camera_info", CameraInfo, NVBLOX)
    answers = heard.answers(random_rgb())
    mask, info = answers["labels"], answers["camera_info"]
    assert mask.header == info.header  # exact time: nvblox_node.cpp 317-321; the frame's transform: 1021
    # cameraFromMessage: image_conversions.cpp 27-31
    assert (info.height, info.width) == (mask.height, mask.width)
    assert (info.k[0], info.k[4], info.k[2], info.k[5]) == (30.0, 31.0, 16.0, 12.0)


def test_nvblox_gets_a_mask_that_is_above_0_on_the_chosen_classes_alone():
    classes = unchanged(CLASS_NAMES, np.array(PALETTE, np.uint8), foreground=["red", "yellow"])
    labels = tiny_labels(random_rgb())
    labels[0, 0] = 255
    mask = classes.foreground_of(labels)
    message = read_image(write_image(Header(1, 2, b"camera"), "mono8", mask))
    assert message.encoding == "mono8"  # and nothing else: image_conversions.cpp 66, 191
    assert message.step == message.width  # copied as one block: 70
    seen = np.frombuffer(message.data, np.uint8).reshape(labels.shape)
    np.testing.assert_array_equal(seen > 0, np.isin(labels, [1, 3]))  # above 0 is masked: nvblox's image_masker.cu 43
    # ~/labels would mask every class but the first.
    assert not np.array_equal(labels > 0, seen > 0)


def test_nvblox_gets_it_of_the_node(tmp_path: Path, ros_environment: dict[str, str], ros_node: Any, model: Path):
    from sensor_msgs.msg import Image

    file = tmp_path / "classes.yaml"
    file.write_text(
        "classes: {dark: dark, red: red, green: green, yellow: yellow}\nforeground: [red]\n", encoding="utf-8"
    )
    name, topic = "consumed_foreground", "/consumed_foreground/image"
    process = NodeProcess(ros_environment, name, model=model, image=topic, classes=file)
    try:
        process.wait_for("active: listening to")
        camera = Camera(ros_node, topic, name, outputs=())
        received: list[Any] = []
        ros_node.create_subscription(Image, f"/{name}/foreground", received.append, NVBLOX)
        rgb = random_rgb()

        def answered() -> bool:
            camera.publish(rgb)
            try:
                wait_until(lambda: received, 0.3, "")
            except AssertionError:
                return False
            return True

        wait_until(answered, START_S, "a foreground mask")
    finally:
        process.stop()
    assert received[0].encoding == "mono8"
    np.testing.assert_array_equal(pixels(received[0]) > 0, tiny_labels(rgb) == 1)


def test_elevation_mapping_gets_layers_of_one_channel_with_camera_info(heard: Heard):
    from sensor_msgs.msg import CameraInfo, Image

    heard.listen("confidence", Image, DEFAULT)
    heard.listen("camera_info", CameraInfo, DEFAULT)
    rgb = random_rgb()
    answers = heard.answers(rgb)
    layer, info = answers["confidence"], answers["camera_info"]
    # One channel a name: elevation_mapping_ros.cpp (main) 421-437; two dimensions, passed through: .py (ros2_py) 328-334
    assert layer.encoding == "mono8"
    np.testing.assert_array_equal(pixels(layer), rgb[..., 2])
    assert layer.header == info.header  # within 0.5 s: .py 226
    # K and at least four of D, else it assumes none: .py 336-337, elevation_mapping.py 540-545
    assert len(info.k) == 9
    assert len(info.d) >= 4


def test_points_begin_with_what_every_reader_of_clouds_takes():
    # x y z as FLOAT32 (7): segmentation_buffer.cpp 137-139; elevation_mapping_ros.py (ros2_py) 358-373
    assert [(name, kind) for name, _, kind in FIELDS[:3]] == [("x", 7), ("y", 7), ("z", 7)]
    # The ROS 1 node of elevation mapping reads a float at every field's offset (elevation_mapping_ros.cpp 332-338): of a
    # byte at the end of a point it reads beyond it. That our cloud is such a one is what its page says.
    ends = {name: offset + 4 for name, offset, _ in FIELDS}
    assert ends["confidence"] > POINT.itemsize
    assert "noise" in (ROOT / "docs/consumers/elevation_mapping.md").read_text(encoding="utf-8")


def test_foxgloves_layout_plots_what_the_diagnostics_have(heard: Heard):
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image

    plotted = plotted_keys(json.loads(FOXGLOVE.read_text(encoding="utf-8")))
    statuses: list[Any] = []
    heard.listen("labels", Image, DEFAULT)
    heard.camera.node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: statuses.extend(m.status), 10)
    heard.answers(random_rgb())
    keys: set[str] = set()

    def all_there() -> bool:
        heard.answers(random_rgb())
        keys.update(pair.key for status in statuses if status.name == f"/{NAME}" for pair in status.values)
        return keys >= set(plotted)

    wait_until(all_there, ANSWER_S, f"{plotted} in the diagnostics")


@pytest.mark.parametrize("page", sorted((ROOT / "docs/consumers").glob("*.md")), ids=lambda page: page.stem)
def test_pages_name_outputs_parameters_and_classes_that_exist(page: Path):
    from seg_perception.model.model_file import read_model_info
    from seg_perception.ros.parameters import PARAMETERS

    text = page.read_text(encoding="utf-8")
    node_page = (ROOT / "docs/node.md").read_text(encoding="utf-8")
    outputs = set(re.findall(r"^\| `~/(\w+)`", node_page, re.MULTILINE)) | {"camera_info", "points"}
    assert set(re.findall(r"`~/(\w+)`", text)) | set(re.findall(r"/segmentation/(\w+)", text)) <= outputs
    launched = re.findall(r"segmentation\.launch\.py (.+)", text)
    assert launched
    arguments = {name for line in launched for name in re.findall(r"(\w+):=", line)}
    assert arguments <= {parameter.name for parameter in PARAMETERS}
    if page.stem == "nav2":
        names = read_model_info(ROOT / "models/rooms_spt_lite0.onnx").class_names
        used = {name for group in re.findall(r"classes: \[(.+?)\]", text) for name in group.split(", ")}
        assert used
        assert used <= set(names)
