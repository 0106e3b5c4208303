"""The segmenter with a file of the form `association`: it paints, at the image's own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg_perception.engines.base import EngineError, MaskRequest
from seg_perception.painting import Painter
from seg_perception.segmenter import Segmentation, Segmenter
from test.seg_perception.tiny_model import (
    CELL,
    GRID,
    INPUT_SIZE,
    grid_cells,
    tiny_labels,
    write_tiny_association_model,
)

KINDS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_association_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def cells_image(seed: int = 0) -> np.ndarray:
    """Of one colour a cell: uint8 [H, W, 3]."""
    colours = np.random.default_rng(seed).integers(0, 256, (*GRID, 3), np.uint8)
    return colours.repeat(CELL[0], 0).repeat(CELL[1], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1, 3])
def test_masks_are_painted_at_the_images_size(model: Path, kind: str, factor: int) -> None:
    rgb = cells_image().repeat(factor, 0).repeat(factor, 1)
    with Segmenter(model, kind, threads=1) as segmenter:
        result = segmenter(rgb)
    # Bilinear resizing mixes colours at the borders of cells; their means stay.
    np.testing.assert_array_equal(result.labels, tiny_labels(rgb))
    np.testing.assert_array_equal(result.superpixels, grid_cells(rgb.shape[:2]))
    # The own cell's weight is 1 / (1 + 8 exp(-10)), so its class has all but e^-20 of the probability.
    assert (result.confidence == 255).all()


def test_labels_come_before_the_confidence_is_made(model: Path) -> None:
    seen: list[tuple[bool, bool]] = []

    def on_labels(early: Segmentation) -> None:
        seen.append((early.confidence is None, early.superpixels is not None))
        np.testing.assert_array_equal(early.labels, tiny_labels(rgb))

    rgb = cells_image()
    with Segmenter(model, "onnxruntime") as segmenter:
        result = segmenter.segment(rgb, on_labels=on_labels)
        at_once = segmenter.segment(rgb)
        without = segmenter.segment(rgb, want_confidence=False, want_superpixels=False, on_labels=lambda _: None)
    assert seen == [(True, True)]
    np.testing.assert_array_equal(result.confidence, at_once.confidence)
    assert (without.confidence, without.superpixels) == (None, None)


def test_what_nobody_wants_is_not_painted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = cells_image()
    with Segmenter(model, "onnxruntime") as segmenter:
        superpixels = segmenter.segment(rgb, False, True, size=(48, 64), want_labels=False)
        monkeypatch.delattr(Painter, "paint")
        nothing = segmenter.segment(rgb, False, False, want_labels=False)
    assert superpixels.labels.size == 0
    np.testing.assert_array_equal(superpixels.superpixels, grid_cells((48, 64)))
    assert (nothing.labels.size, nothing.confidence, nothing.superpixels) == (0, None, None)
    np.testing.assert_array_equal(nothing.class_logits.argmax(-1), tiny_labels(rgb[:: CELL[0], :: CELL[1]]))


def test_engines_that_gain_nothing_by_several_images_at_once_say_so(model: Path) -> None:
    with Segmenter(model, "onnxruntime") as segmenter:
        assert segmenter.best_batch == 1
        assert segmenter.segment_together([cells_image()], [MaskRequest(INPUT_SIZE)]) is None
        with pytest.raises(ValueError, match="expected uint8"):
            segmenter.segment_together([cells_image().astype(float)], [MaskRequest(INPUT_SIZE)])


def test_results_stay_as_they_are_while_further_images_come(model: Path) -> None:
    with Segmenter(model, "openvino") as segmenter:
        first = segmenter(cells_image(1))
        kept = [array.copy() for array in (first.labels, first.confidence, first.superpixels)]
        segmenter(cells_image(2))
    for before, after in zip(kept, (first.labels, first.confidence, first.superpixels), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", ["association", "class_logits"])
def test_an_output_of_another_shape_than_declared_is_named(tmp_path: Path, name: str) -> None:
    shapes: dict[str, list[int | str]] = {name: ["B", "a", "b", "c", "d"][: 5 if name == "association" else 4]}
    # Shapes left open: the file may be anything until it runs. Its geometry says 5x4 cells, the graph gives 3x4.
    changes: dict[str, str | None] = {"superpixel_grid": "[4, 4]", "cell": "[8, 8]"}
    other = "class_logits" if name == "association" else "association"
    shapes[other] = ["B", "e", "f", "g", "h"][: 5 if other == "association" else 4]
    path = write_tiny_association_model(tmp_path / "m.onnx", changes, shapes)
    with (
        Segmenter(path, "onnxruntime") as segmenter,
        pytest.raises(EngineError, match=r"gave other outputs than its file declares: association is \[3, 4, 4, 9\]"),
    ):
        segmenter(np.zeros((*INPUT_SIZE, 3), np.uint8))


def test_scores_of_more_classes_than_the_file_names_are_refused(tmp_path: Path) -> None:
    changes: dict[str, str | None] = {"class_names": '["a", "b", "c"]', "palette": "[[0, 0, 0], [1, 1, 1], [2, 2, 2]]"}
    path = write_tiny_association_model(tmp_path / "m.onnx", changes, {"class_logits": ["B", "a", "b", "c"]})
    with (
        Segmenter(path, "onnxruntime") as segmenter,
        pytest.raises(EngineError, match="than its file declares: scores of 4 classes, and it names 3"),
    ):
        segmenter.warm_up()  # at configure, before the first frame


@pytest.mark.parametrize("kind", KINDS)
def test_masks_have_the_size_that_is_asked_for(model: Path, kind: str) -> None:
    rgb = cells_image().repeat(2, 0).repeat(2, 1)
    with Segmenter(model, kind, threads=1) as segmenter:
        result = segmenter.segment(rgb, size=INPUT_SIZE)
    assert {mask.shape for mask in (result.labels, result.confidence, result.superpixels)} == {INPUT_SIZE}
    np.testing.assert_array_equal(result.labels, tiny_labels(cells_image()))


def test_class_scores_of_the_superpixels_come_with_the_masks(model: Path) -> None:
    with Segmenter(model, "onnxruntime") as segmenter:
        result = segmenter.segment(cells_image())
        assert result.class_logits is not None
        np.testing.assert_array_equal(result.class_logits.argmax(-1), tiny_labels(cells_image())[::8, ::8])


def test_what_a_smoother_gives_is_painted(model: Path) -> None:
    seen: list[tuple[dict[str, tuple[int, ...]], tuple[int, ...]]] = []

    def always_class_2(outputs: dict[str, np.ndarray], network: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(({name: array.shape for name, array in outputs.items()}, network.shape))
        logits = np.zeros_like(outputs["class_logits"])
        logits[..., 2] = 20
        return {"association": outputs["association"], "class_logits": logits}

    with Segmenter(model, "openvino") as segmenter:
        result = segmenter.segment(cells_image(), smooth=always_class_2)
    assert seen == [({"association": (*GRID, 4, 9), "class_logits": (*GRID, 4)}, (*INPUT_SIZE, 3))]
    assert (result.labels == 2).all()
    assert result.class_logits is not None
    assert (result.class_logits.argmax(-1) == 2).all()
