"""Images of several cameras at once: results, graphs, memory, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
pytest.importorskip("cuda.bindings", reason="needs NVRTC: pip install 'seg_perception[cuda]'")

from seg_perception.engines.base import MaskRequest
from test.seg_perception.engines.tensorrt.painted_bench import CAMERAS, Bench, Kit, assert_same, image, make_bench
from test.seg_perception.tiny_model import INPUT_SIZE

SIZES = [(37, 51), (60, 80), (24, 25)]


@pytest.fixture(params=[False, True], ids=["copied", "mapped"])
def robot(kit: Kit, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    return make_bench(kit, tmp_path / "engines", request.param, CAMERAS)


def images(*seeds: int) -> np.ndarray:
    return np.concatenate([image(seed) for seed in seeds])  # (B, H, W, 3)


def requests(count: int) -> list[MaskRequest]:
    return [MaskRequest(size) for size in SIZES[:count]]


def test_a_batch_has_the_masks_that_each_image_has_alone_at_its_own_size(robot: Bench) -> None:
    with robot.engine() as engine:
        assert engine.best_batch == CAMERAS
        for count in (3, 1, 2, 3):
            for _ in range(3):  # as calls, recorded, as a graph
                came = engine.infer_painted_batch(images(*range(count)), requests(count))
                assert came is not None
                scores = [painted.class_logits.copy() for painted in came]
                for seed in range(count):
                    outputs = engine.infer(image(seed))
                    np.testing.assert_array_equal(scores[seed], outputs["class_logits"][0])
                    assert_same(came[seed], robot.expected(outputs, SIZES[seed]))
                    alone = engine.infer_painted(image(seed), SIZES[seed], True, True)
                    np.testing.assert_array_equal(alone.labels, came[seed].labels)
    assert robot.cuda.held == {}


def test_a_batch_is_one_graph_and_takes_no_memory_once_its_sizes_are_known(robot: Bench) -> None:
    with robot.engine() as engine:
        for seed in range(2):
            engine.infer_painted_batch(images(seed, 1, 2), requests(3))
        calls, held = len(robot.cuda.calls), len(robot.cuda.held)
        engine.infer_painted_batch(images(7, 8, 9), requests(3))
        assert set(robot.cuda.calls[calls:]) == {"cudaGraphLaunch", "cudaStreamQuery"}
        assert len(robot.cuda.held) == held


def test_each_image_brings_back_what_its_own_camera_wants(robot: Bench) -> None:
    wanted = [
        MaskRequest(SIZES[0], True, False),
        MaskRequest(SIZES[0], False, True),
        MaskRequest(SIZES[0], False, False),
    ]
    with robot.engine() as engine:
        for _ in range(3):
            came = engine.infer_painted_batch(images(0, 1, 2), wanted)
            assert came is not None
            assert [(p.confidence is not None, p.superpixels is not None) for p in came] == [
                (True, False),
                (False, True),
                (False, False),
            ]


def test_contexts_of_all_batches_work_in_the_same_memory(robot: Bench) -> None:
    with robot.engine() as engine:
        assert len(robot.module.contexts) == CAMERAS
        assert len({context._memory for context in robot.module.contexts}) == 1
        engine.infer(image())


def test_what_is_wanted_in_many_combinations_keeps_graphs_bounded(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg_perception.engines.tensorrt.executor._WORKS", 4)
    robot = make_bench(kit, tmp_path / "engines", cameras=CAMERAS)
    with robot.engine() as engine:
        held = []
        for number in range(8):
            flags = [MaskRequest((9, 9), bool(number >> place & 1), False) for place in range(3)]
            for _ in range(2):
                engine.infer_painted_batch(images(0, 1, 2), flags)
            held.append(len(robot.cuda.held))
        assert held[3:] == held[3:4] * 5


def test_a_batch_that_does_not_fit_is_refused(robot: Bench) -> None:
    with robot.engine() as engine:
        with pytest.raises(ValueError, match="4 images at once, expected 1 to 3"):
            engine.infer_painted_batch(images(0, 1, 2, 3), [MaskRequest((9, 9))] * 4)
        with pytest.raises(ValueError, match=r"images are uint8 \[2, .*expected uint8 \[3, "):
            engine.infer_painted_batch(images(0, 1), requests(3))
        with pytest.raises(ValueError, match=r"sizes are \[\(0, 5\)\], expected \(H, W\), at least 1 pixel"):
            engine.infer_painted_batch(images(0), [MaskRequest((0, 5))])
        with pytest.raises(ValueError, match="expected uint8"):
            engine.infer(np.zeros((2, *INPUT_SIZE, 3), np.uint8))  # the batch size is still one


def test_a_device_that_fails_in_a_batch_leaves_it_to_the_fallback_one_by_one(robot: Bench) -> None:
    with robot.engine() as engine:
        robot.cuda.fail["cudaGraphLaunch"] = robot.cuda.fail["cudaStreamQuery"] = 700
        assert engine.infer_painted_batch(images(0, 1, 2), requests(3)) is None
        assert engine.name == "onnxruntime"
        assert engine.best_batch == 1
        assert "device is lost" in engine.problem


def test_an_engine_whose_batches_differ_from_single_images_is_not_used(
    robot: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg_perception.engines.tensorrt.acceptance.batch_agreement", lambda *arguments: 0.5)
    with robot.engine() as engine:
        assert engine.name == "onnxruntime"
        assert "of 3 images at once one has the labels that it has alone on 50 % of the pixels" in engine.problem
    assert robot.cuda.held == {}


def test_one_camera_has_one_context_with_memory_of_its_own(kit: Kit, tmp_path: Path) -> None:
    bench = make_bench(kit, tmp_path / "engines")
    with bench.engine() as engine:
        assert engine.best_batch == 1
        (context,) = bench.module.contexts
        assert context._memory is None
