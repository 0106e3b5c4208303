"""What a cheap camera does to a picture, as augmentation: rendered images are clean, evenly exposed and rightly coloured.

The order is that of light and electronics: vignetting, white balance and colour cast, exposure, blur by motion, noise,
gamma, colours lost, JPEG. Each effect happens with a probability of its own and with a strength drawn anew for each image.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

# Ranges that the strengths are drawn from.
VIGNETTING = (0.15, 0.7)  # light lost in the corners, as a share
WHITE_BALANCE = 0.15  # standard deviation of red's and blue's gain, natural logarithm; 0.2 is about 1500 K
COLOUR_CAST = 20.0  # largest offset of a channel, of 255: light that is scattered in lens or housing
EXPOSURE_STOPS = (-1.2, 0.9)
MOTION_PIXELS = (2.0, 9.0)  # of a 512 pixels wide image
NOISE = (1.0, 10.0)  # standard deviation in dark parts, of 255; a third more where it is bright
GAMMA = (0.6, 1.6)
JPEG_QUALITY = (15, 70)


@dataclass(frozen=True)
class CameraAugmentation:
    """Effects of a camera on an RGB uint8 image; the labels stay as they are.

    Attributes:
        vignetting, white_balance, colour_cast, exposure, motion_blur, noise, gamma, grey, jpeg: probability of each, in
            0..1; 0 never does it. Grey turns the image into one of a monochrome camera.

    Raises:
        ValueError: a probability outside 0..1.
    """

    vignetting: float = 0.0
    white_balance: float = 0.0
    colour_cast: float = 0.0
    exposure: float = 0.0
    motion_blur: float = 0.0
    noise: float = 0.0
    gamma: float = 0.0
    grey: float = 0.0
    jpeg: float = 0.0

    def __post_init__(self) -> None:
        for name, probability in dataclasses.asdict(self).items():
            if not 0 <= probability <= 1:
                raise ValueError(f"camera.{name} is {probability:g}; expected a probability, a number in 0..1")

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (H, W, 3). The same generator gives the same image; what never happens draws nothing."""
        if image.size == 0:  # a crop that lies beside its picture
            return image

        def happens(probability: float) -> bool:
            return probability > 0 and generator.random() < probability

        if happens(self.vignetting):
            image = vignette(image, generator)
        table = np.tile(np.arange(256.0)[:, None], (1, 3))  # what each value of a channel becomes
        if happens(self.white_balance):
            table *= np.exp(generator.normal(0, WHITE_BALANCE, 3) * (1, 0.3, 1))
        if happens(self.colour_cast):
            offset = generator.uniform(-COLOUR_CAST / 3, COLOUR_CAST, 3)
            table = offset + table * (255 - np.maximum(offset, 0)) / 255
        if happens(self.exposure):
            table *= 2 ** generator.uniform(*EXPOSURE_STOPS)
        image = look_up(image, table)
        if happens(self.motion_blur):
            image = blur_by_motion(image, generator)
        if happens(self.noise):
            image = add_noise(image, generator)
        if happens(self.gamma):
            gamma = np.exp(generator.uniform(*np.log(GAMMA)))
            image = look_up(image, np.tile(255 * (np.arange(256.0)[:, None] / 255) ** gamma, (1, 3)))
        if happens(self.grey):
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if happens(self.jpeg):
            image = compress(image, int(generator.integers(*JPEG_QUALITY)))
        return image


def look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) through a table of values, float (256, 3), rounded and clipped to 0..255."""
    return cv2.LUT(image, np.clip(np.rint(table), 0, 255).astype(np.uint8)[None])


def vignette(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Darken towards the corners with the square of the distance from a centre near the middle."""
    height, width = image.shape[:2]
    centre = generator.uniform(0.4, 0.6, 2)
    y = (np.arange(height, dtype=np.float32) / height - centre[0]) ** 2
    x = (np.arange(width, dtype=np.float32) / width - centre[1]) ** 2
    lost = np.float32(generator.uniform(*VIGNETTING) / 0.5)  # 0.5: squared distance of a corner from the middle
    light = np.clip(1 - lost * (y[:, None] + x), 0, 1)
    return (image * light[..., None]).astype(np.uint8)


def blur_by_motion(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Average along a line of a random direction; its length goes with the image's width."""
    length = generator.uniform(*MOTION_PIXELS) * image.shape[1] / 512
    side = 2 * int(np.ceil(length / 2)) + 1
    angle = generator.uniform(0, np.pi)
    kernel = np.zeros((side, side), np.float32)
    steps = np.linspace(-length / 2, length / 2, 4 * side)
    rows, columns = (np.rint(side // 2 + steps * f(angle)).astype(int).clip(0, side - 1) for f in (np.sin, np.cos))
    np.add.at(kernel, (rows, columns), 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def add_noise(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Noise of a sensor: half of the time the same in all channels, and of single pixels or, as after demosaicing, of pairs."""
    height, width = image.shape[:2]
    step = int(generator.integers(1, 3))
    channels = int(generator.choice([1, 3]))
    shape = (-(-height // step), -(-width // step), channels)
    noise: np.ndarray = generator.standard_normal(shape, np.float32) * np.float32(generator.uniform(*NOISE))
    if step > 1:
        noise = cv2.resize(noise, (width, height)).reshape(height, width, channels)
    noise = noise * (1 + image[..., 1:2] * np.float32(1 / 765))  # shot noise: more photons, more spread
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG and back."""
    coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was just encoded
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
