"""What a process does as a whole while something in it hangs: transitions, signals, and the end where nothing else helps."""

from __future__ import annotations

import signal
import time

import pytest

from test.seg_perception.node_process import ANSWER_S, START_S
from test.seg_perception.node_services import (
    ACTIVATE,
    CLEANUP,
    CONFIGURE,
    DEACTIVATE,
    call_trigger,
    change_state,
    set_parameter,
)
from test.seg_perception.ros.troubled_process import (
    EXIT_S,
    HANG_S,
    PICTURE,
    assert_serves,
    compressed_camera,
    connected,
    end,
    serve_again,
)
from test.seg_perception.waiting import wait_until


def test_a_node_that_hangs_in_decoding_is_deactivated_and_works_again(troubled, ros_node):
    process = troubled("resting", image_type="compressed", hang_timeout_s=600.0)
    served = compressed_camera(ros_node, "resting")
    process.make("hang-decoding")
    wait_until(lambda: not served(), ANSWER_S, "the hang")
    assert change_state(ros_node, "resting", DEACTIVATE)
    assert "has been decoded for" in process.wait_for("left behind to come to its end by itself")
    process.make("")
    assert change_state(ros_node, "resting", ACTIVATE)
    wait_until(served, START_S, "masks again")
    assert not [line for line in process.lines if "serves after" in line]  # no engine was made
    end(process)


@pytest.mark.parametrize("transition", ["deactivate", "shutdown"])
def test_transitions_are_answered_while_it_hangs_and_it_works_again_afterwards(troubled, ros_node, transition):
    name = f"left_{transition}"
    process = troubled(name, hang_timeout_s=600.0)
    camera = connected(ros_node, name)
    process.make("hang 1")
    camera.publish(PICTURE)
    time.sleep(0.3)
    start = time.monotonic()
    if transition == "shutdown":
        assert change_state(ros_node, name, 7)  # from active
        assert time.monotonic() - start < ANSWER_S / 2
        end(process)
        return
    assert change_state(ros_node, name, DEACTIVATE)
    assert time.monotonic() - start < ANSWER_S / 2
    process.wait_for("left behind to come to its end by itself")
    assert change_state(ros_node, name, ACTIVATE)  # it hangs still: another engine is started
    process.wait_for("serves after")
    serve_again(camera)
    process.make("hang 2")
    camera.publish(PICTURE)
    time.sleep(0.3)
    for step in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
        assert change_state(ros_node, name, step)
    serve_again(camera)
    end(process)


def test_more_threads_that_hang_than_may_end_the_process_for_a_clean_one(troubled, ros_node):
    process = troubled("hopeless", hang_restarts=1)
    camera = connected(ros_node, "hopeless")
    process.make("hang 1")
    camera.publish(PICTURE)
    process.wait_for("serves after")
    serve_again(camera)
    process.make("hang 2")

    def ended() -> bool:
        camera.publish(PICTURE)
        time.sleep(0.05)
        return not process.alive

    wait_until(ended, START_S, f"the end of the process: {process.lines[-20:]}")
    assert process.process.wait() == 3
    wait_until(lambda: any("FATAL" in line for line in process.lines), ANSWER_S, "the line")
    assert "the process ends, so that whoever started it starts a clean one" in process.wait_for("FATAL")


def test_a_process_that_stood_still_is_not_one_whose_worker_hangs(troubled, ros_node):
    process = troubled("frozen")
    camera = connected(ros_node, "frozen")
    process.make("hang 1")
    message = camera.publish(PICTURE)
    time.sleep(0.5)
    process.process.send_signal(signal.SIGSTOP)  # a paused container, a laptop that was closed
    time.sleep(HANG_S + 1)
    process.make("")
    process.process.send_signal(signal.SIGCONT)
    assert camera.answer(message).header == message.header
    assert_serves(camera)
    assert not [line for line in process.lines if "given up" in line]
    end(process)


def test_a_library_that_never_lets_python_go_on_ends_the_process_and_is_shown(troubled, ros_node):
    process = troubled("locked", environment={"LOCKED_S": "4"})
    camera = connected(ros_node, "locked")
    process.make("lock")
    camera.publish(PICTURE)
    assert process.process.wait(START_S) == 1
    wait_until(lambda: any("troubled_node.py" in line for line in process.lines), ANSWER_S, "where it was")
    assert any("Timeout (0:00:04)!" in line for line in process.lines)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order_while_it_hangs(troubled, ros_node, by):
    name = f"signalled_{by}"
    process = troubled(name, hang_timeout_s=600.0)
    camera = connected(ros_node, name)
    process.make("hang 1")
    camera.publish(PICTURE)
    time.sleep(0.3)
    start = time.monotonic()
    assert process.stop(by) == 0, process.lines[-20:]
    assert time.monotonic() - start < EXIT_S


def test_an_engine_that_hangs_while_configuring_is_given_up_and_the_next_configure_serves(troubled, ros_node):
    process = troubled("unopened", hang_timeout_s=0.5, trouble="hang-loading")
    line = process.wait_for("cannot configure: the engine of tiny has been opened for")
    assert "6 s may be (12 x the parameter hang_timeout_s); given up" in line
    assert not change_state(ros_node, "unopened", CONFIGURE)  # hangs still, and is answered all the same
    process.make("")
    assert set_parameter(ros_node, "unopened", "hang_timeout_s", 5.0).successful
    assert change_state(ros_node, "unopened", CONFIGURE)
    assert change_state(ros_node, "unopened", ACTIVATE)
    assert_serves(connected(ros_node, "unopened"))
    end(process)


def test_engines_that_never_open_end_the_process_for_a_clean_one(troubled, ros_node):
    process = troubled("never_opened", hang_timeout_s=0.5, hang_restarts=0, trouble="hang-loading")
    assert process.process.wait(START_S) == 3
    assert "an engine does not open, and 1 threads hang by now, 0 may" in process.wait_for("FATAL")


def test_a_model_that_hangs_while_it_is_loaded_is_refused_and_masks_go_on(troubled, ros_node):
    process = troubled("unloaded", hang_timeout_s=0.5)
    camera = connected(ros_node, "unloaded")
    process.make("hang-loading")
    answer = call_trigger(ros_node, "unloaded", "load_model")
    assert not answer.success
    assert "without end" in answer.message
    assert_serves(camera)
    process.make("")
    assert call_trigger(ros_node, "unloaded", "load_model").success
    assert_serves(camera)
    end(process)
