"""Augmentation as the papers do it, on uint8 arrays: random scale, crop, flip, colour jitter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from seg_models.data.auto_augment import auto_augment
from seg_models.data.camera import CameraAugmentation
from seg_models.data.recolour import recolour
from seg_models.losses import IGNORE

CROP_TRIES = 10  # mmsegmentation's, for a crop in which no class fills too much
GREY = (127.0, 127.0, 127.0)
NO_CAMERA = CameraAugmentation()


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
    """Training: scale, crop, flip in one resampling, then a change of colours.

    Attributes:
        size: (h, w) of the crop.
        scale: range of the random scale.
        resize: None: scale 1 fits the whole image into the crop, the scale is drawn uniformly in its logarithm so that 0.5
            is as likely as 2, and a smaller image lies anywhere in the crop. (long, short): as in mmsegmentation, scale 1
            fits the image's longer side into `long` and its shorter one into `short` pixels, the scale is drawn uniformly,
            and a smaller image lies in the upper left, mirrored or not.
        max_class_share: draw the place of the crop again while one class has this share of its labelled pixels or more,
            or while it has but one class; up to CROP_TRIES times. 0.75 in mmsegmentation (cat_max_ratio); 1 never does.
        photometric_distortion: change colours as in mmsegmentation instead of with the following.
        auto_augment: change colours as in AutoAugment instead (Superpixel Transformer, IV-A).
        padding: RGB of what lies outside the image, put there after the change of colours. The papers pad with zeros behind
            the normalisation, which is the model's mean colour here. A mean with fractions makes the crop float32, so that
            exactly zero is left of it; whole numbers leave it uint8.
        camera: effects of a camera behind either change of colours.
        recolour: probability that every surface of an image gets other colours first (see `recolour.py`).
        brightness, contrast, saturation: each factor is drawn from 1 -+ the value.
        hue_degrees: shift drawn from -+ the value.

    Raises:
        ValueError: a scale, a resize, a share, a probability or a padding outside its range, or two changes of colours.
    """

    size: tuple[int, int]
    scale: tuple[float, ...] = (0.5, 2.0)
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue_degrees: float = 12.0
    resize: tuple[int, ...] | None = None
    max_class_share: float = 1.0
    photometric_distortion: bool = False
    padding: tuple[float, ...] = GREY
    camera: CameraAugmentation = NO_CAMERA
    auto_augment: bool = False
    recolour: float = 0.0

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}; expected [lowest, highest], both above 0")
        if self.resize is not None and (len(self.resize) != 2 or not self.resize[0] >= self.resize[1] > 0):
            raise ValueError(f"resize is {list(self.resize)}; expected [long, short] in pixels, such as [2048, 512]")
        if not 0 < self.max_class_share <= 1:
            raise ValueError(f"max_class_share is {self.max_class_share}; expected a number above 0 and at most 1")
        if not 0 <= self.recolour <= 1:
            raise ValueError(f"recolour is {self.recolour:g}; expected a probability, a number in 0..1")
        if len(self.padding) != 3 or not all(0 <= value <= 255 for value in self.padding):
            raise ValueError(f"padding is {list(self.padding)}; expected three values in 0..255")
        if self.auto_augment and self.photometric_distortion:
            raise ValueError("auto_augment and photometric_distortion are both on; expected one change of colours")

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3), uint8 (H, W) -> the same at `size`; outside the image: `padding`, labels IGNORE."""
        height, width = self.size
        scale = self.draw_scale(image.shape[0], image.shape[1], generator)
        free = (width - scale * image.shape[1], height - scale * image.shape[0])  # negative: the image is larger
        x, y = self.draw_offset(free, generator)
        if self.max_class_share < 1:
            for _ in range(CROP_TRIES):
                if has_variety(place(labels, scale, x, y, self.size), self.max_class_share):
                    break
                x, y = self.draw_offset(free, generator)
        mirror = None
        if generator.random() < 0.5:
            mirror = width - 1.0 if self.resize is None else min(width, round(scale * image.shape[1])) - 1.0
        inside = place(np.zeros_like(labels), scale, x, y, self.size, mirror) != IGNORE  # (h, w), a rectangle
        image = place(image, scale, x, y, self.size, mirror)
        labels = place(labels, scale, x, y, self.size, mirror)
        is_whole = all(float(value).is_integer() for value in self.padding)
        crop = np.empty(image.shape, np.uint8 if is_whole else np.float32)
        crop[:] = self.padding
        if inside.any():  # a sliver of less than a pixel may miss all of them
            rows, columns = extent(inside.any(1)), extent(inside.any(0))
            crop[rows, columns] = self.change_colours(image[rows, columns], labels[rows, columns], generator)
        return crop, labels

    def change_colours(self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """What of the image and labels is in the crop, uint8 (h, w, 3) and (h, w) -> the image with other colours."""
        if self.recolour > 0 and generator.random() < self.recolour:
            image = recolour(image, labels, generator)
        if self.auto_augment:
            image = auto_augment(image, generator)
        else:
            image = distort(image, generator) if self.photometric_distortion else self.jitter(image, generator)
        return self.camera(image, generator)

    def draw_scale(self, height: int, width: int, generator: np.random.Generator) -> float:
        """Factor from the image's pixels to the crop's."""
        if self.resize is None:
            fit = min(self.size[0] / height, self.size[1] / width)
            low, high = np.log(self.scale)
            return fit * float(np.exp(generator.uniform(low, high)))
        long, short = max(height, width), min(height, width)
        return min(self.resize[0] / long, self.resize[1] / short) * generator.uniform(self.scale[0], self.scale[1])

    def draw_offset(self, free: tuple[float, float], generator: np.random.Generator) -> tuple[float, float]:
        """Where the image's upper left corner lies in the crop (x, y); `free`: the crop's width and height minus its own."""
        if self.resize is None:
            return generator.uniform(0, 1) * free[0], generator.uniform(0, 1) * free[1]
        x, y = (float(-generator.integers(0, max(round(-room), 0) + 1)) for room in free)
        return x, y

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


def place(
    picture: np.ndarray, scale: float, x: float, y: float, size: tuple[int, int], mirror: float | None = None
) -> np.ndarray:
    """A picture scaled and moved into a crop.

    Args:
        picture: image uint8 (H, W, 3), resampled bilinearly, its edges repeated around it, or labels uint8 (H, W), nearest
            and IGNORE around them.
        scale: pixels of the crop along a pixel of the picture.
        x, y: place of its upper left corner in the crop.
        size: (h, w) of the crop.
        mirror: the column that column 0 becomes, for a mirrored crop.

    Returns:
        uint8 (h, w, 3) or (h, w).
    """
    matrix = np.array([[scale, 0, x], [0, scale, y]])
    if mirror is not None:
        matrix[0] = -scale, 0, mirror - x
    is_labels = picture.ndim == 2
    return cv2.warpAffine(
        picture,
        matrix,
        (size[1], size[0]),
        flags=cv2.INTER_NEAREST if is_labels else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT if is_labels else cv2.BORDER_REPLICATE,
        borderValue=(IGNORE,),
    )


def extent(present: np.ndarray) -> slice:
    """From the first to the last true entry of bool (n,), of which there is one."""
    places = np.flatnonzero(present)
    return slice(places[0], places[-1] + 1)


def has_variety(labels: np.ndarray, max_class_share: float) -> bool:
    """Whether labels uint8 (h, w) show two classes or more, each with less than a share of the labelled pixels."""
    pixels = np.bincount(labels.ravel(), minlength=IGNORE + 1)
    pixels[IGNORE] = 0
    return bool(np.count_nonzero(pixels) > 1 and pixels.max() < max_class_share * pixels.sum())


def distort(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """mmsegmentation's photometric distortion of an RGB uint8 image (H, W, 3). Each of these happens in half of the cases:

    add -+32 to every channel; multiply them with 0.5 to 1.5 (contrast), now or at the end; multiply the saturation with 0.5
    to 1.5; turn the hue by -+36 degrees.
    """
    values = np.arange(256.0)
    contrast_comes_last = generator.random() < 0.5
    brightness = generator.uniform(-32, 32) if generator.random() < 0.5 else 0.0
    contrast = generator.uniform(0.5, 1.5) if generator.random() < 0.5 else 1.0
    saturation = generator.uniform(0.5, 1.5) if generator.random() < 0.5 else 1.0
    hue = int(generator.integers(-18, 18)) if generator.random() < 0.5 else 0  # OpenCV's steps of 2 degrees

    first = np.clip(values + brightness, 0, 255) * (1.0 if contrast_comes_last else contrast)
    image = cv2.LUT(image, np.clip(first, 0, 255).astype(np.uint8))
    if saturation != 1 or hue != 0:
        tables = np.stack([(values + hue) % 180, np.clip(values * saturation, 0, 255), values], axis=-1)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), tables[None].astype(np.uint8))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if contrast_comes_last:
        image = cv2.LUT(image, np.clip(values * contrast, 0, 255).astype(np.uint8))
    return image
