"""Corruptions: each of the sixteen does what it is named for, more of it with severity, and the same again from a seed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_models.data.folder import FolderDataset
from seg_models.evaluation.corruptions import CORRUPTIONS, GROUPS, clouds, corrupt, smear
from seg_models.evaluation.measures import Segmented
from seg_models.evaluation.robustness import robustness
from test.seg_models.data.test_folder import write_folder

every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)


def street(height: int = 96, width: int = 128) -> np.ndarray:
    """A sky that fades, a road, a red sign and noise of one grey level."""
    image = np.full((height, width, 3), (90, 95, 100), np.uint8)
    image[: height // 2] = np.linspace(230, 150, height // 2).astype(np.uint8)[:, None, None]
    image[20:50, 60:80] = (200, 40, 30)
    return image + np.random.default_rng(0).integers(0, 2, image.shape, dtype=np.uint8)


def changed(name: str, severity: int) -> float:
    """Mean absolute difference to the clean image, over several draws."""
    image = street()
    made = [corrupt(image, name, severity, np.random.default_rng(seed)) for seed in range(4)]
    return float(np.mean([np.abs(one.astype(float) - image).mean() for one in made]))


def test_there_are_four_groups_of_four():
    assert [len(members) for members in GROUPS.values()] == [4, 4, 4, 4]
    assert len(CORRUPTIONS) == 16


@every_corruption
def test_a_corruption_keeps_shape_and_type_is_the_same_from_a_seed_and_grows(name):
    image = street()
    made = corrupt(image, name, 3, np.random.default_rng(1))
    assert (made.shape, made.dtype) == (image.shape, np.uint8)
    assert np.array_equal(made, corrupt(image, name, 3, np.random.default_rng(1)))
    assert np.array_equal(image, street())  # the image itself stays
    assert changed(name, 1) > 0.3
    assert changed(name, 5) > changed(name, 1)


@every_corruption
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_images_of_any_size_are_corrupted(name, severity):
    for size in ((1, 1), (7, 33), (64, 48)):
        image = street()[: size[0], : size[1]].copy()
        assert corrupt(image, name, severity, np.random.default_rng(2)).shape == image.shape


def test_noises_have_the_deviation_of_their_severity():
    flat = np.full((200, 200, 3), 128, np.uint8)
    made = {name: corrupt(flat, name, 1, np.random.default_rng(3)).astype(float) / 255 for name in GROUPS["noise"]}
    # Of 120,000 values; clipping does not reach this far from the middle.
    assert made["gaussian_noise"].std() == pytest.approx(0.08, rel=0.02)
    assert made["speckle_noise"].std() == pytest.approx(0.15 * 128 / 255, rel=0.02)
    assert made["shot_noise"].std() == pytest.approx((128 / 255 / 60) ** 0.5, rel=0.02)
    extreme = (made["impulse_noise"] == 0) | (made["impulse_noise"] == 1)
    assert extreme.mean() == pytest.approx(0.03, rel=0.1)


def test_blurs_keep_the_mean_and_flatten_edges():
    image = street()
    for name in GROUPS["blur"]:
        made = corrupt(image, name, 2, np.random.default_rng(4))
        # A motion of 30 pixels brings in repeated edges of a picture of 96.
        assert made.mean() == pytest.approx(image.mean(), abs=5 if name == "motion_blur" else 1)
        assert cv2.Laplacian(made, cv2.CV_64F).std() < cv2.Laplacian(image, cv2.CV_64F).std() / 2


def test_a_smear_goes_along_its_line_to_one_side():
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = 1
    made = smear(point, 5, 3.0, 0.0)
    assert made.sum() == pytest.approx(1)
    rows, cols = (made > 1e-6).nonzero()  # OpenCV filters with large kernels by Fourier transforms, which round
    assert set(rows) == {30}
    assert (len(set(cols)), cols.max() - cols.min()) == (11, 10)


def test_clouds_fill_their_range_and_are_rougher_with_a_slower_decay():
    smooth, rough = (clouds((64, 96), decay, np.random.default_rng(5)) for decay in (3.0, 1.2))
    assert (smooth.min(), smooth.max()) == (0, 1)
    assert np.abs(np.diff(rough)).mean() > 2 * np.abs(np.diff(smooth)).mean()


def test_unknown_names_and_severities_are_refused():
    for name, severity, message in (("rain", 1, "no corruption 'rain'"), ("fog", 6, "severity is 6; expected 1 to 5")):
        with pytest.raises(ValueError, match=message):
            corrupt(street(), name, severity, np.random.default_rng(0))


def test_robustness_is_the_means_of_table_15(tmp_path):
    """A predictor that looks at nothing scores the same everywhere; one that asks for the clean image retains less."""
    write_folder(tmp_path, 2, "val")
    data = FolderDataset([tmp_path], "val")
    blank = np.zeros((24, 32), np.uint8)
    blind = robustness(lambda image: Segmented(blank, blank), data, [1], [1])
    assert blind.retention == pytest.approx(1)
    assert set(blind.groups) == {"blur", "noise", "digital", "weather"}
    clean = {data.read(i)[0].tobytes(): data.read(i)[1] for i in range(2)}

    def only_clean(image: np.ndarray) -> Segmented:
        return Segmented(clean.get(image.tobytes(), blank).clip(0, 1), blank)

    found = robustness(only_clean, data, [1, 2], [1])
    assert found.clean == pytest.approx(1)
    assert found.corrupted == pytest.approx(np.mean(list(found.corruptions.values())))
    assert found.retention == pytest.approx(found.corrupted)
    assert found.retention < 0.9


def test_a_model_that_is_never_right_retains_nothing_and_the_report_says_so(tmp_path):
    write_folder(tmp_path, 1, "val")
    labels = FolderDataset([tmp_path], "val").read(0)[1]
    other = (labels == 0).astype(np.uint8)
    found = robustness(lambda image: Segmented(other, other), FolderDataset([tmp_path], "val"), [1], [1]).figures()
    assert (found["clean"], found["retention"]) == (0, None)
    assert found["groups"]["blur"] == 0
