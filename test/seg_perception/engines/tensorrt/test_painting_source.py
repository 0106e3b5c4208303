"""The GPU's painting kernel: compiled for every GPU of interest, and its results, from a build for this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt.painting_source import PaintingConstants, axis_tables, compile_painting
from seg_perception.engines.tensorrt.stored_images import stored_images
from seg_perception.model.model_file import read_model_info
from seg_perception.painting_geometry import axis
from seg_perception.share import share_path
from test.seg_perception.engines.tensorrt.host_kernel import HostKernel

torch = pytest.importorskip("torch", reason="needs torch for the reference: pip install 'seg_perception[train]'")
from seg_models.ops.painting import PaintingGeometry, paint_association  # noqa: E402

FLOAT, HALF = np.dtype(np.float32), np.dtype(np.float16)
CASES = {
    # name: geometry, K, element types, output size
    "the robot's": (PaintingGeometry((384, 512), (24, 32), (16, 16), (2, 2)), 16, (FLOAT, FLOAT), (240, 320)),
    "network size": (PaintingGeometry((96, 128), (3, 4), (32, 32), (4, 4)), 5, (FLOAT, FLOAT), (96, 128)),
    "half": (PaintingGeometry((96, 128), (3, 4), (32, 32), (4, 4)), 16, (HALF, HALF), (120, 160)),
    "mixed types": (PaintingGeometry((64, 64), (2, 2), (32, 32), (8, 8)), 7, (FLOAT, HALF), (100, 77)),
    "two classes": (PaintingGeometry((64, 96), (2, 3), (32, 32), (4, 4)), 2, (FLOAT, FLOAT), (64, 96)),
    "171 classes": (PaintingGeometry((64, 96), (2, 3), (32, 32), (4, 4)), 171, (FLOAT, FLOAT), (75, 131)),
    "255 classes": (PaintingGeometry((64, 64), (2, 2), (32, 32), (4, 4)), 255, (HALF, FLOAT), (40, 40)),
    "one class": (PaintingGeometry((64, 64), (2, 2), (32, 32), (4, 4)), 1, (FLOAT, FLOAT), (33, 65)),
    "one cell": (PaintingGeometry((32, 32), (1, 1), (32, 32), (4, 4)), 4, (FLOAT, FLOAT), (50, 51)),
    "overhang": (PaintingGeometry((70, 100), (3, 4), (32, 32), (4, 4)), 6, (FLOAT, FLOAT), (211, 97)),
    "fewer pixels than cells": (PaintingGeometry((96, 128), (3, 4), (32, 32), (4, 4)), 6, (FLOAT, FLOAT), (2, 3)),
    "oblong cells": (PaintingGeometry((64, 96), (4, 3), (16, 32), (2, 8)), 6, (FLOAT, FLOAT), (97, 203)),
    "one feature": (PaintingGeometry((64, 96), (4, 6), (16, 16), (1, 1)), 6, (FLOAT, FLOAT), (61, 97)),
}


def random_maps(
    geometry: PaintingGeometry, classes: int, types: tuple[np.dtype, np.dtype], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cells = (*geometry.grid, geometry.feature_cell[0] * geometry.feature_cell[1], 9)
    association = rng.normal(0, 3, cells).astype(types[0])
    class_logits = rng.normal(0, 3, (*geometry.grid, classes)).astype(types[1])
    return association, class_logits


def axes(geometry: PaintingGeometry, size: tuple[int, int]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return tuple(
        axis_tables(axis(*sides))
        for sides in zip(size, geometry.input_size, geometry.cell, geometry.feature_cell, geometry.grid, strict=True)
    )


def reference(
    association: np.ndarray, class_logits: np.ndarray, geometry: PaintingGeometry, size: tuple[int, int]
) -> list[np.ndarray]:
    painted = paint_association(
        torch.from_numpy(association)[None], torch.from_numpy(class_logits)[None], geometry, size
    )
    return [output[0].numpy() for output in painted]


def constants(geometry: PaintingGeometry, classes: int, types: tuple[np.dtype, np.dtype]) -> PaintingConstants:
    return PaintingConstants(geometry.grid, geometry.feature_cell, classes, *types)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernel_paints_as_the_reference_does(case: str, tmp_path: Path) -> None:
    geometry, classes, types, size = CASES[case]
    kernel = HostKernel.build(constants(geometry, classes, types), tmp_path)
    association, class_logits = random_maps(geometry, classes, types)
    labels, confidence, superpixels = kernel.paint(association, class_logits, axes(geometry, size))
    expected = reference(association, class_logits, geometry, size)
    # Scores are drawn from a continuum, so ties are rare: one pixel in 10,000 may be decided by a last bit.
    assert (labels != expected[0]).mean() <= 1e-4
    assert (superpixels != expected[2]).mean() <= 1e-4
    assert np.abs(confidence.astype(int) - expected[1]).max() <= 1


def test_what_is_not_finite_breaks_its_own_cells_alone(tmp_path: Path) -> None:
    geometry, classes, types, size = CASES["network size"]
    kernel = HostKernel.build(constants(geometry, classes, types), tmp_path)
    association, class_logits = random_maps(geometry, classes, types)
    association[0, 1, 3, 0] = np.nan  # neighbour 0 of the first row lies outside the grid: it breaks nothing
    association[1, 1, 0, 4] = np.inf
    class_logits[2, 3, 1] = np.nan  # of the corner superpixel: breaks the four cells that mix it
    labels, confidence, superpixels = kernel.paint(association, class_logits, axes(geometry, size))
    expected = reference(association, class_logits, geometry, size)
    np.testing.assert_array_equal(labels == 255, expected[0] == 255)
    assert (expected[0] == 255).sum() == 5 * 32 * 32
    np.testing.assert_array_equal(confidence[labels == 255], 0)
    np.testing.assert_array_equal(superpixels, expected[2])


def test_outputs_that_nobody_wants_are_left_out(tmp_path: Path) -> None:
    geometry, classes, types, size = CASES["two classes"]
    kernel = HostKernel.build(constants(geometry, classes, types), tmp_path)
    maps = random_maps(geometry, classes, types)
    whole = kernel.paint(*maps, axes(geometry, size))
    for wanted in ((False, False), (True, False), (False, True)):
        labels, confidence, superpixels = kernel.paint(*maps, axes(geometry, size), wanted)
        np.testing.assert_array_equal(labels, whole[0])
        assert [confidence is not None, superpixels is not None] == list(wanted)


def test_the_kernel_paints_the_shipped_models_maps_of_real_images_at_a_place_of_a_batch(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="computes the maps: pip install onnxruntime")
    model = share_path("models/rooms_spt_lite0.onnx")
    info = read_model_info(model)
    assert info.geometry is not None
    height, width = info.input_size
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    batch = np.stack([cv2.resize(image, (width, height)) for image in list(stored_images())[:2]])
    association, class_logits = session.run(["association", "class_logits"], {"image": batch})
    kernel = HostKernel.build(constants(info.geometry, info.num_classes, (FLOAT, FLOAT)), tmp_path)
    for place, size in enumerate([(480, 640), (301, 203)]):
        labels, confidence, superpixels = kernel.paint(
            association[place], class_logits[place], axes(info.geometry, size)
        )
        expected = reference(association[place], class_logits[place], info.geometry, size)
        # A trained model's scores tie no more often than random ones: see above.
        assert (labels != expected[0]).mean() <= 1e-4
        assert (superpixels != expected[2]).mean() <= 1e-4
        assert np.abs(confidence.astype(int) - expected[1]).max() <= 1


CAPABILITIES = [(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (11, 0), (12, 0)]


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_the_kernel_compiles_for_every_gpu_of_interest_without_a_warning(
    capability: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("needs NVRTC: pip install 'seg_perception[cuda]'")
    for classes, types in ((16, (HALF, FLOAT)), (2, (FLOAT, FLOAT)), (171, (FLOAT, HALF))):
        cubin = compile_painting(PaintingConstants((12, 16), (4, 4), classes, *types), capability)
        assert cubin[:4] == b"\x7fELF"
        assert b"paint" in cubin
    assert caplog.text == ""


def test_what_the_compiler_warns_of_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("needs NVRTC: pip install 'seg_perception[cuda]'")
    source = tmp_path / "painting.cu"
    source.write_text('extern "C" __global__ void paint() { int unused = 0; }')
    monkeypatch.setattr("seg_perception.engines.tensorrt.painting_source.SOURCE", source)
    compile_painting(PaintingConstants((12, 16), (4, 4), 16, HALF, FLOAT), (8, 7))
    assert "NVRTC on the painting kernel for sm_87: " in caplog.text
    assert "unused" in caplog.text


def test_a_gpu_that_the_compiler_does_not_know_is_one_line() -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("needs NVRTC: pip install 'seg_perception[cuda]'")
    with pytest.raises(EngineError, match=r"sm_13: .*"):
        compile_painting(PaintingConstants((12, 16), (4, 4), 16, HALF, FLOAT), (1, 3))


def test_a_type_that_the_kernel_does_not_read_is_refused() -> None:
    with pytest.raises(ValueError, match="association is int8, expected float32 or float16"):
        PaintingConstants((12, 16), (4, 4), 16, np.dtype(np.int8), FLOAT)
