"""Points with classes: a depth image or an organised cloud, and the masks of its camera -> x y z rgb label confidence.

The result is laid out as a sensor_msgs/PointCloud2 takes it: one record of POINT a point, x right, y down, z forward in the
camera's optical frame, metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from seg_perception.compiled import compiled, compiled_input
from seg_perception.model.model_file import UNLABELLED

# As PCL's and RViz's tools expect colours: blue, green, red and a byte of padding read as one float. 20 bytes a point.
POINT = np.dtype(
    {
        "names": ["x", "y", "z", "b", "g", "r", "a", "label", "confidence"],
        "formats": ["<f4", "<f4", "<f4", "u1", "u1", "u1", "u1", "u1", "u1"],
        "offsets": [0, 4, 8, 12, 13, 14, 15, 16, 17],
        "itemsize": 20,
    }
)
# name, offset, sensor_msgs/PointField datatype: FLOAT32 = 7, UINT8 = 2
FIELDS = (("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("rgb", 12, 7), ("label", 16, 2), ("confidence", 17, 2))
MILLIMETRES = 1e-3


class CloudError(ValueError):
    """Depth, cloud or calibration that cannot become labelled points. One line: what came, what was expected."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera: K of a CameraInfo, of an image of `size`.

    Attributes:
        fx, fy, cx, cy: pixels.
        size: (H, W) of the image that they hold for.

    Raises:
        CloudError: a focal length that is not positive, a value that is not finite, or an empty image.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    size: tuple[int, int]

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(value) for value in values) or self.fx <= 0 or self.fy <= 0:
            raise CloudError(
                f"camera_info has fx {self.fx:g}, fy {self.fy:g}, cx {self.cx:g}, cy {self.cy:g}; "
                "expected finite numbers and focal lengths above 0: is the camera calibrated?"
            )
        if min(self.size) < 1:
            raise CloudError(f"camera_info is of a {self.size[1]}x{self.size[0]} image; expected at least one pixel")

    def scaled(self, size: tuple[int, int]) -> Intrinsics:
        """The same camera with its image resized to `size` (H, W); pixel centres stay where they are in the scene."""
        sy, sx = size[0] / self.size[0], size[1] / self.size[1]
        return Intrinsics(
            self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5, (size[0], size[1])
        )


