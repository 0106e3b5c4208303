"""The cell-blocked neighbourhood against its definition in loops, and the properties the paper states of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seg_models.ops import neighbourhood as nb
from seg_models.ops import neighbourhood_reference as reference

GRIDS = [((3, 4), (2, 3)), ((1, 1), (2, 2)), ((1, 5), (1, 2)), ((2, 2), (4, 4))]
# Both forms compute in float64; only the order of the sums differs.
TOLERANCE = {"rtol": 0.0, "atol": 1e-12}


def features(grid: tuple[int, int], cell: tuple[int, int], channels: int, count: int, seed: int = 0):
    """`count` random superpixel grids (D, R, C) and pixel maps (D, R*h, C*w), float64."""
    generator = torch.Generator().manual_seed(seed)
    (rows, cols), (h, w) = grid, cell
    superpixels = [torch.randn(channels, rows, cols, generator=generator, dtype=torch.float64) for _ in range(count)]
    pixels = [torch.randn(channels, rows * h, cols * w, generator=generator, dtype=torch.float64) for _ in range(count)]
    return superpixels, pixels


def as_grid(superpixels: torch.Tensor) -> torch.Tensor:
    """(D, R, C) -> (1, R, C, D)."""
    return superpixels.permute(1, 2, 0)[None]


@pytest.mark.parametrize(("grid", "cell"), GRIDS)
@pytest.mark.parametrize("heads", [1, 2])
def test_superpixel_update_equals_the_loop(grid, cell, heads):
    (query, _), (key, value) = features(grid, cell, 4, 2)
    expected = reference.superpixel_update(query, key, value, heads)
    actual = nb.attend_superpixels_to_pixels(
        as_grid(query), nb.to_cells(key[None], cell), nb.to_cells(value[None], cell), heads
    )
    torch.testing.assert_close(actual[0].permute(2, 0, 1), expected, **TOLERANCE)


@pytest.mark.parametrize(("grid", "cell"), GRIDS)
@pytest.mark.parametrize("heads", [1, 2])
def test_pixel_update_equals_the_loop(grid, cell, heads):
    (key, value), (query, _) = features(grid, cell, 4, 2)
    expected = reference.pixel_update(query, key, value, heads)
    actual = nb.attend_pixels_to_superpixels(nb.to_cells(query[None], cell), as_grid(key), as_grid(value), heads)
    torch.testing.assert_close(nb.from_cells(actual, cell)[0], expected, **TOLERANCE)


@pytest.mark.parametrize(("grid", "cell"), GRIDS)
def test_painting_and_hard_superpixels_equal_the_loop(grid, cell):
    (superpixels, values), (pixels, _) = features(grid, cell, 4, 2)
    painted, owner = reference.associate(pixels, superpixels, values)
    logits = nb.association_logits(nb.to_cells(pixels[None], cell), as_grid(superpixels))
    actual = nb.paint(nb.association(logits), as_grid(values), cell)
    torch.testing.assert_close(actual[0], painted, **TOLERANCE)
    assert torch.equal(nb.hard_superpixels(logits, cell)[0], owner)


def test_gradients_of_both_updates_equal_the_loop():
    grid, cell, heads = (2, 3), (2, 2), 2
    (s1, s2), (p1, p2) = features(grid, cell, 4, 2)
    inputs = [t.requires_grad_() for t in (s1, s2, p1, p2)]
    weight = torch.linspace(-1, 1, s1.numel(), dtype=torch.float64).reshape(s1.shape)
    loop = (reference.superpixel_update(s1, p1, p2, heads) * weight).sum()
    loop = loop + reference.pixel_update(p1, s1, s2, heads).square().sum()
    expected = torch.autograd.grad(loop, inputs)
    c1, c2 = nb.to_cells(p1[None], cell), nb.to_cells(p2[None], cell)
    blocked = nb.attend_superpixels_to_pixels(as_grid(s1), c1, c2, heads)[0].permute(2, 0, 1)
    total = (blocked * weight).sum() + nb.attend_pixels_to_superpixels(
        c1, as_grid(s1), as_grid(s2), heads
    ).square().sum()
    for actual, wanted in zip(torch.autograd.grad(total, inputs), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0.0, atol=1e-11)


def test_superpixel_update_survives_scores_that_overflow_exp():
    (query, _), (key, value) = features((2, 2), (2, 2), 4, 2)
    out = nb.attend_superpixels_to_pixels(
        as_grid(query) * 1e4, nb.to_cells(key[None], (2, 2)), nb.to_cells(value[None], (2, 2)), heads=1
    )
    # With scores this far apart the softmax picks one pixel, so each output is one of the values.
    distance = (out[0].reshape(-1, 1, 4) - value.permute(1, 2, 0).reshape(1, -1, 4)).abs().amax(-1)
    assert torch.isfinite(out).all()
    assert distance.amin(1).max() < 1e-9


def random_logits(grid: tuple[int, int], pixels: int, seed: int) -> torch.Tensor:
    """Association logits (2, R, C, P, 9) of random features, some of them large."""
    generator = torch.Generator().manual_seed(seed)
    superpixels = 20 * torch.randn(2, *grid, 4, generator=generator)
    return nb.association_logits(torch.randn(2, *grid, pixels, 4, generator=generator), superpixels)


def test_association_sums_to_one_and_never_crosses_the_border():
    logits = random_logits((3, 3), 4, seed=0)
    outside = nb.outside_grid((3, 3))
    assert outside.sum() == 4 * 5 + 4 * 3  # five neighbours missing at each corner, three at each side
    for cell in ((2, 2), (16, 16)):  # also after the resize inside the cell
        weights = nb.association(nb.upsample_in_cells(logits, (2, 2), cell))
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert (weights.transpose(3, 4)[:, outside] == 0).all()


def test_every_hard_superpixel_is_a_neighbour_of_its_cell():
    owner = nb.hard_superpixels(random_logits((3, 4), 6, seed=1), (2, 3))  # (2, 6, 12)
    row, col = owner // 4, owner % 4
    cell_row = torch.arange(6)[:, None] // 2
    cell_col = torch.arange(12)[None, :] // 3
    assert (row - cell_row).abs().max() <= 1
    assert (col - cell_col).abs().max() <= 1


def test_upsampling_stays_inside_a_cell():
    logits = torch.zeros(1, 1, 2, 4, 9)
    logits[:, :, 0] = 1.0  # a step between the two cells
    up = nb.upsample_in_cells(logits, (2, 2), (8, 8))
    assert (up[:, :, 0] == 1).all()
    assert (up[:, :, 1] == 0).all()


def test_upsampling_a_cell_equals_bilinear_interpolation():
    logits = torch.randn(2, 2, 3, 16, 9, generator=torch.Generator().manual_seed(0))
    up = nb.upsample_in_cells(logits, (4, 4), (32, 32))
    image = logits.reshape(-1, 4, 4, 9).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(image, scale_factor=8, mode="bilinear", align_corners=False)
    expected = expected.permute(0, 2, 3, 1).reshape(up.shape)
    torch.testing.assert_close(up, expected, rtol=1e-5, atol=1e-5)  # float32, sums in another order


def test_cells_round_trip():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    assert torch.equal(nb.from_cells(nb.to_cells(x, (2, 3)), (2, 3)), x)


def test_a_map_of_broken_cells_is_refused():
    with pytest.raises(ValueError, match=r"5x6 is not a whole number of 2x3 cells"):
        nb.to_cells(torch.zeros(1, 1, 5, 6), (2, 3))


def test_means_of_blocks_are_those_of_average_pooling():
    rows = torch.randn(2, 4 * 6, 5, generator=torch.Generator().manual_seed(0))
    expected = F.avg_pool2d(rows.mT.unflatten(-1, (4, 6)), 2).flatten(2).mT
    torch.testing.assert_close(nb.mean_of_blocks(rows, (4, 6), 2), expected, rtol=0, atol=1e-6)  # sums of four in float32
    with pytest.raises(ValueError, match="grid 4x6 is not a whole number of 3x3 blocks"):
        nb.mean_of_blocks(rows, (4, 6), 3)


def test_what_blocks_have_goes_to_each_of_their_superpixels():
    means = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    given = nb.to_blocks(means, (4, 6), 2)
    expected = F.interpolate(means.mT.unflatten(-1, (2, 3)), scale_factor=2, mode="nearest").flatten(2).mT
    assert torch.equal(given, expected)
    torch.testing.assert_close(nb.mean_of_blocks(given, (4, 6), 2), means, rtol=0, atol=1e-6)  # sums of four in float32
