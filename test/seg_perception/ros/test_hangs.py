"""Engines and decoders that hang or fail, under the real node: told, replaced, and everything else goes on."""

from __future__ import annotations

import time

import cv2
import pytest

from test.seg_perception.node_diagnostics import Diagnostics
from test.seg_perception.node_process import ANSWER_S, START_S, Camera
from test.seg_perception.node_services import call_trigger
from test.seg_perception.ros.troubled_process import (
    PICTURE,
    assert_serves,
    compressed_camera,
    connected,
    end,
    serve_again,
)
from test.seg_perception.waiting import wait_until

ERROR = 2  # of a diagnostic status


def test_an_engine_that_hangs_is_told_then_started_anew_and_its_late_mask_never_comes(troubled, ros_node):
    process = troubled("hanging")
    diagnostics = Diagnostics(ros_node)
    camera = connected(ros_node, "hanging")
    process.make("hang 1")
    hung = camera.publish(PICTURE)
    wait_until(lambda: diagnostics.level("/hanging") == ERROR, ANSWER_S, "ERROR in the diagnostics")
    assert "no masks: " in diagnostics.message("/hanging")
    line = process.wait_for("given up, starting the engine anew (1 of at most 3 threads hang)")
    assert "an image of /hanging/image has been segmented for" in line
    serve_again(camera)
    wait_until(lambda: diagnostics.values("/hanging")["hangs"] == "1", ANSWER_S, "the count")
    assert diagnostics.values("/hanging")["threads_that_hang"] == "1"
    process.make("")  # the thread that was given up comes back now
    wait_until(lambda: diagnostics.values("/hanging")["threads_that_hang"] == "0", ANSWER_S, "its end")
    assert_serves(camera)
    assert hung.header.stamp not in [message.header.stamp for message in camera.received["labels"]]
    wait_until(lambda: diagnostics.level("/hanging") == 0, ANSWER_S, "OK in the diagnostics")
    end(process)


def test_an_engine_that_hangs_again_is_replaced_by_the_next_one(troubled, ros_node):
    pytest.importorskip("openvino", reason="needs a second engine: pip install openvino")
    process = troubled("stubborn", hang_timeout_s=1.0)
    diagnostics = Diagnostics(ros_node)
    camera = connected(ros_node, "stubborn")
    process.make("hang 99")
    camera.publish(PICTURE)
    process.wait_for("given up, trying again (2 of at most 3 threads hang)")  # the warm-up of the new one hung, too
    serve_again(camera)
    wait_until(lambda: diagnostics.level("/stubborn") == 1, ANSWER_S, "WARN in the diagnostics")
    assert "onnxruntime could not be started anew; openvino serves instead" in diagnostics.message("/stubborn")
    assert diagnostics.values("/stubborn")["engine"].startswith("openvino")
    end(process)


def test_a_decoder_that_hangs_costs_its_image_and_no_engine(troubled, ros_node):
    process = troubled("stuck", image_type="compressed")
    served = compressed_camera(ros_node, "stuck")
    process.make("hang-decoding")
    wait_until(lambda: not served(), ANSWER_S, "the hang")
    process.wait_for("has been decoded for")
    process.make("")
    wait_until(served, ANSWER_S, "masks again")
    assert any("given up, another thread goes on" in line for line in process.lines)
    assert not [line for line in process.lines if "serves after" in line]  # no engine was made
    end(process)


def test_an_image_that_the_engine_fails_is_one_image(troubled, ros_node):
    process = troubled("failing")
    camera = connected(ros_node, "failing")
    process.make("throw-once")
    camera.publish(PICTURE)
    process.wait_for("image left out: ")
    assert_serves(camera)
    assert not [line for line in process.lines if "anew" in line]
    end(process)


def test_an_engine_that_fails_every_image_is_started_anew(troubled, ros_node):
    process = troubled("broken")
    camera = connected(ros_node, "broken")
    process.make("throw 1")  # what a lost device does: this session never works again

    def is_told() -> bool:
        camera.publish(PICTURE)
        time.sleep(0.02)
        return "anew" in "".join(process.lines)

    wait_until(is_told, START_S, "a new start")
    line = next(line for line in process.lines if "anew" in line)
    assert "the engine failed 1" in line  # ten or more
    assert "images in a row: starting it anew" in line
    serve_again(camera)
    end(process)


def test_an_engine_that_cannot_be_started_anew_is_tried_again_until_it_can(troubled, ros_node, tmp_path):
    process = troubled("unlucky")
    diagnostics = Diagnostics(ros_node)
    camera = connected(ros_node, "unlucky")
    whole = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").unlink()
    process.make("hang 1")
    camera.publish(PICTURE)
    assert "m.onnx" in process.wait_for("the engine cannot be started anew: ")
    wait_until(lambda: "cannot be started anew" in diagnostics.message("/unlucky"), ANSWER_S, "the diagnostics")
    assert diagnostics.level("/unlucky") == ERROR
    answer = call_trigger(ros_node, "unlucky", "load_model")
    assert not answer.success
    assert "wait until the engine that hung is started anew" in answer.message
    (tmp_path / "m.onnx").write_bytes(whole)
    process.wait_for("serves after")
    serve_again(camera)
    end(process)


def test_of_two_cameras_one_hangs_the_decoder_and_the_other_goes_on(troubled, ros_node):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage

    process = troubled(
        "paired", cameras="[bad, good]", **{"bad.image": "/paired/bad/compressed", "good.image": "/paired/good/image"}
    )
    camera = Camera(ros_node, "/paired/good/image", "paired/good")
    camera.connect()
    bad = ros_node.create_publisher(CompressedImage, "/paired/bad/compressed", qos_profile_sensor_data)
    listener = Camera(ros_node, "/paired/unused", "paired/bad")  # so that somebody wants the bad one's masks
    wait_until(lambda: bad.get_subscription_count() > 0, START_S, "the bad camera's subscription")
    wait_until(
        lambda: ros_node.count_publishers("/paired/bad/labels") > 0 and listener.subscriptions, START_S, "its output"
    )
    png = cv2.imencode(".png", PICTURE)[1].tobytes()
    diagnostics = Diagnostics(ros_node)
    for _ in range(2):
        process.make("hang-decoding")

        def hangs() -> bool:
            bad.publish(CompressedImage(format="png", data=png))
            time.sleep(0.1)
            return "has been decoded for" in "".join(process.lines)

        wait_until(hangs, START_S, "the bad camera's image to hang")
        for _ in range(20):  # while that image hangs still, and others like it come
            bad.publish(CompressedImage(format="png", data=png))
            serve_again(camera)
        wait_until(lambda: diagnostics.level("/paired: bad") == ERROR, ANSWER_S, "ERROR of the bad camera")
        assert "set aside: an image of camera bad has been decoded for" in diagnostics.message("/paired: bad")
        assert diagnostics.level("/paired: good") == 0
        process.make("")
        wait_until(lambda: diagnostics.level("/paired: bad") != ERROR, ANSWER_S, "the bad camera's return")
        process.lines.clear()
    wait_until(lambda: diagnostics.values("/paired: good").get("failed") == "0", ANSWER_S, "no failure of the good one")
    end(process)
