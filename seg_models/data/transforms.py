"""Augmentation as the papers do it, on uint8 arrays: random scale, crop, flip, colour jitter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from seg_models.losses import IGNORE


@dataclass(frozen=True)
class Resize:
    """Evaluation: the whole image at the network's size (bilinear; labels nearest)."""

    size: tuple[int, int]

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3), (H, W) -> (h, w, 3), (h, w) with (h, w) = `size`; the generator is not used."""
        target = (self.size[1], self.size[0])
        return (
            cv2.resize(image, target, interpolation=cv2.INTER_LINEAR),
            cv2.resize(labels, target, interpolation=cv2.INTER_NEAREST),
        )


@dataclass(frozen=True)
class RandomScaleCropFlip:
    """Training: scale, crop, flip in one resampling, then colour jitter.

    Attributes:
        size: (h, w) of the crop. Scale 1 fits the whole image into it.
        scale: range of the random scale, drawn uniformly in its logarithm so that 0.5 is as likely as 2.
        brightness, contrast, saturation: each factor is drawn from 1 -+ the value.
        hue_degrees: shift drawn from -+ the value.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue_degrees: float = 12.0

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3), uint8 (H, W) -> the same at `size`; outside the image: mid grey, labels IGNORE."""
        height, width = self.size
        fit = min(height / image.shape[0], width / image.shape[1])
        scale = fit * float(np.exp(generator.uniform(*np.log(self.scale))))
        # The free room is negative when the image is larger than the crop; either way the offset is drawn inside it.
        x = generator.uniform(0, 1) * (width - scale * image.shape[1])
        y = generator.uniform(0, 1) * (height - scale * image.shape[0])
        matrix = np.array([[scale, 0, x], [0, scale, y]])
        if generator.random() < 0.5:
            matrix[0] = -scale, 0, width - 1 - x
        shape = (width, height)
        grey = (127, 127, 127)
        image = cv2.warpAffine(image, matrix, shape, flags=cv2.INTER_LINEAR, borderValue=grey)
        labels = cv2.warpAffine(labels, matrix, shape, flags=cv2.INTER_NEAREST, borderValue=(IGNORE,))
        return self.jitter(image, generator), labels

    def jitter(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Brightness, contrast, saturation and hue of an RGB uint8 image, as one linear map of the colours."""
        brightness, contrast, saturation = (
            1 + generator.uniform(-v, v) for v in (self.brightness, self.contrast, self.saturation)
        )
        angle = np.deg2rad(generator.uniform(-self.hue_degrees, self.hue_degrees))
        grey = np.array([0.299, 0.587, 0.114])
        saturate = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), grey)
        # Rotation about the grey axis (Rodrigues), which is what a hue shift is for small angles.
        axis = np.ones(3) / np.sqrt(3)
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        rotate = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        gain = brightness * contrast
        offset = brightness * (1 - contrast) * float((image.reshape(-1, 3).mean(0) * grey).sum())
        matrix = np.concatenate([gain * saturate @ rotate, np.full((3, 1), offset)], axis=1)
        # cv2.transform rounds and saturates to 0..255, which is what a camera does too.
        return cv2.transform(image, matrix)
