"""The real node over DDS with TensorRT's builder and a GPU in software."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_perception.bag.frames import FrameSource, find_image_topic
from seg_perception.bag.metrics import ConfusionMatrix
from seg_perception.bag.reader import open_bag
from seg_perception.model.model_file import read_model_info
from seg_perception.segmenter import Segmenter
from seg_perception.share import share_path
from test.seg_perception.node_diagnostics import Diagnostics
from test.seg_perception.node_process import ANSWER_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import ACTIVATE, DEACTIVATE, change_state
from test.seg_perception.tiny_model import (
    INPUT_SIZE,
    tiny_labels,
    write_tiny_association_model,
    write_tiny_model,
)
from test.seg_perception.waiting import wait_until

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")

TOPIC = "/camera/image_raw"
LABELS = "/camera/labels"
SIZES = [(37, 51), (60, 80)]  # of two cameras


class SoftwareGpuNode(NodeProcess):
    module = "test.seg_perception.engines.tensorrt.software_node"


@pytest.fixture
def engines(ros_node: Any) -> list[str]:
    """Which engine each message on /diagnostics names."""
    from diagnostic_msgs.msg import DiagnosticArray

    heard: list[str] = []

    def listen(message: DiagnosticArray) -> None:
        heard.extend(v.value for status in message.status for v in status.values if v.key == "engine" and v.value)

    ros_node.create_subscription(DiagnosticArray, "/diagnostics", listen, 10)
    return heard


def test_it_serves_while_the_engine_is_built_and_no_image_is_lost_or_answered_twice(
    ros_environment: dict[str, str], ros_node: Any, engines: list[str], tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    seen = tmp_path / "the fallback was seen"
    process = SoftwareGpuNode(
        ros_environment | {"SOFTWARE_GPU_MODEL": str(model), "SOFTWARE_GPU_LOADS_AFTER": str(seen)},
        model=model,
        image=TOPIC,
        engine="tensorrt",
        while_building="fallback",
        engine_cache=tmp_path / "engines",
        diagnostics_period_s=0.1,
    )
    try:
        process.wait_for("active: listening to")
        camera = Camera(ros_node, TOPIC)
        camera.connect()
        asked = 0
        after = 3  # images by the engine of the GPU
        while after:
            rgb = np.random.default_rng(asked).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
            np.testing.assert_array_equal(pixels(camera.ask(rgb)), tiny_labels(rgb))
            asked += 1
            assert asked < 2000, engines[-1:]
            if any("(until " in engine for engine in engines):
                seen.touch()
            after -= bool(engines) and engines[-1].startswith("tensorrt: ")
        stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in camera.received["labels"]]
        assert len(set(stamps)) == len(stamps) >= asked
        assert any("(until " in engine for engine in engines)
        assert process.wait_for("building the TensorRT engine: 100 %")
        assert process.wait_for(": there is none yet")  # why it was built
        assert process.wait_for("changed over from ")
    finally:
        assert process.stop() == 0


def test_configure_waits_says_how_far_it_is_and_the_next_start_takes_the_cache(
    ros_environment: dict[str, str], ros_node: Any, engines: list[str], tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    for start in range(2):
        process = SoftwareGpuNode(
            ros_environment | {"SOFTWARE_GPU_MODEL": str(model)},
            model=model,
            image=TOPIC,
            engine="auto",
            precision="fast",
            engine_cache=tmp_path / "engines",
            diagnostics_period_s=0.1,
        )
        try:
            configured = process.wait_for("configured: model tiny, tensorrt: tensorrt_rtx")
            assert "Software, fp16" in configured
            built = any("building the TensorRT engine: " in line for line in process.lines)
            assert built == (start == 0)
            wait_until(lambda: engines and engines[-1].startswith("tensorrt: "), ANSWER_S, "diagnostics")
        finally:
            assert process.stop() == 0


def test_deactivate_gives_the_device_back_and_activate_takes_it_again(
    ros_environment: dict[str, str], ros_node: Any, tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    diagnostics = Diagnostics(ros_node)
    process = SoftwareGpuNode(
        ros_environment | {"SOFTWARE_GPU_MODEL": str(model)},
        model=model,
        image=TOPIC,
        engine="tensorrt",
        engine_cache=tmp_path / "engines",
        diagnostics_period_s=0.1,
    )
    rgb = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)

    def holds(expected: str) -> bool:
        return diagnostics.values("/segmentation").get("holds_device") == expected

    try:
        process.wait_for("active: listening to")
        camera = Camera(ros_node, TOPIC)
        for round_ in range(1, 3):
            camera.connect()
            np.testing.assert_array_equal(pixels(camera.ask(rgb)), tiny_labels(rgb))
            wait_until(lambda: holds("true"), ANSWER_S, "the device in the diagnostics")
            assert int(diagnostics.values("/segmentation")["device_memory_free_mb"]) > 0
            assert change_state(ros_node, "segmentation", DEACTIVATE)
            assert process.wait_for("device given back: ", count=round_).endswith(" 0 things held")
            wait_until(lambda: holds("false"), ANSWER_S, "no device in the diagnostics")
            assert change_state(ros_node, "segmentation", ACTIVATE)
        camera.connect()
        np.testing.assert_array_equal(pixels(camera.ask(rgb)), tiny_labels(rgb))
        assert sum("building TensorRT engine" in line for line in process.lines) == 1
    finally:
        assert process.stop() == 0


def test_cameras_of_different_sizes_are_computed_together_on_the_device(
    ros_environment: dict[str, str], ros_node: Any, tmp_path: Path
) -> None:
    model = write_tiny_association_model(tmp_path / "association.onnx")
    file = tmp_path / "robot.yaml"
    file.write_text(
        f"""
