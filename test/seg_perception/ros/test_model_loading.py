"""`~/load_model` on the real node: another model serves from one frame to the next, or nothing changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import (
    ACTIVATE,
    CLEANUP,
    CONFIGURE,
    DEACTIVATE,
    call_trigger,
    change_state,
    set_parameter,
)
from test.seg_perception.tiny_model import INPUT_SIZE, metadata, write_tiny_model
from test.seg_perception.waiting import wait_until

RATE_HZ = 20.0
RED = np.zeros((*INPUT_SIZE, 3), np.uint8)
RED[..., 0] = 255


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Two models that fit, one of them without superpixels, and files that do not."""
    folder = tmp_path_factory.mktemp("models")
    names = '["night", "rust", "moss", "sand"]'
    files = {
        "first": write_tiny_model(folder / "first.onnx"),
        "second": write_tiny_model(folder / "second.onnx", grid=None, changes={"name": "second", "class_names": names}),
        "cut": folder / "cut.onnx",
        "inner": folder / "inner.onnx",
    }
    files["cut"].write_bytes(files["first"].read_bytes()[:-400])
    # Its head is sound, so that only the engine finds what is wrong with it.
    files["inner"].write_bytes(files["second"].read_bytes().replace(b"ReduceSum", b"ReduceSux"))
    assert metadata()["name"] == "tiny"
    return files


class Stream:
    """Images at a steady rate from a thread, stamped 1, 2, 3, ..."""

    def __init__(self, camera: Camera) -> None:
        self.camera, self.sent, self._stop = camera, 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(1 / RATE_HZ):
            self.sent += 1
            self.camera.publish(RED, stamp=(self.sent, 0))

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def stamps(self) -> list[int]:
        """Of the masks, in the order in which they came."""
        return [m.header.stamp.sec for m in list(self.camera.received["labels"]) if m.header.stamp.sec > 0]


@pytest.fixture(scope="module")
def process(ros_environment, models) -> Iterator[NodeProcess]:
    """The node with its first model."""
    process = NodeProcess(
        ros_environment,
        "loader",
        model=models["first"],
        image="/loader/image",
        engine="onnxruntime",
        diagnostics_period_s=0.1,
    )
    process.wait_for("active: listening to")
    yield process
    assert process.stop() == 0, process.lines[-20:]


@pytest.fixture
def node(process, models, ros_node) -> tuple[Any, NodeProcess, Camera]:
    """A spinning node, the segmentation node with its first model, and a camera that it answers."""
    if parameter(ros_node, "loader", "model") != str(models["first"]):
        assert set_parameter(ros_node, "loader", "model", str(models["first"])).successful
        assert call_trigger(ros_node, "loader", "load_model").success
    camera = Camera(ros_node, "/loader/image", "loader", outputs=("labels", "superpixels"))
    camera.connect()
    return ros_node, process, camera


def label_info(ros_node: Any, name: str) -> list[str]:
    """What the latched topic says, as it comes."""
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    said: list[str] = []
    qos = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros_node.create_subscription(String, f"/{name}/label_info", lambda m: said.append(m.data), qos)
    return said


def test_frames_go_on_in_order_through_a_change_of_models_and_outputs_follow(node, models):
    ros_node, process, camera = node
    said = label_info(ros_node, process.name)
    wait_until(lambda: said and "dark" in said[-1], START_S, "the first label info")
    with Stream(camera) as stream:
        for name in ("second", "first"):
            wait_until(lambda n=stream.sent: len(stream.stamps()) > 0 and stream.sent > n + 5, ANSWER_S, "masks")
            answer = set_parameter(ros_node, process.name, "model", str(models[name]))
            assert answer.successful
            answer = call_trigger(ros_node, process.name, "load_model")
            assert answer.success, answer.message
            assert answer.message.startswith(f"model {'second' if name == 'second' else 'tiny'}, onnxruntime")
            superpixels = len(camera.received["superpixels"])
            wait_until(lambda n=stream.sent: stream.sent > n + 8, ANSWER_S, "images")
            assert (len(camera.received["superpixels"]) > superpixels + 3) == (name == "first")
            topic = f"/{process.name}/superpixels"
            wait_until(lambda t=topic, n=name: bool(ros_node.count_publishers(t)) == (n == "first"), ANSWER_S, topic)
            wait_until(lambda n=name: ("moss" in said[-1]) == (n == "second"), ANSWER_S, "the label info")
    stamps = stream.stamps()
    assert stamps == sorted(set(stamps))  # in order, none twice
    assert max(np.diff(stamps)) <= 3  # a gap of two images at most, on a machine that other tests share
    assert len(said) == 3
    assert not [line for line in process.lines if "image left out" in line]


def test_a_file_that_is_no_model_is_refused_when_it_is_set(node, models):
    ros_node, process, camera = node
    for path, expected in (
        (models["cut"], "cut"),
        ("/nowhere.onnx", "/nowhere.onnx"),
        (__file__, "test_model_loading"),
    ):
        answer = set_parameter(ros_node, process.name, "model", str(path))
        assert not answer.successful
        assert expected in answer.reason
        assert "\n" not in answer.reason
    camera.ask(RED)


def test_a_model_that_the_engine_refuses_changes_nothing(node, models):
    ros_node, process, camera = node
    with Stream(camera) as stream:
        wait_until(lambda: stream.stamps(), ANSWER_S, "masks")
        assert set_parameter(ros_node, process.name, "model", str(models["inner"])).successful
        answer = call_trigger(ros_node, process.name, "load_model")
        assert not answer.success
        assert "ReduceSux" in answer.message
        assert parameter(ros_node, process.name, "model") == str(models["first"])  # put back
        wait_until(lambda n=stream.sent: stream.sent > n + 5, ANSWER_S, "images")
        assert camera.received["superpixels"]
    stamps = stream.stamps()
    assert stamps == sorted(set(stamps))
    assert max(np.diff(stamps)) <= 3
    process.wait_for("model not loaded, nothing has changed")
    assert set(np.unique(pixels(camera.ask(RED)))) == {1}


def test_inactive_it_is_replaced_too_and_unconfigured_it_is_refused(node, models):
    ros_node, process, camera = node
    assert change_state(ros_node, process.name, DEACTIVATE)
    assert set_parameter(ros_node, process.name, "model", str(models["second"])).successful
    assert call_trigger(ros_node, process.name, "load_model").success
    assert change_state(ros_node, process.name, ACTIVATE)
    wait_until(lambda: answers(camera), ANSWER_S, "a mask")
    assert change_state(ros_node, process.name, DEACTIVATE)
    assert change_state(ros_node, process.name, CLEANUP)
    answer = call_trigger(ros_node, process.name, "load_model")
    assert not answer.success
    assert "has no model now" in answer.message
    assert change_state(ros_node, process.name, CONFIGURE)
    assert change_state(ros_node, process.name, ACTIVATE)


def answers(camera: Camera) -> bool:
    """Whether an image is answered soon."""
    count = len(camera.received["labels"])
    camera.publish(RED)
    time.sleep(0.1)
    return len(camera.received["labels"]) > count


def parameter(ros_node: Any, name: str, parameter: str) -> Any:
    """The answer to `ros2 param get`, of a string."""
    from rcl_interfaces.srv import GetParameters

    client = ros_node.create_client(GetParameters, f"/{name}/get_parameters")
    assert client.wait_for_service(timeout_sec=START_S)
    future = client.call_async(GetParameters.Request(names=[parameter]))
    wait_until(future.done, START_S, f"parameter {parameter}")
    return future.result().values[0].string_value
