"""What the machine under a node does on bad days: files that go, full disks, no memory, no processor, a lossy network."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.process.ros_environment import PROFILES_VARIABLE
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, call_trigger, change_state
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_association_model, write_tiny_model
from test.seg_perception.waiting import wait_until

PICTURE = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
ENGINES = ("onnxruntime", "openvino")


def connected(ros_node: Any, name: str) -> Camera:
    camera = Camera(ros_node, f"/{name}/image", name)
    camera.connect()
    return camera


def assert_serves(camera: Camera) -> None:
    np.testing.assert_array_equal(pixels(camera.ask(PICTURE)), tiny_labels(PICTURE))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_file_that_goes_or_changes_under_the_node_matters_only_when_it_is_read_again(
    started, ros_node, tmp_path, engine
):
    model = write_tiny_model(tmp_path / "m.onnx")
    whole = model.read_bytes()
    name = f"moved_{engine}"
    process = started(name, model=model, engine=engine)
    camera = connected(ros_node, name)
    for damage in (b"", whole[:100], b"x" * len(whole)):
        model.write_bytes(damage)  # in place: what was mapped changes, too
        assert_serves(camera)
    model.unlink()
    assert_serves(camera)
    assert change_state(ros_node, name, DEACTIVATE)
    assert change_state(ros_node, name, ACTIVATE)  # not read again
    camera.connect()
    assert_serves(camera)
    assert change_state(ros_node, name, DEACTIVATE)
    assert change_state(ros_node, name, CLEANUP)
    assert not change_state(ros_node, name, CONFIGURE)
    assert str(model) in process.wait_for("cannot configure: ")
    model.write_bytes(whole)
    assert change_state(ros_node, name, CONFIGURE)
    assert change_state(ros_node, name, ACTIVATE)
    camera.connect()
    assert_serves(camera)


def test_an_image_that_finds_no_memory_is_left_out_and_the_next_one_is_served(started, ros_node, tmp_path):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage, Image

    process = started(
        "full", model=write_tiny_model(tmp_path / "m.onnx"), engine="onnxruntime", image_type="compressed"
    )
    publisher = ros_node.create_publisher(CompressedImage, "/full/image", qos_profile_sensor_data)
    labels: list[Any] = []
    ros_node.create_subscription(Image, "/full/labels", labels.append, 10)
    small = cv2.imencode(".png", cv2.cvtColor(PICTURE, cv2.COLOR_RGB2BGR))[1].tobytes()
    large = cv2.imencode(".png", np.zeros((9000, 9000), np.uint8))[1].tobytes()  # 243 MB once unpacked

    def served() -> bool:
        labels.clear()
        publisher.publish(CompressedImage(format="png", data=small))
        time.sleep(0.1)
        return bool(labels)

    wait_until(served, START_S, "a first mask")
    pid = process.process.pid
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    have_kb = int(next(line for line in status if line.startswith("VmData")).split()[1])
    unlimited = resource.prlimit(pid, resource.RLIMIT_DATA, (have_kb * 1024 + (64 << 20), resource.RLIM_INFINITY))
    publisher.publish(CompressedImage(format="png", data=large))
    process.wait_for("image left out", timeout_s=ANSWER_S)
    wait_until(served, ANSWER_S, "masks again")
    resource.prlimit(pid, resource.RLIMIT_DATA, unlimited)


def own_mounts(script: str) -> tuple[str, ...]:
    """A command that runs a shell script with mounts of its own, and then becomes what follows it."""
    return ("unshare", "-rm", "sh", "-c", f'{script} && exec "$@"', "sh")


def test_a_full_disk_costs_no_mask(ros_environment, ros_node, tmp_path):
    """ROS's log, numba's cache and captures lie on a disk of 100 kB that is full before the node starts."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=100k none {folder}"
    if shutil.which("unshare") is None or subprocess.run([*own_mounts(mount), "true"], check=False).returncode:
        pytest.skip("needs unshare (util-linux) and a kernel that lets users mount a small disk of their own")
    process = NodeProcess(
        {**ros_environment, "ROS_LOG_DIR": f"{folder}/log", "NUMBA_CACHE_DIR": f"{folder}/cache"},
        "stuffed",
        prefix=own_mounts(
            f"{mount} && mkdir {folder}/log {folder}/cache && (cat /dev/zero > {folder}/filler; df {folder})"
        ),
        model=write_tiny_association_model(tmp_path / "m.onnx"),
        image="/stuffed/image",
        engine="onnxruntime",
        capture_mb=1,
        capture_folder=folder / "captures",
    )
    try:
        process.wait_for("100%")  # really full
        process.wait_for("active: listening to")
        camera = connected(ros_node, "stuffed")
        for _ in range(20):
            camera.ask(PICTURE)
        answer = call_trigger(ros_node, "stuffed", "save_capture")
        assert not answer.success
        assert "has 0 MB free" in answer.message
        camera.ask(PICTURE)
    finally:
        assert process.stop() == 0, process.lines[-20:]
    assert not [line for line in process.lines if "Traceback" in line]
    assert len(process.lines) < 60, process.lines  # told, not repeated for every image


