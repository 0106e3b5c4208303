from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from seg_perception.engines.base import EngineError
from seg_perception.segmenter import STAGES, Segmentation, Segmenter
from test.seg_perception.tiny_model import INPUT_SIZE, grid_cells, tiny_labels, write_tiny_model

KINDS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def image(size: tuple[int, int] = INPUT_SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def enlarged(array: np.ndarray, factor: int) -> np.ndarray:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_the_networks_size_is_not_changed_on_its_way(model: Path, kind: str) -> None:
    rgb = image()
    with Segmenter(model, kind, threads=1) as segmenter:
        result = segmenter(rgb)
    np.testing.assert_array_equal(result.labels, tiny_labels(rgb))
    np.testing.assert_array_equal(result.confidence, rgb[..., 2])
    np.testing.assert_array_equal(result.superpixels, grid_cells(INPUT_SIZE))
    assert result.superpixels is not None
    assert result.superpixels.dtype == np.uint16
    assert tuple(result.timings_ms) == STAGES
    assert result.total_ms == pytest.approx(sum(result.timings_ms.values()))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_larger_image_is_averaged_down_and_its_masks_come_back_at_its_size(model: Path, factor: int) -> None:
    small = image()
    with Segmenter(model, "onnxruntime") as segmenter:
        result = segmenter(enlarged(small, factor))
    # Halving a picture of even blocks gives the small picture exactly.
    np.testing.assert_array_equal(result.labels, enlarged(tiny_labels(small), factor))
    np.testing.assert_array_equal(result.superpixels, enlarged(grid_cells(INPUT_SIZE), factor))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (25, 33), (48, 50), (100, 30), (97, 131)])
def test_masks_take_the_nearest_pixel_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    # Every pixel of the network is a superpixel of its own, so that the ids tell where a mask's pixel comes from.
    with Segmenter(write_tiny_model(tmp_path / "m.onnx", grid=INPUT_SIZE), "onnxruntime") as segmenter:
        result = segmenter(image(size))
    assert result.superpixels is not None
    rows, columns = np.divmod(result.superpixels.astype(float), INPUT_SIZE[1])
    ideal_rows = (np.arange(size[0]) + 0.5) * INPUT_SIZE[0] / size[0]
    ideal_columns = (np.arange(size[1]) + 0.5) * INPUT_SIZE[1] / size[1]
    # Half a pixel is a tie between two centres.
    assert np.abs(rows + 0.5 - ideal_rows[:, None]).max() <= 0.5 + 1e-9
    assert np.abs(columns + 0.5 - ideal_columns[None, :]).max() <= 0.5 + 1e-9
    assert result.labels.shape == size
    assert result.labels.dtype == np.uint8


def test_both_engines_give_the_same(model: Path) -> None:
    rgb = image((60, 70))
    results = []
    for kind in KINDS:
        with Segmenter(model, kind) as segmenter:
            assert segmenter.engine_name == kind
            results.append(segmenter(rgb))
    for name in ("labels", "confidence", "superpixels"):
        np.testing.assert_array_equal(getattr(results[0], name), getattr(results[1], name))


@pytest.mark.parametrize("kind", KINDS)
def test_results_stay_as_they_are_while_further_images_come(model: Path, kind: str) -> None:
    with Segmenter(model, kind) as segmenter:
        results = [segmenter(image(seed=seed)) for seed in range(3)]
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(result.labels, tiny_labels(image(seed=seed)))


def test_outputs_that_nobody_wants_are_left_out(model: Path, tmp_path: Path) -> None:
    with Segmenter(model) as segmenter:
        result = segmenter(image(), want_confidence=False, want_superpixels=False)
        assert result.confidence is None
        assert result.superpixels is None
    with Segmenter(write_tiny_model(tmp_path / "plain.onnx", grid=None)) as segmenter:
        assert segmenter(image()).superpixels is None


def test_rows_may_be_padded(model: Path) -> None:
    wide = image((24, 40))
    with Segmenter(model) as segmenter:
        np.testing.assert_array_equal(segmenter(wide[:, :32]).labels, tiny_labels(wide[:, :32]))
        np.testing.assert_array_equal(segmenter(wide[:, :30]).labels, segmenter(wide[:, :30].copy()).labels)


@pytest.mark.parametrize("kind", KINDS)
def test_it_may_be_opened_in_one_thread_and_used_in_another(model: Path, kind: str) -> None:
    results: list[Segmentation] = []
    with Segmenter(model, kind) as segmenter:
        worker = threading.Thread(target=lambda: results.append(segmenter(image())))
        worker.start()
        worker.join()
    np.testing.assert_array_equal(results[0].labels, tiny_labels(image()))


def test_warm_up_gives_a_time_and_closing_closes(model: Path) -> None:
    segmenter = Segmenter(model)
    with pytest.raises(EngineError, match="the segmenter is not open"):
        segmenter(image())
    with segmenter:
        assert segmenter.warm_up() > 0
    with pytest.raises(EngineError, match="not open"):
        segmenter(image())


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_rgb_image_is_refused(model: Path, wrong: np.ndarray) -> None:
    with Segmenter(model) as segmenter, pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        segmenter(wrong)


@pytest.mark.parametrize("factor", [1, 1.6, 4])
def test_an_image_that_is_blue_first_has_the_masks_of_the_same_image_red_first(tmp_path: Path, factor: float) -> None:
    size = (round(factor * INPUT_SIZE[0]), round(factor * INPUT_SIZE[1]))
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    with Segmenter(write_tiny_model(tmp_path / "m.onnx"), "onnxruntime") as segmenter:
        expected, turned, other = segmenter.segment(rgb), segmenter.segment(bgr, bgr=True), segmenter.segment(bgr)
    np.testing.assert_array_equal(turned.labels, expected.labels)
    np.testing.assert_array_equal(turned.confidence, expected.confidence)
    assert (other.labels != expected.labels).any()  # the model tells red from blue
