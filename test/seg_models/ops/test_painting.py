"""The reference of painting: the model's own decision at the network's size, and the contract's rules at others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seg_models.ops import neighbourhood as nb
from seg_models.ops.painting import UNLABELLED, PaintingGeometry, axis_samples, paint_association
from test.seg_models.tiny_models import tiny_model


def random_scores(geometry: PaintingGeometry, classes: int, batch: int = 1, spread: float = 3.0):
    """Association scores, border masked, and class scores whose maps are varied."""
    generator = torch.Generator().manual_seed(0)
    features = geometry.feature_cell[0] * geometry.feature_cell[1]
    association = torch.randn(batch, *geometry.grid, features, 9, generator=generator) * spread
    return nb.mask_border(association), torch.randn(batch, *geometry.grid, classes, generator=generator) * spread


@pytest.mark.parametrize("image_size", [(64, 96), (60, 90)])
def test_at_the_networks_size_it_is_the_models_own_decision(image_size):
    """Also of an input that the model pads. The last bit of a tie may differ: 4 pixels of 10,000."""
    torch.manual_seed(1)
    model = tiny_model("superpixel_transformer", 5, image_size).eval()
    torch.nn.init.normal_(model.queries, std=3.0)  # as different as trained ones
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    image = torch.randn(2, 3, *image_size)
    with torch.inference_mode():
        expected = model.decide(image)
        geometry = PaintingGeometry(image_size, model.superpixel_grid, model.cell, model.feature_cell)
        painting = paint_association(*model.associate_features(image), geometry)
    assert painting.labels.shape == (2, *image_size)
    assert len(painting.labels.unique()) > 1
    assert (painting.labels == expected.labels).float().mean() > 0.9996
    assert (painting.superpixels == expected.superpixels).float().mean() > 0.9996
    torch.testing.assert_close(painting.confidence.float(), expected.confidence * 255, atol=0.51, rtol=0)


@pytest.mark.parametrize(("cell", "features"), [(32, 4), (8, 8), (5, 3), (7, 2), (4, 1)])
def test_a_cell_is_upsampled_as_torch_does(cell, features):
    samples = axis_samples(3 * cell, 3 * cell, cell, features)
    values = torch.randn(3, features, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(values[:, None], size=cell, mode="linear", align_corners=False).flatten()
    lower, upper = values[samples.cell, samples.lower], values[samples.cell, samples.upper]
    torch.testing.assert_close(lower + (upper - lower) * samples.weight, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pixels", [1, 2, 7, 59, 60, 61, 200, 1919])
def test_pixel_centres_spread_over_the_input_as_in_a_resize(pixels):
    samples = axis_samples(pixels, 60, 16, 4)  # of 64 padded pixels
    centre = (torch.arange(pixels, dtype=torch.float64) + 0.5) * 60 / pixels
    assert torch.equal(samples.cell, (centre / 16).floor().long())
    feature = ((centre - 16 * samples.cell) / 4 - 0.5).clamp(0, 3)
    torch.testing.assert_close(samples.lower + samples.weight.double(), feature, atol=1e-6, rtol=0)
    assert int(samples.upper.max()) <= 3


def test_a_multiple_of_the_networks_size_says_what_it_says_there():
    """Three times the size: the centre of each 3 x 3 block lies on the centre of a network pixel."""
    geometry = PaintingGeometry((24, 32), (3, 4), (8, 8), (2, 2))
    scores = random_scores(geometry, 6)
    small, large = paint_association(*scores, geometry), paint_association(*scores, geometry, (72, 96))
    for at_network, at_three_times in zip(small, large, strict=True):
        assert torch.equal(at_network, at_three_times[:, 1::3, 1::3])
    assert not torch.equal(large.labels, small.labels.repeat_interleave(3, 1).repeat_interleave(3, 2))


def test_neighbours_outside_the_grid_have_no_weight_whatever_their_scores():
    geometry = PaintingGeometry((16, 24), (2, 3), (8, 8), (4, 4))
    association, classes = random_scores(geometry, 4)
    expected = paint_association(association, classes, geometry)
    outside = nb.outside_grid(geometry.grid)[None, :, :, None, :].expand_as(association)
    for value in (1e4, float("-inf"), float("nan")):
        painting = paint_association(association.masked_fill(outside, value), classes, geometry)
        assert all(torch.equal(a, b) for a, b in zip(painting, expected, strict=True))


def test_cells_with_broken_scores_are_unlabelled_and_others_are_as_before():
    geometry = PaintingGeometry((16, 32), (2, 4), (8, 8), (2, 2))
    association, classes = random_scores(geometry, 4)
    expected = paint_association(association, classes, geometry)
    for value in (float("nan"), float("inf"), float("-inf")):
        broken = association.clone()
        broken[0, 1, 0, 3, 4] = value
        painting = paint_association(broken, classes, geometry)
        assert (painting.labels[0, 8:, :8] == UNLABELLED).all()
        assert (painting.confidence[0, 8:, :8] == 0).all()
        assert (painting.superpixels[0, 8:, :8] == 4).all()
        assert torch.equal(painting.labels[0, :, 8:], expected.labels[0, :, 8:])
    classes[0, 0, 3, 2] = float("nan")  # a corner: a neighbour of 2 x 2 cells
    assert torch.equal(
        (paint_association(association, classes, geometry).labels == UNLABELLED)[0].sum(), torch.tensor(256)
    )


def test_ties_go_to_the_first():
    geometry = PaintingGeometry((8, 8), (2, 2), (4, 4), (1, 1))
    painting = paint_association(torch.zeros(1, 2, 2, 1, 9), torch.zeros(1, 2, 2, 255), geometry)
    assert (painting.labels == 0).all()
    assert (painting.confidence == 1).all()
    assert (painting.superpixels == 0).all()


def test_what_does_not_fit_is_refused():
    geometry = PaintingGeometry((16, 24), (2, 3), (8, 8), (4, 4))
    association, classes = random_scores(geometry, 4)
    with pytest.raises(ValueError, match=r"association of shape \(1, 2, 3, 16, 8\); expected \(B, 2, 3, 16, 9\)"):
        paint_association(association[..., :8], classes, geometry)
    with pytest.raises(ValueError, match=r"class_logits of shape \(1, 3, 3, 4\); expected \(1, 2, 3, K\)"):
        paint_association(association, torch.zeros(1, 3, 3, 4), geometry)
    with pytest.raises(ValueError, match=r"size is \(0, 4\)"):
        paint_association(association, classes, geometry, (0, 4))
    with pytest.raises(ValueError, match="2 cells of 8 pixels cover 16 pixels; expected at least 17"):
        paint_association(association, classes, PaintingGeometry((17, 24), (2, 3), (8, 8), (4, 4)))