def test_a_starved_processor_costs_images_but_no_order_and_no_error(started, ros_node, tmp_path):
    process = started("starved", model=write_tiny_model(tmp_path / "m.onnx"), engine="onnxruntime")
    camera = connected(ros_node, "starved")
    core = min(os.sched_getaffinity(0))
    for thread in os.listdir(f"/proc/{process.process.pid}/task"):
        os.sched_setaffinity(int(thread), {core})
    spin = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    thieves = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(6)]
    try:
        camera.received["labels"].clear()
        end_s = time.monotonic() + 2.0
        sent = []
        while time.monotonic() < end_s:
            sent.append(camera.publish(PICTURE).header.stamp.nanosec)
            time.sleep(0.01)
    finally:
        for thief in thieves:
            thief.kill()
            thief.wait()
    assert_serves(camera)
    answered = [message.header.stamp.nanosec for message in camera.received["labels"]]
    assert len(answered) > 5
    assert answered == sorted(set(answered))
    assert set(answered[:-1]) <= set(sent)
    assert not [line for line in process.lines if "ERROR" in line]


@pytest.fixture(scope="module")
def lossy_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lossy_network.c, built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler to build a network that loses packets")
    library = tmp_path_factory.mktemp("network") / "lossy.so"
    source = Path(__file__).with_name("lossy_network.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_lost_packets_cost_images_but_no_answer_is_wrong_late_or_twice(
    started, ros_environment, ros_node, tmp_path, lossy_library, share
):
    """Both ways, discovery included: the node's UDP loses this share, and it has no shared memory to go round that."""
    profile = tmp_path / "udp.xml"
    shipped = Path(ros_environment[PROFILES_VARIABLE]).read_text()
    profile.write_text(shipped.replace("<transport_id>shared_memory_for_images</transport_id>\n        <tra", "<tra"))
    assert profile.read_text() != shipped
    name = f"lossy_{int(100 * share)}"
    environment = {
        PROFILES_VARIABLE: str(profile),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",  # rmw_fastrtps adds shared memory where it is LOCALHOST
        "LD_PRELOAD": str(lossy_library),
        "LOST_SHARE": str(share),
    }
    process = started(name, environment, model=write_tiny_model(tmp_path / "m.onnx"), engine="onnxruntime")
    camera = connected(ros_node, name)
    camera.received["labels"].clear()
    large = cv2.resize(PICTURE, (320, 240), interpolation=cv2.INTER_NEAREST)  # several packets each
    sent = {}
    for number in range(60):
        rgb = PICTURE if number % 2 else large
        message = camera.publish(rgb)
        sent[message.header.stamp.nanosec] = rgb
        time.sleep(0.02)
    least = 40 if share < 0.5 else 5
    wait_until(lambda: len(camera.received["labels"]) >= least, ANSWER_S, f"{least} of 60 answers")
    answered = [m.header.stamp.nanosec for m in camera.received["labels"] if m.header.stamp.nanosec in sent]
    assert answered == sorted(set(answered))
    for answer in camera.received["labels"]:
        if answer.header.stamp.nanosec in sent:
            assert (answer.height, answer.width) == sent[answer.header.stamp.nanosec].shape[:2]
    assert (
        share < 0.5 or len(answered) < 60
    )  # something was lost at all; of a tenth a lucky stream loses no whole image
    assert not [line for line in process.lines if "ERROR" in line and "image left out" not in line]
