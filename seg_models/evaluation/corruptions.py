"""Sixteen corruptions of images in four groups at five severities, as robustness is measured with (RSSeg, Table 15).

What they do and how strongly is Hendrycks and Dietterich's (2019, ImageNet-C and its extra corruptions). Written for speed and
for random numbers of one's own, they differ from their code in three: `glass_blur` takes every pixel from a random place
nearby instead of swapping pixels one after another, `fog` adds octaves of noise instead of a diamond-square map, and `frost`
draws its crystals, since theirs are photographs.

All take a float32 image (H, W, 3) in 0..1, a severity from 1 to 5 and a generator.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from seg_models.evaluation.robot_corruptions import camera_motion, lens_dirt, overexposure, underexposure

Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def corrupt(image: np.ndarray, name: str, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A corrupted copy.

    Args:
        image: uint8 RGB (H, W, 3).
        name: of a corruption in GROUPS or ROBOT_GROUPS.
        severity: 1 to 5.
        generator: all chance comes from it.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        ValueError: no such corruption or severity.
    """
    known = CORRUPTIONS | ROBOT_GROUPS["robot"]
    if name not in known:
        raise ValueError(f"no corruption {name!r}; expected one of {', '.join(known)}")
    if severity not in range(1, 6):
        raise ValueError(f"severity is {severity}; expected 1 to 5")
    made = known[name](image.astype(np.float32) / 255, severity, generator)
    return (made.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def gaussian_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """The same noise everywhere, of sensors in bad light."""
    return x + generator.normal(0, (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1], x.shape)


def shot_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Photons that are counted: Poisson noise."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    return generator.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Values that are 0 or 1 instead, as bit errors make them."""
    hit = generator.random(x.shape) < (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    return np.where(hit, generator.random(x.shape) < 0.5, x)


def speckle_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Noise in proportion to the value."""
    return x * (1 + generator.normal(0, (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1], x.shape))


def gaussian_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Everything out of focus alike."""
    return cv2.GaussianBlur(x, (0, 0), (1, 2, 3, 4, 6)[severity - 1])


def defocus_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A lens that is out of focus: a disk."""
    radius, soft = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    reach = max(8, radius)
    across, down = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    disk = (across**2 + down**2 <= radius**2).astype(np.float32)
    side = 3 if radius <= 8 else 5
    return cv2.filter2D(
        x, -1, cv2.GaussianBlur(disk / disk.sum(), (side, side), soft), borderType=cv2.BORDER_REFLECT_101
    )


def glass_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Frosted glass: pixels are taken from nearby."""
    deviation, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    x = cv2.GaussianBlur(x, (0, 0), deviation)
    height, width = x.shape[:2]
    for _ in range(rounds):
        rows = (np.arange(height)[:, None] + generator.integers(-reach, reach, (height, width))).clip(0, height - 1)
        cols = (np.arange(width) + generator.integers(-reach, reach, (height, width))).clip(0, width - 1)
        x = x[rows, cols]
    return cv2.GaussianBlur(x, (0, 0), deviation)


def motion_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A camera that moves, within 45 degrees of the horizontal."""
    radius, deviation = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    return smear(x, radius, deviation, generator.uniform(-45, 45))


def smear(x: np.ndarray, radius: int, deviation: float, degrees: float) -> np.ndarray:
    """Blur along a line to one side, with the weights of half a Gaussian: (H, W) or (H, W, 3) -> the same."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    reach = 2 * radius
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    angle = np.deg2rad(degrees)
    rows, cols = np.rint(steps * np.sin(angle)).astype(int), np.rint(steps * np.cos(angle)).astype(int)
    np.add.at(kernel, (reach + rows, reach + cols), weights / weights.sum())
    return cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def brightness(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """More light: the value of each colour rises."""
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = (hsv[..., 2] + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]).clip(0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def contrast(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """All values move towards the image's mean colour."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1] + mean


def saturate(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Colours fade (severities 1 and 2) or glare."""
    factor, shift = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = (hsv[..., 1] * factor + shift).clip(0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def jpeg_compression(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """JPEG at a low quality."""
    quality = (25, 18, 15, 10, 7)[severity - 1]
    picture = cv2.cvtColor((x * 255 + 0.5).astype(np.uint8), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def fog(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Bright haze of uneven density."""
    density, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
    brightest = float(x.max())
    return (x + density * clouds(x.shape[:2], decay, generator)[..., None]) * brightest / (brightest + density)


def clouds(size: tuple[int, int], decay: float, generator: np.random.Generator) -> np.ndarray:
    """Noise in octaves, each finer by two and weaker by `decay`: float32 (H, W) in 0..1."""
    total = np.zeros(size, np.float32)
    side, weight = 2, 1.0
    while side <= max(size):
        coarse = generator.uniform(-1, 1, (side, side)).astype(np.float32)
        total += weight * cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)
        side, weight = 2 * side, weight / decay
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def frost(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Ice crystals on the lens."""
    image_share, ice_share = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    # Ridges are where noise crosses its middle; two of them across each other look like needles.
    ridges = [1 - np.abs(2 * clouds(x.shape[:2], 1.3, generator) - 1) for _ in range(2)]
    ice = np.maximum(*ridges) ** 6 * np.array([0.85, 0.95, 1.0], np.float32).reshape(3, 1, 1)
    return image_share * x + ice_share * ice.transpose(1, 2, 0)


def snow(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Flakes that fall, in front of a paler image."""
    mean, spread, zoom, least, radius, deviation, share = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    height, width = x.shape[:2]
    small = generator.normal(mean, spread, (-(-height // int(zoom)), -(-width // int(zoom)))).astype(np.float32)
    flakes = cv2.resize(small, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)[:height, :width]
    flakes = cv2.resize(flakes, (width, height))
    flakes[flakes < least] = 0
    flakes = smear(flakes.clip(0, 1), radius, deviation, generator.uniform(-135, -45))[..., None]
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    pale = share * x + (1 - share) * np.maximum(x, grey * 1.5 + 0.5)
    return pale + flakes + flakes[::-1, ::-1]


def spatter(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Drops of water (severities 1 to 3) or mud on the lens."""
    mean, spread, blur, least, strength, is_mud = (
        (0.65, 0.3, 4, 0.69, 0.6, False),
        (0.65, 0.3, 3, 0.68, 0.6, False),
        (0.65, 0.3, 2, 0.68, 0.5, False),
        (0.65, 0.3, 1, 0.65, 1.5, True),
        (0.67, 0.4, 1, 0.65, 1.5, True),
    )[severity - 1]
    liquid = cv2.GaussianBlur(generator.normal(mean, spread, x.shape[:2]).astype(np.float32), (0, 0), blur)
    liquid[liquid < least] = 0
    if is_mud:
        cover = cv2.GaussianBlur((liquid > least).astype(np.float32), (0, 0), strength)
        cover[cover < 0.8] = 0
        return x * (1 - cover[..., None]) + np.array([63, 42, 20], np.float32) / 255 * cover[..., None]
    drops = (liquid.clip(0, 1) * 255).astype(np.uint8)
    # Light gathers at the rims of drops: the distance from their edges, evened out, through an embossing kernel.
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
    shine = cv2.blur(cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, emboss), (3, 3)).astype(np.float32)
    light = drops / 255 * shine
    light = light / max(float(light.max()), 1e-6) * strength
    return x + light[..., None] * np.array([175, 238, 238], np.float32) / 255


# Table 15's four groups of four.
GROUPS: dict[str, dict[str, Corruption]] = {
    "blur": {
        "motion_blur": motion_blur,
        "defocus_blur": defocus_blur,
        "glass_blur": glass_blur,
        "gaussian_blur": gaussian_blur,
    },
    "noise": {
        "gaussian_noise": gaussian_noise,
        "impulse_noise": impulse_noise,
        "shot_noise": shot_noise,
        "speckle_noise": speckle_noise,
    },
    "digital": {
        "brightness": brightness,
        "contrast": contrast,
        "saturate": saturate,
        "jpeg_compression": jpeg_compression,
    },
    "weather": {"snow": snow, "spatter": spatter, "fog": fog, "frost": frost},
}
CORRUPTIONS: dict[str, Corruption] = {name: one for group in GROUPS.values() for name, one in group.items()}
# What befalls robots' cameras, not in Table 15's means.
ROBOT_GROUPS: dict[str, dict[str, Corruption]] = {
    "robot": {
        "camera_motion": camera_motion,
        "underexposure": underexposure,
        "overexposure": overexposure,
        "lens_dirt": lens_dirt,
    }
}
