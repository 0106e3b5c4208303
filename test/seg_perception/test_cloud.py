from __future__ import annotations

import numpy as np
import pytest

from seg_perception import cloud
from seg_perception.cloud import FIELDS, POINT, CloudError, DepthProjector, Intrinsics, fitted_to, label_cloud

SIZE = (6, 8)
CAMERA = Intrinsics(10.0, 20.0, 3.5, 2.5, SIZE)


def pictures(size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, (*size, 3), np.uint8),
        rng.integers(0, 16, size, np.uint8),
        rng.integers(0, 256, size, np.uint8),
    )


def test_a_depth_pixel_becomes_the_point_that_the_camera_saw_there() -> None:
    depth = np.zeros(SIZE, np.uint16)
    depth[4, 6] = 2000  # mm
    rgb, labels, confidence = pictures()
    (point,) = DepthProjector().points(depth, CAMERA, rgb, labels, confidence)
    assert (point["x"], point["y"], point["z"]) == pytest.approx(((6 - 3.5) / 10 * 2, (4 - 2.5) / 20 * 2, 2.0))
    assert [point[c] for c in "rgb"] == rgb[4, 6].tolist()
    assert (point["label"], point["confidence"]) == (labels[4, 6], confidence[4, 6])


def test_millimetres_and_metres_make_the_same_points() -> None:
    depth = np.random.default_rng(1).integers(0, 5000, SIZE).astype(np.uint16)
    millimetres = DepthProjector().points(depth, CAMERA, *pictures())
    metres = DepthProjector().points(depth.astype(np.float32) / 1000, CAMERA, *pictures())
    for name in ("x", "y", "z"):  # one float32 product more or less
        np.testing.assert_allclose(millimetres[name], metres[name], rtol=1e-6)


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_pixels_without_depth_are_left_out_or_kept_as_nan(nothing: float) -> None:
    depth = np.ones(SIZE, np.float32)
    depth[0, 0] = nothing
    assert len(DepthProjector().points(depth, CAMERA, *pictures())) == 47
    organised = DepthProjector(keep_invalid=True).points(depth, CAMERA, *pictures())
    assert organised.shape == SIZE
    assert np.isnan([organised[0, 0][name] for name in ("x", "y", "z")]).all()
    assert np.isfinite(organised["z"]).sum() == 47


def test_a_smaller_depth_takes_the_labels_at_its_pixels_and_a_scaled_camera() -> None:
    rgb, labels, confidence = pictures((12, 16))
    big = Intrinsics(20.0, 40.0, 7.5, 5.5, (12, 16))
    points = DepthProjector(keep_invalid=True).points(np.ones(SIZE, np.float32), big, rgb, labels, confidence)
    assert points.shape == SIZE
    np.testing.assert_array_equal(points["label"], labels[1::2, 1::2])
    # The centre of the image stays on the axis at any size.
    np.testing.assert_allclose(points["x"].sum(), 0, atol=1e-5)
    np.testing.assert_allclose(points["x"][0, 1] - points["x"][0, 0], 1 / 10, rtol=1e-5)


def test_a_larger_depth_repeats_the_labels() -> None:
    rgb, labels, confidence = pictures((3, 4))
    points = DepthProjector(keep_invalid=True).points(np.ones(SIZE, np.float32), CAMERA, rgb, labels, confidence)
    np.testing.assert_array_equal(points["label"], labels.repeat(2, 0).repeat(2, 1))


def test_an_organised_cloud_keeps_its_points() -> None:
    xyz = np.random.default_rng(2).normal(size=(*SIZE, 3)).astype(np.float32)
    xyz[2, 3, 1] = np.nan
    rgb, labels, _ = pictures()
    labels[0, 0] = 255
    points = label_cloud(xyz, rgb, labels)
    assert len(points) == 47
    np.testing.assert_array_equal(points["x"], xyz[np.isfinite(xyz).all(2)][:, 0])
    assert (points["confidence"][0], points["confidence"][1]) == (0, 255)
    assert label_cloud(xyz, rgb, labels, keep_invalid=True).shape == SIZE


def test_the_fields_say_where_the_values_lie() -> None:
    for name, offset, datatype in FIELDS:
        member = "b" if name == "rgb" else name
        dtype, place = POINT.fields[member][:2]
        assert place == offset
        assert datatype == (7 if name == "rgb" or dtype == np.float32 else 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 0.0, 0.0, SIZE), "fx 0, fy 1"),
        ((np.nan, 1.0, 0.0, 0.0, SIZE), "is the camera calibrated"),
        ((1.0, 1.0, np.inf, 0.0, SIZE), "cx inf"),
        ((1.0, 1.0, 0.0, 0.0, (0, 4)), "of a 4x0 image"),
    ],
)
def test_a_calibration_that_is_none_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(CloudError, match=message):
        Intrinsics(*arguments)


def test_depth_of_another_type_or_size_is_refused() -> None:
    with pytest.raises(CloudError, match="depth is float64"):
        DepthProjector().points(np.ones(SIZE), CAMERA, *pictures())
    with pytest.raises(CloudError, match=r"depth is 5x5 pixels, the image 8x6; .* register the depth"):
        DepthProjector().points(np.ones((5, 5), np.float32), CAMERA, *pictures())
    with pytest.raises(CloudError, match="an organised cloud"):
        label_cloud(np.ones((40, 3), np.float32), *pictures())


def test_a_picture_that_fits_is_not_copied() -> None:
    labels = pictures()[1]
    assert fitted_to(labels, SIZE, "labels") is labels
    assert fitted_to(labels, (3, 4), "labels").base is labels


def test_nothing_is_compiled_after_the_warm_up() -> None:
    cloud.warm_up()
    before = [len(loop.signatures) for loop in (cloud._project, cloud._label)]
    rgb, labels, confidence = pictures((12, 16))
    frozen = np.ones(SIZE, np.uint16)
    frozen.flags.writeable = False
    DepthProjector().points(frozen, CAMERA, rgb, labels, confidence)
    DepthProjector(keep_invalid=True).points(np.ones((12, 16), np.float32)[::2, ::2], CAMERA, rgb, labels)
    label_cloud(np.ones((*SIZE, 3), np.float32), *pictures())
    assert [len(loop.signatures) for loop in (cloud._project, cloud._label)] == before
