"""The superpixel pilot: SLIC, boxes, RoIAlign as patch embedding, soft labels, learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from seg_models.architectures.regproxy.pilot import RegProxyPilot, align_boxes, soft_labels
from seg_models.architectures.regproxy.slic import bounding_boxes, owners, rgb_to_lab, slic
from seg_models.build import build_model
from seg_models.losses import IGNORE

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2}


def tiny(**options) -> RegProxyPilot:
    torch.manual_seed(0)
    model = build_model(
        "regproxy_pilot", "vit_tiny_patch16_224", 4, (32, 48), patch_size=8, timm_options=TINY, **options
    )
    assert isinstance(model, RegProxyPilot)
    return model.eval()


def two_halves() -> Tensor:
    """Red left of a slanted border, blue right of it: (1, 3, 24, 32)."""
    y, x = torch.meshgrid(torch.arange(24), torch.arange(32), indexing="ij")
    left = x < 12 + y // 6
    return torch.stack([left, torch.zeros_like(left), ~left])[None].float()


def test_lab_of_known_colours():
    # White, sRGB red and middle grey, as the CIE's formulas give them.
    rgb = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.5]]).T.reshape(1, 3, 1, 3)
    expected = torch.tensor([[100.0, 0.0, 0.0], [53.24, 80.09, 67.20], [53.39, 0.0, 0.0]])
    torch.testing.assert_close(rgb_to_lab(rgb)[0, :, 0].T, expected, atol=0.05, rtol=0)


def test_superpixels_follow_a_border_and_none_holds_both_colours():
    image = two_halves()
    owner = owners(slic(image, (8, 8)), (8, 8))[0]
    red = image[0, 0] > 0.5
    for index in owner.unique():
        inside = red[owner == index]
        assert inside.all() or not inside.any()
    assert owner.max() < 12


def test_superpixels_of_a_plain_image_are_the_cells():
    owner = owners(slic(torch.full((1, 3, 24, 32), 0.5), (8, 8)), (8, 8))[0]
    cells = torch.arange(12).reshape(3, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)
    assert torch.equal(owner, cells)


def test_slic_is_the_loop_over_pixels_and_centres():
    generator = np.random.default_rng(0)
    image = torch.from_numpy(generator.uniform(0, 1, (1, 3, 12, 8)))
    lab, cell, compactness = rgb_to_lab(image)[0].numpy(), 4, 10.0
    y, x = np.mgrid[:12, :8]
    points = np.concatenate([lab, compactness * y[None] / cell, compactness * x[None] / cell])  # (5, 12, 8)
    centres = {
        (r, c): points[:, r * 4 : r * 4 + 4, c * 4 : c * 4 + 4].reshape(5, -1).mean(1)
        for r in range(3)
        for c in range(2)
    }
    for _ in range(3):
        owner = np.zeros((12, 8), dtype=int)
        for i in range(12):
            for j in range(8):
                near = [k for k in centres if abs(k[0] - i // 4) <= 1 and abs(k[1] - j // 4) <= 1]
                best = min(near, key=lambda k: ((points[:, i, j] - centres[k]) ** 2).sum())
                owner[i, j] = best[0] * 2 + best[1]
        for r, c in centres:
            if (owner == r * 2 + c).any():
                centres[r, c] = points[:, owner == r * 2 + c].mean(1)
    result = owners(slic(image, (4, 4), compactness, iterations=3), (4, 4))[0]
    assert np.array_equal(result.numpy(), owner)


def test_boxes_enclose_their_superpixels_exactly():
    choice = slic(torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0)), (8, 8), compactness=5.0)
    owner, boxes = owners(choice, (8, 8)), bounding_boxes(choice, (8, 8)).flatten(1, 2)
    for b in range(2):
        for index in range(12):
            y, x = (owner[b] == index).nonzero(as_tuple=True)
            if len(y):
                assert boxes[b, index].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_a_superpixel_without_pixels_has_its_cell_as_box():
    choice = torch.full((1, 1, 2, 16), 4)
    choice[0, 0, 1] = 3  # the right cell's pixels all go left
    assert bounding_boxes(choice, (4, 4))[0, 0].tolist() == [[0, 0, 8, 4], [4, 0, 8, 4]]


def test_on_a_plain_image_the_pilot_is_the_linear_baseline_before_upsampling():
    pilot = tiny()
    linear = build_model("linear", "vit_tiny_patch16_224", 4, (32, 48), patch_size=8, timm_options=TINY).eval()
    linear.load_state_dict(pilot.state_dict())
    image = torch.full((1, 3, 32, 48), 0.3)
    tokens, grid = linear.backbone(image)
    expected = linear.decoder(tokens[0], grid)
    prediction = pilot(image)
    # Superpixels are the cells there, and RoIAlign of a constant patch is that constant.
    torch.testing.assert_close(prediction.aux["region_logits"].unflatten(2, grid), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prediction.logits, expected.repeat_interleave(8, 2).repeat_interleave(8, 3))


def test_scores_are_one_vector_a_superpixel_and_sizes_are_padded():
    image = torch.randn(2, 3, 30, 45, generator=torch.Generator().manual_seed(0))
    prediction = tiny()(image)
    assert prediction.logits.shape == (2, 4, 30, 45)
    assert prediction.superpixels.shape == (2, 30, 45)
    for index in prediction.superpixels[0].unique():
        scores = prediction.logits[0][:, prediction.superpixels[0] == index]
        assert (scores == scores[:, :1]).all()


def test_soft_labels_are_the_histograms_of_equation_1():
    superpixels = torch.tensor([[[0, 0, 0, 1], [0, 2, 2, 1]]])
    labels = torch.tensor([[[1, 1, 0, IGNORE], [IGNORE, 2, 2, IGNORE]]])
    shares, labelled = soft_labels(superpixels, labels, 4, 3)
    torch.testing.assert_close(shares[0], torch.tensor([[1 / 3, 2 / 3, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]]))
    assert labelled.tolist() == [[True, False, True, False]]


def test_loss_without_any_label_is_zero_with_a_finite_gradient():
    model = tiny().train()
    loss = model.loss(model(torch.randn(1, 3, 32, 48)), torch.full((1, 32, 48), IGNORE))["cross_entropy"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_hybrid_and_a_compactness_of_zero_are_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="need a linear patch embedding"):
        build_model("regproxy_pilot", "vit_small_r26_s32_384", 4, (64, 64))
    with pytest.raises(ValueError, match="compactness is 0; expected a positive number"):
        tiny(compactness=0)


def test_boxes_are_aligned_as_torchvision_does():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 40, 56, generator=generator)
    corner = torch.rand(2, 30, 2, generator=generator) * torch.tensor([32.0, 16.0])
    boxes = torch.cat([corner, corner + 1 + 23 * torch.rand(2, 30, 2, generator=generator)], dim=2)
    boxes[:, 0] = torch.tensor([0.0, 0.0, 56.0, 40.0]).minimum(torch.tensor([24.0, 24, 24, 24]))  # at the border
    boxes[:, 1] = torch.tensor([32.0, 16.0, 56.0, 40.0])  # at the other one
    expected = roi_align(image, list(boxes), (8, 8), aligned=True).unflatten(0, (2, 30))
    # The positions go through a division by the image's size and back.
    torch.testing.assert_close(align_boxes(image, boxes, 8), expected, rtol=0, atol=2e-5)


def test_mixed_precision_leaves_the_superpixels_as_they_are():
    model = tiny()
    image = torch.randn(1, 3, 256, 384, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(image).superpixels
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(image).superpixels, expected)
