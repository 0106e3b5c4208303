"""An engine is started anew, and something else happens at the same time: it hangs, a model is loaded, a parameter changes."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from test.seg_perception.node_diagnostics import Diagnostics
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, pixels
from test.seg_perception.node_services import call_trigger, set_parameter
from test.seg_perception.ros.test_model_loading import label_info
from test.seg_perception.ros.troubled_process import (
    PICTURE,
    TroubledProcess,
    assert_serves,
    connected,
    end,
    serve_again,
)
from test.seg_perception.tiny_model import CLASS_NAMES, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until


def fails_until_it_is_started_anew(process: TroubledProcess, camera: Camera) -> None:
    """Every image fails; the new engine waits to be opened until the trouble changes."""
    process.make("throw 1\nhang-loading")

    def is_told() -> bool:
        camera.publish(PICTURE)
        time.sleep(0.02)
        return "images in a row: starting it anew" in "".join(process.lines)

    wait_until(is_told, START_S, "a new start")


def asked_to_load(ros_node: Any, name: str) -> Future[Any]:
    """The answer of load_model to come, asked for in a thread of its own."""
    answer: Future[Any] = Future()
    threading.Thread(
        target=lambda: answer.set_result(call_trigger(ros_node, name, "load_model")), daemon=True
    ).start()
    return answer


def test_an_engine_that_fails_then_hangs_as_the_new_one_waits_for_it_is_replaced(troubled, ros_node):
    process = troubled("worsening")
    diagnostics = Diagnostics(ros_node)
    camera = connected(ros_node, "worsening")
    fails_until_it_is_started_anew(process, camera)
    process.make("hang 1\nhang-loading")
    camera.publish(PICTURE)
    time.sleep(0.3)  # the image is in hand now
    process.make("hang 1")  # the new engine opens, and waits for the frame in hand
    process.wait_for("serves after")
    process.wait_for("given up, starting the engine anew (1 of at most 3 threads hang)")
    process.wait_for("serves after", count=2)
    serve_again(camera)
    wait_until(lambda: diagnostics.values("/worsening")["hangs"] == "1", ANSWER_S, "the count")
    answer = call_trigger(ros_node, "worsening", "load_model")
    assert answer.success, answer.message
    assert_serves(camera)
    process.make("")
    end(process)


@pytest.mark.parametrize("fails_first", [True, False])
def test_a_model_that_is_loaded_as_the_engine_fails_stays_and_has_its_own_classes(
    troubled, ros_node, tmp_path, fails_first
):
    name = f"changing_{fails_first}".lower()
    process = troubled(name)
    diagnostics = Diagnostics(ros_node)
    camera = connected(ros_node, name)
    heard = label_info(ros_node, name)
    names = [f"other {name}" for name in CLASS_NAMES]
    other = write_tiny_model(tmp_path / "other.onnx", changes={"name": "other", "class_names": json.dumps(names)})
    if fails_first:
        fails_until_it_is_started_anew(process, camera)
    process.make("hang-loading\nthrow 1")
    assert set_parameter(ros_node, name, "model", str(other)).successful
    answer = asked_to_load(ros_node, name)
    process.wait_for("loading model other")
    if not fails_first:
        fails_until_it_is_started_anew(process, camera)
    process.make("throw 1")  # engines of both models are opened now
    answered = answer.result(timeout=START_S)
    assert answered.success, answered.message
    serve_again(camera)
    time.sleep(1.0)  # for what may come late
    assert_serves(camera)
    wait_until(lambda: diagnostics.values(f"/{name}").get("model") == "other", ANSWER_S, "the model's name")
    assert [entry["class_name"] for entry in json.loads(heard[-1])["class_map"]][: len(names)] == names
    assert_serves(camera)
    end(process)


def test_a_threshold_that_was_changed_holds_for_an_engine_that_is_started_anew(troubled, ros_node):
    process = troubled("sure")
    camera = connected(ros_node, "sure")
    assert set_parameter(ros_node, "sure", "confidence_threshold", 0.5).successful
    confident = PICTURE[..., 2] >= round(255 * 0.5)  # the tiny model's confidence is the blue of a pixel
    expected = np.where(confident, tiny_labels(PICTURE), 255)

    def holds() -> bool:
        return bool((pixels(camera.ask(PICTURE)) == expected).all())

    wait_until(holds, ANSWER_S, "the threshold")
    process.make("hang 1")
    camera.publish(PICTURE)
    process.wait_for("serves after")
    process.make("")
    camera.connect()
    assert holds()
    process.make("hang-loading")
    answer = asked_to_load(ros_node, "sure")
    process.wait_for("loading model")
    assert set_parameter(ros_node, "sure", "confidence_threshold", 0.0).successful  # the model was read before
    process.make("")
    answered = answer.result(timeout=START_S)
    assert answered.success, answered.message
    assert_serves(camera)
    end(process)