/**:
  ros__parameters:
    cameras: [front, rear]
    model: {model}
    engine: tensorrt
    engine_cache: {tmp_path / "engines"}
""",
        encoding="utf-8",
    )
    process = SoftwareGpuNode(
        ros_environment | {"SOFTWARE_GPU_MODEL": str(model)}, ros_arguments=("--params-file", str(file))
    )
    try:
        process.wait_for("active: listening to /front/image, /rear/image", timeout_s=180.0)
        cameras = [Camera(ros_node, f"/{name}/image", f"segmentation/{name}") for name in ("front", "rear")]
        for camera in cameras:
            camera.connect()
        with Segmenter(model, engine="onnxruntime") as segmenter:
            for seed in range(6):
                rng = np.random.default_rng(seed)
                sent = [
                    (camera, rgb, camera.publish(rgb))
                    for camera, rgb in zip(
                        cameras, (rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES), strict=True
                    )
                ]
                for camera, rgb, message in sent:
                    np.testing.assert_array_equal(
                        pixels(camera.answer(message)), segmenter.segment(rgb, False, False).labels
                    )
    finally:
        assert process.stop() == 0
    (manifest,) = (tmp_path / "engines").glob("*.json")
    assert json.loads(manifest.read_text())["key"]["options"]["max_batch"] == 2
    assert not any("failed" in line for line in process.lines)


def demo_frames(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels from all over the shipped recording, which goes from room to room."""
    with open_bag(share_path("bags/rooms_demo.mcap")) as bag:
        frames = [
            (f.rgb, f.labels) for f in FrameSource(bag, find_image_topic(bag, LABELS), LABELS) if f.labels is not None
        ]
    return frames[:: max(1, len(frames) // count)][:count]


def test_the_demo_recording_scores_on_the_device_as_it_does_in_onnx_runtime(
    ros_environment: dict[str, str], ros_node: Any, tmp_path: Path
) -> None:
    """The shipped model, built by TensorRT, run and painted on the device, over DDS, against the recording's own labels."""
    model = share_path("models/rooms_spt_lite0.onnx")
    frames = demo_frames(10)
    info = read_model_info(model)
    process = SoftwareGpuNode(
        ros_environment | {"SOFTWARE_GPU_MODEL": str(model)},
        model=model,
        image=TOPIC,
        engine="tensorrt",
        engine_cache=tmp_path / "engines",
        tensorrt_agreement_percent=0.0,
    )
    scores = {name: ConfusionMatrix(len(info.class_names)) for name in ("tensorrt", "onnxruntime")}
    try:
        process.wait_for("active: listening to", timeout_s=120.0)
        camera = Camera(ros_node, TOPIC)
        camera.connect()
        with Segmenter(model, engine="onnxruntime") as segmenter:
            for rgb, truth in frames:
                scores["tensorrt"].add(truth, pixels(camera.ask(rgb)))
                scores["onnxruntime"].add(truth, segmenter.segment(rgb, False, False).labels)
    finally:
        assert process.stop() == 0
    measured = {name: score.scores().miou for name, score in scores.items()}
    # The same scores, painted by two programs: a pixel in 10,000 may be decided by a last bit.
    assert measured["tensorrt"] == pytest.approx(measured["onnxruntime"], abs=1e-3)
    assert measured["onnxruntime"] > 0.2
    (last,) = [line for line in process.lines if line.startswith("software device: ")]
    held, graphs, launches = (int(part.split()[-3 if "held" in part else 0]) for part in last.split(", "))
    assert held == 0
    assert graphs >= len(frames) - 2
    assert launches > 0 or info.geometry is None  # painted there