class DepthProjector:
    """Makes labelled points of depth images of one camera. Keeps the rays of its pixels between frames.

    Args:
        keep_invalid: True: one point a pixel, NaN where there is no depth (an organised cloud); False: those are left out.
    """

    def __init__(self, keep_invalid: bool = False) -> None:
        self._keep_invalid = keep_invalid
        self._rays: tuple[Intrinsics, np.ndarray, np.ndarray] | None = None

    def points(
        self,
        depth: np.ndarray,
        intrinsics: Intrinsics,
        rgb: np.ndarray,
        labels: np.ndarray,
        confidence: np.ndarray | None = None,
    ) -> np.ndarray:
        """Points of one frame.

        Args:
            depth: [H, W], registered to the camera: uint16 in millimetres, 0 = none; or float32 in metres, NaN, infinite or
                not above 0 = none.
            intrinsics: of the camera; scaled to the depth's size.
            rgb: uint8 [h, w, 3]. Its size, the labels' and the depth's may differ by whole factors.
            labels: uint8 [h', w'], 255 = not labelled.
            confidence: uint8, of the labels' size; None: 255 where labelled.

        Returns:
            POINT [H, W] with `keep_invalid`, else [N], the points with depth in raster order.

        Raises:
            CloudError: depth of another type, or sizes that do not fit.
        """
        if depth.ndim != 2 or depth.size == 0 or depth.dtype not in (np.uint16, np.float32):
            raise CloudError(
                f"depth is {depth.dtype} {list(depth.shape)}; expected an image of uint16 (millimetres) or float32 (metres)"
            )
        size = (depth.shape[0], depth.shape[1])
        across, down = self._rays_of(intrinsics, size)
        rgb, labels = fitted_to(rgb, size, "image"), fitted_to(labels, size, "labels")
        confidence = _certain(labels) if confidence is None else fitted_to(confidence, size, "confidence")
        unit = np.float32(MILLIMETRES if depth.dtype == np.uint16 else 1)
        points, floats, bytes_ = _empty(size)
        depth, rgb = compiled_input(depth), compiled_input(rgb)
        labels, confidence = compiled_input(labels), compiled_input(confidence)
        across, down = compiled_input(across), compiled_input(down)
        count = _project(unit, depth, across, down, rgb, labels, confidence, self._keep_invalid, floats, bytes_)
        return points.reshape(size) if self._keep_invalid else points[:count]

    def _rays_of(self, intrinsics: Intrinsics, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """x / z of each column and y / z of each row, float32."""
        if self._rays is None or self._rays[0] != intrinsics or (len(self._rays[2]), len(self._rays[1])) != size:
            camera = intrinsics.scaled(size)
            across = ((np.arange(size[1]) - camera.cx) / camera.fx).astype(np.float32)
            down = ((np.arange(size[0]) - camera.cy) / camera.fy).astype(np.float32)
            self._rays = (intrinsics, across, down)
        return self._rays[1], self._rays[2]


def label_cloud(
    xyz: np.ndarray,
    rgb: np.ndarray,
    labels: np.ndarray,
    confidence: np.ndarray | None = None,
    keep_invalid: bool = False,
) -> np.ndarray:
    """Labels for an organised cloud whose points lie on the camera's pixels.

    Args:
        xyz: float32 [H, W, 3], metres; a point with a value that is not finite is no point.
        rgb, labels, confidence, keep_invalid: as in `DepthProjector`.

    Raises:
        CloudError: not such an array, or sizes that do not fit.
    """
    if xyz.ndim != 3 or xyz.shape[2] != 3 or xyz.size == 0 or xyz.dtype != np.float32:
        raise CloudError(
            f"cloud is {xyz.dtype} {list(xyz.shape)}; expected float32 [H, W, 3], an organised cloud (height above 1)"
        )
    size = (xyz.shape[0], xyz.shape[1])
    rgb, labels = fitted_to(rgb, size, "image"), fitted_to(labels, size, "labels")
    confidence = _certain(labels) if confidence is None else fitted_to(confidence, size, "confidence")
    points, floats, bytes_ = _empty(size)
    xyz, rgb = compiled_input(xyz), compiled_input(rgb)
    labels, confidence = compiled_input(labels), compiled_input(confidence)
    count = _label(xyz, rgb, labels, confidence, keep_invalid, floats, bytes_)
    return points.reshape(size) if keep_invalid else points[:count]


def fitted_to(picture: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """A picture [h, w, ...] at `size` (H, W), where the two differ by whole factors. A view where it shrinks.

    Raises:
        CloudError: other sizes.
    """
    result = picture
    for axis in (0, 1):
        here, wanted = result.shape[axis], size[axis]
        if here == wanted:
            continue
        if here % wanted == 0:
            factor = here // wanted
            result = result[factor // 2 :: factor] if axis == 0 else result[:, factor // 2 :: factor]
        elif wanted % here == 0:
            result = np.repeat(result, wanted // here, axis=axis)
        else:
            raise CloudError(
                f"depth is {size[1]}x{size[0]} pixels, the {name} {picture.shape[1]}x{picture.shape[0]}; expected sizes that "
                "differ by a whole factor: register the depth to the camera (depth_image_proc's register node)"
            )
    return result


def warm_up() -> None:
    """Compile, or load from the cache on disk, what the first frame would otherwise wait for."""
    rgb, labels = np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8)
    for dtype in (np.uint16, np.float32):
        DepthProjector().points(np.ones((1, 1), dtype), Intrinsics(1, 1, 0, 0, (1, 1)), rgb, labels)
    label_cloud(np.ones((1, 1, 3), np.float32), rgb, labels)


def _certain(labels: np.ndarray) -> np.ndarray:
    """The confidence of labels that come without one."""
    return np.where(labels == UNLABELLED, 0, 255).astype(np.uint8)


def _empty(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for a point a pixel: POINT [N], and the same memory as float32 [N, 5] and uint8 [N, 20]."""
    points = np.zeros(size[0] * size[1], POINT)
    return points, points.view(np.float32).reshape(-1, 5), points.view(np.uint8).reshape(-1, POINT.itemsize)


# One pass each: with whole-array operations the same takes eight times as long, most of it in copies of what is left out.
@compiled
def _project(unit, depth, across, down, rgb, labels, confidence, keep_invalid, floats, bytes_):  # type: ignore[no-untyped-def]
    count = 0
    for row in range(depth.shape[0]):
        for col in range(depth.shape[1]):
            z = np.float32(depth[row, col]) * unit
            if not (z > 0 and z < np.inf):  # NaN, too
                if not keep_invalid:
                    continue
                z = np.float32(np.nan)
            floats[count, 0] = across[col] * z
            floats[count, 1] = down[row] * z
            floats[count, 2] = z
            _paint_point(bytes_[count], rgb[row, col], labels[row, col], confidence[row, col])
            count += 1
    return count


@compiled
def _label(xyz, rgb, labels, confidence, keep_invalid, floats, bytes_):  # type: ignore[no-untyped-def]
    count = 0
    for row in range(xyz.shape[0]):
        for col in range(xyz.shape[1]):
            x, y, z = xyz[row, col, 0], xyz[row, col, 1], xyz[row, col, 2]
            if not keep_invalid and not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
                continue
            floats[count, 0], floats[count, 1], floats[count, 2] = x, y, z
            _paint_point(bytes_[count], rgb[row, col], labels[row, col], confidence[row, col])
            count += 1
    return count


@numba.njit(inline="always")
def _paint_point(point, rgb, label, confidence):  # type: ignore[no-untyped-def]
    point[12], point[13], point[14] = rgb[2], rgb[1], rgb[0]
    point[16], point[17] = label, confidence
