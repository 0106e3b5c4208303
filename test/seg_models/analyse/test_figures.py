"""What the papers' figures show, against plain arithmetic on tiny models."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_models.analyse.attention import class_attention, patch_attention
from seg_models.analyse.embeddings import class_embeddings, projected
from seg_models.analyse.errors import AnalysisError
from seg_models.analyse.features import filtered_features
from seg_models.analyse.regions import association_of, entropies, probability_maps, region_entropies
from seg_models.analyse.speed import measured
from seg_models.losses import IGNORE
from seg_models.ops import neighbourhood as nb
from test.seg_models.tiny_models import tiny_model


def picture(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_patch_attention_is_the_softmax_that_mixes_the_values():
    """Mixed with the layer's values by hand, the attention of all patches gives the layer's output."""
    model = tiny_model("segmenter").eval()
    block = model.backbone.vit.blocks[1].attn
    seen = []
    handle = block.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    patches = list(itertools.product(range(8), range(12)))
    maps = patch_attention(model, picture(), patches, [2])  # (1, 96, 8, 12)
    handle.remove()
    assert maps.shape == (1, 96, 8, 12)
    assert maps.min() >= 0
    tokens = seen[0][0]
    q, k, _ = block.qkv(tokens).reshape(1, 97, 3, block.num_heads, -1).permute(2, 0, 3, 1, 4)
    expected = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1).mean(1)[0, 1:, 1:]
    torch.testing.assert_close(maps[0].flatten(1), expected.detach(), atol=1e-6, rtol=1e-5)
    # What is missing to a sum of one goes to the class token.
    assert (maps.sum((2, 3)) < 1).all()


def test_patches_are_counted_without_the_class_token_where_it_is_removed():
    maps = patch_attention(tiny_model("segvit").eval(), picture(), [(0, 0), (7, 11)], [1, 3])
    assert maps.shape == (2, 2, 8, 12)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 2))


def test_class_attention_of_segvit_is_the_mask_of_its_last_stage():
    model = tiny_model("segvit", taps=(2,)).eval()
    found = class_attention(model, picture(), [3, 0])
    with torch.no_grad():
        masks = model(picture()).aux["masks"][-1]
    torch.testing.assert_close(found["similarity"], masks[0, [3, 0]], atol=1e-6, rtol=1e-5)  # one stage: S is the mask
    torch.testing.assert_close(found["mask"], found["similarity"].sigmoid(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found["attention"].sum((1, 2)), torch.ones(2))


def test_class_attention_of_rsseg_mixes_the_decoders_values():
    model = tiny_model("rsseg").eval()
    seen = []
    layer = model.decoder.attention
    handle = layer.value.register_forward_hook(lambda _, __, made: seen.append(made))
    out = layer.register_forward_hook(lambda _, __, made: seen.append(made.out))
    maps = class_attention(model, picture(), range(4))["attention"]
    handle.remove()
    out.remove()
    mixed = layer.out(maps.flatten(1) @ seen[0][0])
    torch.testing.assert_close(mixed, seen[1][0], atol=1e-5, rtol=1e-4)


def test_features_are_those_around_the_filters():
    model = tiny_model("rsseg_pyramid").eval()
    found = filtered_features(model, picture())
    assert set(found) == {"first_before", "first_behind", "last_before", "last_behind"}
    assert all(values.shape == (16, 24) and values.min() >= 0 for values in found.values())
    block = model.path.blocks[0]
    block.high_pass.weight.data.fill_(1.0)  # equal weights are the kernel zero
    assert filtered_features(model, picture())["first_behind"].abs().max() < 1e-6


@pytest.mark.parametrize("name", ["segmenter", "segvit", "rsseg"])
def test_embeddings_are_one_vector_a_class_whose_plane_keeps_most_of_their_distances(name):
    embeddings = class_embeddings(tiny_model(name))
    assert embeddings.shape[0] == 4
    corners = torch.tensor([[3.0, 0, 0], [-3.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]]) + 5.0
    points = projected(corners)
    torch.testing.assert_close(torch.cdist(points, points).float(), torch.cdist(corners, corners))
    assert points[:, 0].std() > points[:, 1].std()
    assert projected(embeddings).shape == (4, 2)


@pytest.mark.parametrize("name", ["regproxy", "superpixel_transformer"])
def test_probability_maps_sum_to_one_at_every_pixel_and_stay_near_their_region(name):
    model = tiny_model(name).eval()
    association, cell = association_of(model, picture())
    maps = probability_maps(association, cell)
    rows, cols = association.shape[1:3]
    assert maps.shape == (rows * cols, rows * cell[0], cols * cell[1])
    torch.testing.assert_close(maps.sum(0), torch.ones_like(maps[0]))
    assert torch.equal(maps.argmax(0), nb.hard_superpixels(association, cell)[0])
    far = maps[0, 2 * cell[0] :]  # beyond the neighbours of the first row
    assert not far.any()


def test_entropy_is_that_of_the_histogram_of_labelled_pixels():
    owner = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    labels = torch.tensor([[0, 1, 2, IGNORE], [0, 0, 0, 1]])
    expected = [1.0, 0.0, -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))]
    assert entropies(owner, labels, 4, 3).tolist() == pytest.approx(expected)  # region 3 has no pixel


def test_regions_that_follow_a_border_have_less_entropy_than_cells():
    model = tiny_model("regproxy").eval()
    rgb = torch.zeros(1, 3, 64, 96)
    rgb[..., 44:] = 1.0  # inside a column of cells of 8
    labels = (rgb[0, 0] > 0.5).long()
    found = region_entropies(model, rgb - 0.5, rgb, labels)
    assert {name: len(values) for name, values in found.items()}["cells"] == 96
    assert found["cells"].max() == pytest.approx(1.0)  # cut in two halves
    assert found["slic"].max() == 0
    assert len(found["learned"]) <= 96


def test_parts_add_up_to_the_total_of_a_clock():
    ticks = itertools.count()
    found = measured(tiny_model("superpixel_transformer").eval(), picture(), 2, lambda _: float(next(ticks)))
    parts = ["backbone", "hypercolumn", "tokenization", "self-attention", "association"]
    assert [*found] == [*parts, "total"]
    assert sum(found[name] for name in parts) == found["total"]
    assert found["tokenization"] == 2000.0  # two layers, a tick each
    assert set(measured(tiny_model("linear").eval(), picture(), 1)) == {"backbone", "decoder", "total"}


def test_what_a_model_does_not_have_is_said():
    spt, linear = tiny_model("superpixel_transformer").eval(), tiny_model("linear").eval()
    for call, message in (
        (lambda: patch_attention(spt, picture(), [(0, 0)], [1]), "no plain transformer"),
        (lambda: patch_attention(linear, picture(), [(0, 0)], [4]), "layer 4; expected 1 to 3"),
        (lambda: patch_attention(linear, picture(), [(8, 0)], [1]), "expected a row below 8"),
        (lambda: class_attention(linear, picture(), [0]), "expected SegViT or RSSeg"),
        (lambda: class_attention(tiny_model("rsseg").eval(), picture(), [4]), "class 4; expected 0 to 3"),
        (lambda: filtered_features(linear, picture()), "no local separation blocks"),
        (lambda: class_embeddings(linear), "learns no vector for each class"),
        (lambda: association_of(linear, picture()), "learns no regions"),
    ):
        with pytest.raises(AnalysisError, match=message):
            call()


def test_attention_of_vanilla_rsseg_is_found_too():
    model = tiny_model("rsseg", cross_attention="vanilla").eval()
    maps = class_attention(model, picture(), [1])["attention"]
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(1))
    assert F.relu(maps).equal(maps)
