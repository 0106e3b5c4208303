"""Whole, sliding-window and multi-scale prediction: equal to the authors' code, and to plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.checkpoints.released import load_released
from seg_models.evaluation import inference
from seg_models.evaluation.inference import Windows
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel
from test.seg_models.checkpoints.test_released import REGPROXIES, SEGMENTERS, regproxy, segmenter


class Brightness(SegmentationModel):
    """Scores that depend on the whole window: so it shows which windows a pixel was seen in."""

    def __init__(self) -> None:
        super().__init__(num_classes=2, image_size=(8, 8))
        self.backbone = nn.Identity()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Prediction:
        self.seen.append(tuple(image.shape))
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        return Prediction(torch.cat([image[:, :1] + mean, image[:, 1:2] * mean], dim=1))

    def loss_terms(self, prediction, labels):
        raise AssertionError("not trained")


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenter_multi_scale_in_windows_equals_the_released_inference(name):
    case = SEGMENTERS[name]
    model = segmenter(case["config"])
    load_released(model, case["state_dict"])
    small, large = case["inputs"]["scales"]  # the first has a side below the window
    windows = Windows(case["config"]["window"], case["config"]["stride"], "upsample")
    result = inference.multi_scale(model, [small, large], (40, 56), windows, flip=True, batch_size=3)
    torch.testing.assert_close(result[0], case["outputs"]["sliding"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", REGPROXIES)
def test_regproxy_windows_equal_the_released_slide_inference(name):
    case = REGPROXIES[name]
    model = regproxy(case["config"])
    load_released(model, case["state_dict"])
    windows = inference.regproxy_windows(case["config"]["window"], case["config"]["stride"])
    result = inference.sliding_window(model, case["inputs"]["large"], windows, batch_size=2)
    torch.testing.assert_close(result, case["outputs"]["sliding"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("length", "window", "stride", "starts"),
    [
        (512, 512, 512, [0]),
        (513, 512, 512, [0, 1]),
        (1024, 512, 512, [0, 512]),
        (1024, 512, 480, [0, 480, 512]),
        (1000, 768, 512, [0, 232]),
        (300, 512, 480, [0]),
    ],
)
def test_windows_begin_every_stride_and_the_last_ends_with_the_image(length, window, stride, starts):
    assert inference.window_starts(length, window, stride) == starts


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), [(23, 31), (16, 16), (16, 40)])
def test_scores_are_averaged_over_the_windows_that_saw_a_pixel(height, width, batch_size):
    model, image = Brightness(), picture(height, width, batch=2)
    result = inference.sliding_window(model, image, Windows(16, 11, "keep"), batch_size=batch_size)
    total, count = torch.zeros(2, 2, height, width), torch.zeros(height, width)
    for top in inference.window_starts(height, 16, 11):
        for left in inference.window_starts(width, 16, 11):
            total[..., top : top + 16, left : left + 16] += model(image[..., top : top + 16, left : left + 16]).logits
            count[top : top + 16, left : left + 16] += 1
    torch.testing.assert_close(result, total / count)


def test_small_images_are_upsampled_padded_or_kept():
    image = picture(10, 20)
    seen = {}
    for rule in inference.SMALL_INPUTS:
        model = Brightness()
        assert inference.sliding_window(model, image, Windows(16, 16, rule)).shape == (1, 2, 10, 20)
        seen[rule] = model.seen
    assert seen["upsample"] == [(1, 3, 16, 16)] * 2  # 16 x 32
    assert seen["pad"] == [(1, 3, 16, 16)] * 2  # 10 x 20: two windows of 10 x 16
    assert seen["keep"] == [(1, 3, 10, 16)] * 2


def test_padding_is_zeros_and_cut_off():
    model, image = Brightness(), picture(10, 12)
    result = inference.sliding_window(model, image, Windows(16, 16, "pad"))
    torch.testing.assert_close(result, model(F.pad(image, (0, 4, 0, 6))).logits[..., :10, :12])


@pytest.mark.parametrize(
    ("size", "expected"),
    [((10, 20), (16, 32)), ((20, 10), (32, 16)), ((7, 10), (16, 22)), ((10, 10), (16, 16)), ((16, 99), (16, 99))],
)
def test_upsampling_makes_the_shorter_side_the_window(size, expected):
    assert inference.upsample_to_window(picture(*size), 16).shape[-2:] == expected


def test_probabilities_are_averaged_after_the_softmax_and_mirrored_back():
    model, images = Brightness(), [picture(12, 16), picture(6, 8)]
    result = inference.multi_scale(model, images, (12, 16))
    expected = torch.zeros(1, 2, 12, 16)
    for image in images:
        for mirrored in (False, True):
            scores = model(image.flip(-1) if mirrored else image).logits
            scores = F.interpolate(scores, (12, 16), mode="bilinear", align_corners=False)
            expected += (scores.flip(-1) if mirrored else scores).softmax(1) / 4
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(result.sum(1), torch.ones(1, 12, 16))


def test_a_model_that_ignores_mirroring_gives_the_same_with_and_without_flip():
    model, image = Brightness(), picture(12, 16)
    once = inference.multi_scale(model, [image], (12, 16), flip=False)
    torch.testing.assert_close(inference.multi_scale(model, [image], (12, 16), flip=True), once)


def test_rescaled_images_have_the_pipelines_sizes_and_normalisation():
    image = np.full((375, 500, 3), 127, dtype=np.uint8)
    images = inference.rescaled(image, {"mean": [127.0] * 3, "std": [64.0] * 3}, 512, scales=(0.5, 1.0))
    assert [tuple(x.shape) for x in images] == [(1, 3, 256, 341), (1, 3, 512, 683)]
    assert images[0].dtype == torch.float32
    assert images[0].abs().max() == 0
    long = np.zeros((100, 1000, 3), dtype=np.uint8)  # the longer side holds the factor: 2048 / 1000
    assert inference.rescaled(long, {"mean": [0.0] * 3, "std": [1.0] * 3}, 512, (1.0,))[0].shape[-2:] == (205, 2048)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((375, 500), [(480, 640), (520, 693), (910, 1213)]),  # 0.5 and 0.75 x 520 would be 260 and 390
        ((500, 375), [(640, 480), (693, 520), (1213, 910)]),
        ((100, 1000), [(480, 4800), (520, 5200), (910, 9100)]),  # and the longer side is free
    ],
)
def test_with_a_smallest_short_side_no_scale_is_below_it(shape, sizes):
    """SegViT on Pascal Context; the sizes are those of mmsegmentation's Resize with min_size 480 and scale (4096, 520)."""
    image = np.zeros((*shape, 3), dtype=np.uint8)
    plain = {"mean": [0.0] * 3, "std": [1.0] * 3}
    images = inference.rescaled(image, plain, 520, (0.5, 0.75, 1.0, 1.75), min_short_side=480)
    assert [tuple(x.shape[-2:]) for x in images] == [sizes[0], sizes[0], *sizes[1:]]


def test_published_windows():
    assert inference.segmenter_windows(512) == Windows(512, 480, "upsample")
    assert inference.regproxy_windows(640) == Windows(640, 640, "pad")
    assert inference.regproxy_windows(768, 512) == Windows(768, 512, "pad")
    assert inference.segvit_windows(640, 608) == Windows(640, 608, "keep")


def test_bad_windows_are_refused():
    with pytest.raises(ValueError, match="expected one of upsample, pad, keep"):
        Windows(16, 8, "crop")
    with pytest.raises(ValueError, match="stride is 17; expected 1 to the window's size, 16"):
        Windows(16, 17, "pad")
    with pytest.raises(ValueError, match="at least one scale"):
        inference.multi_scale(Brightness(), [], (4, 4))
