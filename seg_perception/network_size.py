"""From a camera's size to the network's, and back where the network itself decides each of its pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from seg_perception.engines.base import EngineError
from seg_perception.model.model_file import ModelInfo


def fill_network_input(image: np.ndarray, target: np.ndarray, bgr: bool = False) -> None:
    """Resize an image into the network's input, bilinear as in training.

    Bilinear alone skips pixels when it shrinks by more than two, so thin things would flicker. Halving first, by 2x2 means,
    costs a fraction of a millisecond and uses every pixel.

    Args:
        image: uint8 [H, W, 3], only read.
        target: uint8 [h, w, 3], C-contiguous, written: RGB.
        bgr: whether the image is blue first. It is turned round at the network's size, where there are fewer pixels.
    """
    height, width = target.shape[:2]
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if image.shape == target.shape:
        np.copyto(target, image)
    else:
        cv2.resize(image, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    if bgr:
        cv2.cvtColor(target, cv2.COLOR_BGR2RGB, dst=target)


def enlarged(
    outputs: dict[str, np.ndarray],
    name: str,
    info: ModelInfo,
    size: tuple[int, int],
    dtype: type[np.unsignedinteger[Any]] = np.uint8,
) -> np.ndarray:
    """One output of a model of the form `labels` at a size; every pixel takes the id of the nearest pixel centre.

    Args:
        outputs: of the engine, each [1, h, w].
        name: of the output.
        info: of the model.
        size: (H, W) of the result.
        dtype: of the result.

    Raises:
        EngineError: the output has not the size that the model file declares.
    """
    ids = outputs[name][0]
    if ids.shape != info.input_size:
        raise EngineError(
            f"model {info.name} gave {name} of {list(ids.shape)} where its file declares {list(info.input_size)}"
        )
    ids = ids.astype(dtype, copy=False)
    if ids.shape == size:
        return ids.copy()  # the engine's memory is overwritten by the next frame
    # INTER_NEAREST_EXACT, since plain INTER_NEAREST in OpenCV is half a source pixel off.
    return cv2.resize(ids, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
