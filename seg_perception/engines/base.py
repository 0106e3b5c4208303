"""What every inference engine offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from seg_perception.model.model_file import ModelInfo

if TYPE_CHECKING:
    from seg_perception.painting import Painted  # loads numba, which not every engine needs

PRECISIONS = ("f32", "fast")


class EngineError(RuntimeError):
    """An engine is not installed, cannot load a model, or failed while running. The message is one line."""


class NoEngineError(EngineError):
    """No engine is installed that could be chosen. The message is one line that says what to install."""


@dataclass(frozen=True)
class MaskRequest:
    """What is wanted of one image, beside the labels.

    Attributes:
        size: (H, W) of the masks.
        confidence, superpixels: whether these are wanted.
    """

    size: tuple[int, int]
    confidence: bool = True
    superpixels: bool = True


class Engine(ABC):
    """Runs one deployment model.

    An engine is used by one thread at a time; it may be opened in one thread and used in another.

    Args:
        info: the model, already read and checked by `read_model_info`.
        threads: CPU threads for one inference; 0 leaves the choice to the engine.
        precision: "f32" computes in 32-bit floats, so that results compare with training and between machines;
            "fast" lets the engine use what is quickest on the device (bfloat16, TF32, half floats).
        batch_size: images in every call of `infer`. Fixed at `open`, because engines plan better for a known size.

    Raises:
        ValueError: an argument is outside its range, or the model is fixed to another batch size.
    """

    name: str

    def __init__(self, info: ModelInfo, threads: int = 0, precision: str = "f32", batch_size: int = 1) -> None:
        if threads < 0:
            raise ValueError(f"threads is {threads}, expected 0 (the engine's choice) or more")
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}, expected one of: {', '.join(PRECISIONS)}")
        if batch_size < 1:
            raise ValueError(f"batch size is {batch_size}, expected 1 or more")
        if info.batch_size is not None and info.batch_size != batch_size:
            raise ValueError(
                f"model file {info.path} is fixed to a batch of {info.batch_size}, asked for {batch_size}; "
                "export it with a dynamic batch"
            )
        self.info = info
        self.threads = threads
        self.precision = precision
        self.batch_size = batch_size

    @property
    @abstractmethod
    def description(self) -> str:
        """Version, device and settings in one line, for logs and reports."""

    @property
    def holds_device(self) -> bool:
        """Whether, while it is open, it holds memory of a device besides the processor."""
        return False

    @property
    def device_memory(self) -> tuple[int, int] | None:
        """Memory of the device that it holds some of: free and all, bytes. None where it holds none, or none can say."""
        return None

    @property
    def best_batch(self) -> int:
        """Most images that `infer_painted_batch` takes at once; 1 where several at once gain nothing."""
        return 1

    @property
    def problem(self) -> str:
        """Why this runs less well than it was asked to, in one line; empty where it does not."""
        return ""

    @abstractmethod
    def open(self) -> None:
        """Load the model. Opening an open engine does nothing.

        Raises:
            EngineError: the engine is not installed or cannot load this model.
        """

    @abstractmethod
    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Run the model.

        Args:
            image: uint8 [B, H, W, 3], RGB, C-contiguous, B the batch size and (H, W) the model's input size.

        Returns:
            the outputs of the model's form by name, see `model.forms`: `labels` and `confidence` uint8 [B, H, W] and, where
            there are any, `superpixels` int32 [B, H, W]; or `association` float [B, R, C, P, 9] and `class_logits` float
            [B, R, C, K]. The arrays belong to the engine and hold until the next call.

        Raises:
            EngineError: the engine is not open, or failed.
            ValueError: the array is of another shape or type.
        """

    def infer_painted(
        self, image: np.ndarray, size: tuple[int, int], confidence: bool, superpixels: bool
    ) -> Painted | None:
        """Run the model on one image and paint its result on the device, so that only the masks come back.

        Args:
            image: see `infer`; a batch of one.
            size: (H, W) of the masks.
            confidence, superpixels: whether these are wanted beside the labels.

        Returns:
            the masks, which are the caller's; None where the engine does not do that, and has not run: `infer` does it then.

        Raises:
            EngineError, ValueError: as `infer`.
        """
        return None

    def infer_painted_batch(self, images: np.ndarray, requests: Sequence[MaskRequest]) -> list[Painted] | None:
        """As `infer_painted`, for several images at once, such as those of several cameras.

        Args:
            images: uint8 [B, H, W, 3], RGB, C-contiguous, B from 1 to `best_batch`, whatever the batch size is.
            requests: B of them; the sizes may differ.

        Returns:
            the masks of each image, in order; None where the engine does not do that, and has not run: then one by one.

        Raises:
            EngineError, ValueError: as `infer`.
        """
        return None

    def release_device(self) -> None:
        """Give back all that it holds of a device besides the processor; `open` takes it again.

        An engine that holds none stays open, so that it costs nothing to call this whenever nobody needs images.
        """
        if self.holds_device:
            self.close()

    @abstractmethod
    def close(self) -> None:
        """Free the model. Closing a closed engine does nothing; it can be opened again."""

    def __enter__(self) -> Engine:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def output_names(self) -> list[str]:
        """The model's outputs, in the order of the contract."""
        if self.info.form == "association":
            return ["association", "class_logits"]
        return ["labels", "confidence", "superpixels"] if self.info.has_superpixels else ["labels", "confidence"]

    def _check_image(self, image: np.ndarray) -> None:
        expected = (self.batch_size, *self.info.input_size, 3)
        if image.shape != expected or image.dtype != np.uint8:
            raise ValueError(f"image is {image.dtype} {list(image.shape)}, expected uint8 {list(expected)}")


def last_line(error: BaseException) -> str:
    """The last line of an engine's message: the lines before it say where in its own source it failed."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)
