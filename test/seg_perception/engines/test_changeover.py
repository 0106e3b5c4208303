from __future__ import annotations

import threading

import numpy as np
import pytest

from seg_perception.engines.base import Engine, EngineError
from seg_perception.engines.changeover import ChangeoverEngine
from seg_perception.model.model_file import ModelInfo, read_model_info
from test.seg_perception.tiny_model import INPUT_SIZE, write_tiny_model
from test.seg_perception.waiting import wait_until


class Recording(Engine):
    """Notes the images it is given by their first value; `gate` holds `open` back. All but openvino hold a device."""

    def __init__(self, info: ModelInfo, name: str, gate: threading.Event | None = None) -> None:
        super().__init__(info)
        self.device = name != "openvino"
        self.name = name
        self.seen: list[int] = []
        self.opened = 0
        self.open_error: Exception | None = None
        self.infer_error: Exception | None = None
        self._gate = gate

    @property
    def description(self) -> str:
        return f"{self.name} 1.0"

    def open(self) -> None:
        if self._gate is not None:
            self._gate.wait(20)
        if self.open_error is not None:
            raise self.open_error
        self.opened = 1  # opening an open engine does nothing

    @property
    def holds_device(self) -> bool:
        return self.device and self.opened > 0

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        if self.infer_error is not None:
            raise self.infer_error
        self.seen.append(int(image[0, 0, 0, 0]))
        return {"labels": image[..., 0]}

    def close(self) -> None:
        self.opened = 0


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return read_model_info(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def image(number: int) -> np.ndarray:
    return np.full((1, *INPUT_SIZE, 3), number, np.uint8)


def changeover(wanted: Engine, fallback: Engine, while_building: str, stop: threading.Event | None = None) -> Engine:
    return ChangeoverEngine(
        wanted, lambda: fallback, while_building, stop or threading.Event(), lambda: "TensorRT is built: 40 %"
    )


def test_it_serves_at_once_and_changes_over_between_two_images(info: ModelInfo) -> None:
    gate = threading.Event()
    wanted, fallback = Recording(info, "tensorrt", gate), Recording(info, "openvino")
    with changeover(wanted, fallback, "fallback") as engine:
        for number in range(5):
            assert engine.infer(image(number))["labels"][0, 0, 0] == number
        assert engine.name == "openvino"
        assert engine.description == "openvino 1.0 (until TensorRT is built: 40 %)"
        gate.set()
        number = 5
        while engine.name != "tensorrt":
            assert number < 200
            engine.infer(image(number))
            number += 1
            threading.Event().wait(0.01)
        engine.infer(image(number))
        assert engine.description == "tensorrt 1.0"
        assert fallback.opened == 0  # its memory is free again
        assert fallback.seen + wanted.seen == list(range(number + 1))  # none lost, none twice, in order
    assert wanted.opened == 0


def test_it_waits_where_it_is_told_to(info: ModelInfo) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    with changeover(wanted, fallback, "wait") as engine:
        engine.infer(image(1))
        assert engine.name == "tensorrt"
    assert wanted.seen == [1]
    assert fallback.opened == 0


@pytest.mark.parametrize("while_building", ["wait", "fallback"])
def test_an_engine_that_cannot_be_opened_leaves_the_fallback(
    info: ModelInfo, while_building: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    wanted.open_error = EngineError("the builder crashed")
    with changeover(wanted, fallback, while_building) as engine:
        wait_until(lambda: "failed" in engine.description, 20, "the failure")
        assert engine.description == "openvino 1.0 (tensorrt failed: the builder crashed)"
        engine.infer(image(1))
    assert fallback.seen == [1]
    assert caplog.text.count("the builder crashed") == 1
    wanted.open_error = None
    with changeover(wanted, fallback, "wait") as engine:  # the next configure tries again
        assert engine.name == "tensorrt"


def test_what_a_person_got_wrong_is_refused_not_papered_over(info: ModelInfo) -> None:
    wanted = Recording(info, "tensorrt")
    wanted.open_error = ValueError("everyone can write the cache")
    with pytest.raises(ValueError, match="everyone can write"):
        changeover(wanted, Recording(info, "openvino"), "wait").open()
    with pytest.raises(ValueError, match="while_building is 'never', expected one of: wait, fallback"):
        changeover(wanted, Recording(info, "openvino"), "never")


def test_a_failure_in_mid_run_is_computed_by_the_fallback(info: ModelInfo) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    with changeover(wanted, fallback, "wait") as engine:
        engine.infer(image(1))
        wanted.infer_error = EngineError("the device is lost")
        assert engine.infer(image(2))["labels"][0, 0, 0] == 2
        engine.infer(image(3))
        assert engine.description == "openvino 1.0 (tensorrt failed: the device is lost)"
        assert wanted.opened == 0
    assert (wanted.seen, fallback.seen) == ([1], [2, 3])


def test_without_a_fallback_the_first_problem_is_told(info: ModelInfo) -> None:
    wanted = Recording(info, "tensorrt")
    wanted.open_error = EngineError("the builder crashed")

    def none() -> Engine:
        raise EngineError("no inference engine is installed")

    engine = ChangeoverEngine(wanted, none, "wait", threading.Event(), str)
    with pytest.raises(EngineError, match="the builder crashed; and there is no fallback: no inference engine"):
        engine.open()


def test_closing_ends_a_build_in_hand(info: ModelInfo) -> None:
    stop = threading.Event()
    wanted = Recording(info, "tensorrt", stop)  # as a build that ends when it is told to
    engine = changeover(wanted, Recording(info, "openvino"), "fallback", stop)
    engine.open()
    engine.close()
    assert stop.is_set()
    assert wanted.opened == 0
    assert not any(thread.name == "opening tensorrt" for thread in threading.enumerate())
    engine.open()  # and it can be opened again
    engine.close()


def test_an_image_of_another_shape_is_refused_by_whoever_serves(info: ModelInfo) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    engine = changeover(wanted, fallback, "wait")
    with pytest.raises(EngineError, match="engine tensorrt is not open"):
        engine.infer(image(1))
    with engine, pytest.raises(ValueError, match="image is uint8"):
        engine.infer(image(1)[:, :4])


def serves(engine: Engine, name: str) -> bool:
    engine.infer(image(1))
    return engine.name == name


def test_an_engine_that_serves_gives_its_device_back_and_serves_again(info: ModelInfo) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    with changeover(wanted, fallback, "wait") as engine:
        assert engine.holds_device
        engine.release_device()
        assert not engine.holds_device
        assert wanted.opened == 0
        engine.open()
        assert serves(engine, "tensorrt")
        assert fallback.opened == 0


def test_a_build_goes_on_while_the_device_is_not_wanted_and_does_not_take_it(info: ModelInfo) -> None:
    gate = threading.Event()
    wanted, fallback = Recording(info, "tensorrt", gate), Recording(info, "openvino")
    with changeover(wanted, fallback, "fallback") as engine:
        engine.release_device()
        assert fallback.opened == 1  # it holds no device
        gate.set()
        wait_until(
            lambda: not any(t.name == "opening tensorrt" for t in threading.enumerate()), 20, "the end of the build"
        )
        assert wanted.opened == 0
        assert not engine.holds_device
        engine.open()
        assert fallback.opened == 1
        wait_until(lambda: serves(engine, "tensorrt"), 20, "the engine that was built")
        assert engine.holds_device


def test_an_engine_that_is_ready_and_has_not_served_gives_its_device_back(info: ModelInfo) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    with changeover(wanted, fallback, "fallback") as engine:
        wait_until(lambda: engine.holds_device, 20, "the engine in the background")
        engine.release_device()
        assert wanted.opened == 0
        engine.open()
        wait_until(lambda: serves(engine, "tensorrt"), 20, "the engine again")


def test_a_device_that_is_wanted_again_during_the_build_is_kept(info: ModelInfo) -> None:
    gate = threading.Event()
    wanted, fallback = Recording(info, "tensorrt", gate), Recording(info, "openvino")
    with changeover(wanted, fallback, "fallback") as engine:
        engine.release_device()
        engine.open()
        gate.set()
        wait_until(lambda: serves(engine, "tensorrt"), 20, "the engine that was built")
        assert wanted.opened == 1  # once


def test_a_fallback_after_a_failure_stays_open_without_a_device(info: ModelInfo) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    wanted.open_error = EngineError("no memory")
    with changeover(wanted, fallback, "wait") as engine:
        engine.release_device()
        engine.open()
        assert serves(engine, "openvino")
        assert engine.problem == "tensorrt failed: no memory"


def test_an_engine_that_hangs_while_it_is_opened_does_not_hang_the_end(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("seg_perception.engines.changeover._CLOSE_S", 0.05)
    gate = threading.Event()
    wanted, fallback = Recording(info, "tensorrt", gate), Recording(info, "openvino")
    engine = changeover(wanted, fallback, "fallback")
    engine.open()
    engine.close()
    assert "tensorrt is still being opened after 0.05 s; it is left to close by itself" in caplog.text
    assert fallback.opened == 0
    engine.open()  # the other one cannot be had
    assert serves(engine, "openvino")
    assert "still being opened" in engine.problem
    engine.close()
    gate.set()
    wait_until(
        lambda: not any(t.name == "opening tensorrt" for t in threading.enumerate()), 20, "the end of the thread"
    )
    assert wanted.opened == 0


def test_whatever_goes_wrong_in_the_background_is_told(info: ModelInfo, caplog: pytest.LogCaptureFixture) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    wanted.open_error = KeyError("an error of no kind that was foreseen")
    with changeover(wanted, fallback, "fallback") as engine:
        wait_until(lambda: engine.problem, 20, "the problem")
        assert "no kind that was foreseen" in engine.problem
        assert serves(engine, "openvino")
    assert "it goes on with the fallback" in caplog.text


def test_what_bindings_raise_in_mid_run_is_computed_by_the_fallback(info: ModelInfo) -> None:
    wanted, fallback = Recording(info, "tensorrt"), Recording(info, "openvino")
    with changeover(wanted, fallback, "wait") as engine:
        wanted.infer_error = RuntimeError("Failed to dlopen libcudart.so")  # type: ignore[assignment]
        assert engine.infer(image(3))["labels"][0, 0, 0] == 3
        assert engine.name == "openvino"
