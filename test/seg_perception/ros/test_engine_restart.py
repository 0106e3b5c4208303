"""An engine that is opened again."""

from __future__ import annotations

from typing import Any

import pytest

from seg_perception.engines.base import EngineError
from seg_perception.ros.engine_restart import RETRY_S, EngineRestart
from seg_perception.segmenter import Segmenter
from test.seg_perception.tiny_model import write_tiny_model

SOON_S = 30.0


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def outcome_of(restart: EngineRestart, segmenter: Segmenter) -> tuple[Any, ...]:
    outcomes: list[tuple[Any, ...]] = []
    restart.open(segmenter, lambda *outcome: outcomes.append(outcome))
    assert restart.thread is not None
    restart.thread.join(SOON_S)
    (outcome,) = outcomes
    return outcome


def test_it_comes_back_open_and_warm(tmp_path):
    restart = EngineRestart(keeps_serving=False)
    segmenter = Segmenter(write_tiny_model(tmp_path / "m.onnx"), "onnxruntime")
    assert outcome_of(restart, segmenter) == (restart, segmenter, None)
    assert segmenter.warm_up() > 0
    segmenter.close()


def test_what_it_fails_with_comes_back_and_it_is_tried_again_after_a_while(tmp_path, monkeypatch):
    clock = Clock()
    restart = EngineRestart(keeps_serving=True, now=clock)
    segmenter = Segmenter(write_tiny_model(tmp_path / "m.onnx"), "onnxruntime")

    def fail() -> None:
        raise EngineError("no\nmemory")

    monkeypatch.setattr(segmenter, "open", fail)
    _, _, error = outcome_of(restart, segmenter)
    with pytest.raises(EngineError):
        raise error
    clock.now += 3
    restart.failed(error)
    assert (restart.error, restart.elapsed_s, restart.is_due_again) == ("no memory", 3.0, False)
    clock.now += RETRY_S + 1
    assert restart.is_due_again
