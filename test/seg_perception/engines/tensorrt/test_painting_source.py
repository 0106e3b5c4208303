"""The GPU's painting kernel: compiled for every GPU of interest, and its results, from a build for this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt.painting_source import PaintingConstants, axis_tables, compile_painting
from seg_perception.painting_geometry import axis
from test.seg_perception.engines.tensorrt.host_kernel import HostKernel

torch = pytest.importorskip("torch", reason="needs torch for the reference: pip install 'seg_perception[train]'")
from seg_models.ops.painting import PaintingGeometry, paint_association  # noqa: E402

FLOAT, HALF = np.dtype(np.float32), np.dtype(np.float16)
CASES = {
    # name: geometry, K, element types, output size
    "the robot's": (PaintingGeometry((384, 512), (12, 16), (32, 32), (4, 4)), 16, (FLOAT, FLOAT), (480, 640)),
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


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (11, 0), (12, 0)], ids=str)
def test_the_kernel_compiles_for_every_gpu_of_interest(capability: tuple[int, int]) -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("needs NVRTC: pip install 'seg_perception[cuda]'")
    small = PaintingConstants((12, 16), (4, 4), 16, HALF, FLOAT)
    cubin = compile_painting(small, capability)
    assert cubin[:4] == b"\x7fELF"
    assert b"paint" in cubin


def test_a_gpu_that_the_compiler_does_not_know_is_one_line() -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("needs NVRTC: pip install 'seg_perception[cuda]'")
    with pytest.raises(EngineError, match=r"sm_13: .*"):
        compile_painting(PaintingConstants((12, 16), (4, 4), 16, HALF, FLOAT), (1, 3))


def test_a_type_that_the_kernel_does_not_read_is_refused() -> None:
    with pytest.raises(ValueError, match="association is int8, expected float32 or float16"):
        PaintingConstants((12, 16), (4, 4), 16, np.dtype(np.int8), FLOAT)
