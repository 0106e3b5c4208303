"""Masks and serialized depth in, serialized clouds out."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from seg_perception.cdr import CdrError, Header, write_image
from seg_perception.cdr_camera_info import read_intrinsics
from seg_perception.cdr_cloud import read_cloud
from seg_perception.cloud import POINT, CloudError, Intrinsics
from seg_perception.labelled_points import SILENT_S, CloudGeometry, DepthGeometry, MaskedImage, PointMaker
from test.seg_perception.cdr_bytes import Bytes, cloud_bytes

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)
LABELS = RNG.integers(0, 9, (6, 8), np.uint8)
CONFIDENCE = RNG.integers(0, 256, (6, 8), np.uint8)
DEPTH = RNG.integers(1, 5000, (6, 8)).astype(np.uint16)
CAMERA = Intrinsics(10.0, 12.0, 3.5, 2.5, (6, 8))


def header(ms: int, frame: bytes = b"camera") -> Header:
    return Header(100, ms * 1_000_000, frame)


def masked(ms: int, labels: np.ndarray = LABELS, confidence: np.ndarray = CONFIDENCE) -> MaskedImage:
    return MaskedImage(header(ms), RGB, labels, confidence)


def depth(ms: int, pixels: np.ndarray = DEPTH) -> bytes:
    return write_image(header(ms, b"depth"), "32FC1" if pixels.dtype == np.float32 else "16UC1", pixels)


def camera_info(camera: Intrinsics = CAMERA, order: str = "<", distortion: int = 5) -> bytes:
    info = Bytes(order)
    info.header(b"camera")
    info.number("I", camera.size[0])
    info.number("I", camera.size[1])
    info.string(b"plumb_bob")
    info.number("I", distortion)
    for value in [*[0.1] * distortion, camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1, *[7.0] * 21]:
        info.number("d", value)
    return info.message()


@pytest.fixture
def geometry() -> DepthGeometry:
    geometry = DepthGeometry(keep_invalid=True)
    geometry.camera_info_came(camera_info())
    return geometry


def test_a_pair_becomes_a_cloud_stamped_and_framed_as_the_depth(geometry):
    maker = PointMaker(geometry, 0.05)
    maker.add_masks(masked(40))
    maker.add_geometry(depth(10))
    assert maker.make() is None  # one that is nearer may come
    maker.add_geometry(depth(42))
    cloud = read_cloud(maker.make() or b"")
    assert cloud.header == header(42, b"depth")
    z = DEPTH / 1000
    np.testing.assert_allclose(cloud.xyz[..., 2], z, rtol=1e-6)
    np.testing.assert_allclose(cloud.xyz[..., 0], (np.arange(8) - 3.5) / 10 * z, rtol=1e-5, atol=1e-6)
    assert maker.make() is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("distortion", [0, 1, 4, 5, 8, 12])
def test_the_camera_is_read_behind_any_distortion(order, distortion):
    assert read_intrinsics(camera_info(CAMERA, order, distortion)) == CAMERA


@pytest.mark.parametrize(
    ("serialized", "error", "said"),
    [
        (camera_info(Intrinsics(1, 1, 0, 0, (1, 1)))[:60], CdrError, "cut short"),
        (camera_info().replace(struct.pack("<d", 10.0), struct.pack("<d", float("nan"))), CloudError, "fx nan"),
        (camera_info().replace(struct.pack("<d", 12.0), struct.pack("<d", 0.0)), CloudError, "fy 0"),
    ],
)
def test_a_camera_that_is_none_is_refused(serialized, error, said):
    with pytest.raises(error, match=said):
        read_intrinsics(serialized)


def test_masks_of_another_size_than_the_image_are_brought_to_it(geometry):
    maker = PointMaker(geometry, 0.05)
    small = LABELS[::2, ::2]
    maker.add_masks(masked(10, small, small))
    maker.add_geometry(depth(10))
    cloud = maker.make() or b""
    points = np.frombuffer(cloud[-1 - 48 * POINT.itemsize : -1], POINT).reshape(6, 8)  # a byte follows: is_dense
    np.testing.assert_array_equal(points["label"], small.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(points["confidence"], points["label"])


def test_a_cloud_of_the_drivers_is_labelled_where_it_is():
    xyz = RNG.normal(size=(6, 8, 3)).astype(np.float32)
    maker = PointMaker(CloudGeometry(keep_invalid=True), 0.05)
    serialized = cloud_bytes("<", xyz)  # stamped -7 s, 4e9 ns
    maker.add_masks(MaskedImage(Header(-7, 4_000_000_000, b"camera"), RGB, LABELS, CONFIDENCE))
    maker.add_geometry(serialized)
    np.testing.assert_array_equal(read_cloud(maker.make() or b"").xyz, xyz)


@pytest.mark.parametrize(
    ("pixels", "encoding", "said"),
    [
        (DEPTH.astype(np.uint8), "mono8", "depth image has encoding 'mono8', expected one of: 16UC1, mono16, 32FC1"),
        (DEPTH[:5], "16UC1", "depth is 8x5 pixels, the image 8x6"),
        (DEPTH, "32FC1", "depth image is 8x6 32FC1 with step 16"),
        (DEPTH, "x" * 1000, "depth image has encoding 'xxxxx"),
    ],
)
def test_depth_that_cannot_be_used_is_one_line_and_the_next_pair_goes_on(geometry, pixels, encoding, said):
    maker = PointMaker(geometry, 0.05)
    maker.add_masks(masked(10))
    maker.add_geometry(write_image(header(10), encoding, pixels))
    with pytest.raises(CloudError) as raised:
        maker.make()
    assert said in str(raised.value)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)
    maker.add_masks(masked(20))
    maker.add_geometry(depth(20))
    assert maker.make() is not None


def test_without_a_calibration_it_says_so():
    maker = PointMaker(DepthGeometry(False), 0.05)
    maker.add_masks(masked(10))
    maker.add_geometry(depth(10))
    with pytest.raises(CloudError, match="no camera_info"):
        maker.make()


def test_why_nothing_is_paired_is_said_after_a_while(geometry):
    maker = PointMaker(geometry, 0.05)
    assert maker.problem(100.0) == ""
    assert maker.problem(100.0 + 2 * SILENT_S) == ""  # no masks either: not its matter
    maker.add_masks(masked(10))
    assert maker.problem(100.0 + SILENT_S - 1) == ""
    assert maker.problem(100.0 + SILENT_S + 1) == "no depth image came for 6 s"
    maker.add_geometry(depth(310))
    assert maker.problem(106.0) == (
        "no depth image within 0.05 s of an image for 6 s (the newest is stamped +0.300 s from the newest image): "
        "stamp both by one clock, or raise points_max_gap_s"
    )
    maker.add_masks(masked(309))
    assert maker.make() is not None
    assert maker.problem(106.0) == ""
