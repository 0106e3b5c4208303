"""A robot with a device in software that paints, for tests; the model is tiny and of the form `association`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seg_perception.engines.base import Engine
from seg_perception.engines.onnxruntime import OnnxRuntimeEngine
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.make import make_engine
from seg_perception.engines.tensorrt.options import TensorRtSettings
from seg_perception.engines.tensorrt.progress import BuildProgress
from seg_perception.model.model_file import read_model_info
from seg_perception.painting import Painted, Painter
from test.seg_perception.engines.tensorrt.host_kernel import HostKernels, constants_of
from test.seg_perception.engines.tensorrt.software_device import SoftwareCuda
from test.seg_perception.engines.tensorrt.software_runtime import SoftwareTensorRt
from test.seg_perception.tiny_model import INPUT_SIZE, write_tiny_association_model

Kit = tuple[Path, Path, HostKernels]  # a model, a cache with its engine, checked, and what its painting kernel computes

SIZE = (37, 51)  # of the painted image
BIG = (60, 80)
CAMERAS = 3


@dataclass
class Bench:
    """A robot with a device in software and a model of the form `association`."""

    model: Path
    cache: Path
    kernels: HostKernels
    integrated: bool = False
    cameras: int = 1
    while_building: str = "wait"
    progress: list[BuildProgress] = field(default_factory=list)
    cuda: SoftwareCuda = field(init=False)

    def __post_init__(self) -> None:
        self.cuda = SoftwareCuda(self.integrated, self.kernels)
        self.module = SoftwareTensorRt(self.cuda, lambda plan: self.model)
        self.info = read_model_info(self.model)

    def engine(self) -> Engine:
        def other() -> Engine:
            return OnnxRuntimeEngine(self.info, 1, "f32", 1)

        return make_engine(
            self.info,
            1,
            "f32",
            1,
            tensorrt=TensorRt(self.module, "tensorrt_rtx"),
            cuda=self.cuda,
            settings=TensorRtSettings(
                cache=str(self.cache), max_batch=self.cameras, while_building=self.while_building
            ),
            on_progress=self.progress.append,
            fallback=other,
            reference=other,
        )

    def painted(self, engine: Engine, image: np.ndarray, size: tuple[int, int]) -> Painted:
        """As the segmenter does it: by the engine, or where that does not, on the processor."""
        painted = engine.infer_painted(image, size, True, True)
        if painted is not None:
            return painted
        outputs = engine.infer(image)
        return self.expected(outputs, size)

    def expected(self, outputs: dict[str, np.ndarray], size: tuple[int, int]) -> Painted:
        assert self.info.geometry is not None
        return Painter(self.info.geometry).paint(outputs["association"][0], outputs["class_logits"][0], size)


def make_kit(folder: Path) -> Kit:
    """Built once for many benches."""
    model = write_tiny_association_model(folder / "association.onnx")
    kernels = HostKernels(constants_of(read_model_info(model)), folder)
    for cameras in (1, CAMERAS):
        with Bench(model, folder / "engines", kernels, cameras=cameras).engine() as engine:
            assert engine.name == "tensorrt", engine.description
    return model, folder / "engines", kernels


def make_bench(kit: Kit, folder: Path, integrated: bool = False, cameras: int = 1) -> Bench:
    """A robot with a cache of its own in `folder`, in which its engine is already."""
    return Bench(kit[0], Path(shutil.copytree(kit[1], folder)), kit[2], integrated, cameras)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, *INPUT_SIZE, 3), np.uint8)


def assert_same(came: Painted, expected: Painted) -> None:
    np.testing.assert_array_equal(came.labels, expected.labels)
    np.testing.assert_array_equal(came.superpixels, expected.superpixels)
    # Both round a probability x 255 that they sum up in another order.
    assert np.abs(came.confidence.astype(int) - expected.confidence.astype(int)).max() <= 1
