"""The real node over DDS with TensorRT's builder and a GPU in software."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.seg_perception.node_process import ANSWER_S, Camera, NodeProcess, pixels
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")

TOPIC = "/camera/image_raw"


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
    process = SoftwareGpuNode(
        ros_environment | {"SOFTWARE_GPU_MODEL": str(model)},
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
            after -= bool(engines) and engines[-1].startswith("tensorrt: ")
        stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in camera.received["labels"]]
        assert len(set(stamps)) == len(stamps) >= asked
        assert any("until the TensorRT engine is built: " in engine for engine in engines)
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
