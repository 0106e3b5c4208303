"""RSSeg: the properties that the paper states, its parameter counts, sizes, learning and errors.

No code was published, so there is nothing to be equal to but the text.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seg_models.architectures.rsseg.decoder import (
    DiscriminativeCrossAttention,
    SpatiallyAdaptiveSeparation,
    region_matching_losses,
)
from seg_models.architectures.rsseg.model import RSSeg
from seg_models.architectures.rsseg.operators import LearnableHighPassFilter
from seg_models.architectures.rsseg.pathway import AttentionGuidedFusion, LocalSeparationBlock
from seg_models.build import ModelError, build_model
from seg_models.losses import IGNORE

TINY = {"embed_dim": 24, "depth": 6, "num_heads": 2}


def tiny(classes: int = 4, size: tuple[int, int] = (32, 48), backbone: str = "vit_tiny_patch16_224", **options):
    torch.manual_seed(0)
    return build_model("rsseg", backbone, classes, size, patch_size=8, timm_options=TINY, **options)


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def millions(*modules: torch.nn.Module) -> float:
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


def test_high_pass_kernels_sum_to_zero_and_an_even_map_gives_zero():
    torch.manual_seed(0)
    high_pass = LearnableHighPassFilter(6).double()
    sums = high_pass.kernel().sum((2, 3))
    torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-15)  # float64
    assert high_pass.kernel().abs().max() > 0.01
    out = high_pass(torch.full((1, 6, 9, 9), 7.0, dtype=torch.float64))[..., 2:-2, 2:-2]  # away from the zero padding
    torch.testing.assert_close(out, torch.zeros_like(out), rtol=0, atol=1e-13)


def test_a_separation_block_is_a_residual():
    block = LocalSeparationBlock(8).eval()
    torch.nn.init.zeros_(block.reduce[1].weight)
    x = noise(2, 8, 5, 7)
    torch.testing.assert_close(block(x), x)


def test_fusion_is_equation_8():
    torch.manual_seed(0)
    fusion = AttentionGuidedFusion(4, 6).eval()
    local, smooth = noise(2, 4, 8, 8), noise(2, 6, 4, 4, seed=2)
    attention = fusion.attention(torch.cat([local.mean((2, 3)), smooth.mean((2, 3))], 1)[..., None, None])
    assert attention.min() > 0
    assert attention.max() < 1
    expected = attention * local + fusion.project(F.interpolate(smooth, scale_factor=2, mode="bilinear"))
    torch.testing.assert_close(fusion(local, smooth), expected, rtol=1e-5, atol=1e-6)


def test_adaptive_filters_sum_to_one_so_an_even_map_stays_even_up_to_its_border():
    torch.manual_seed(0)
    separate = SpatiallyAdaptiveSeparation(12, 5, groups=3, guide_is_twice_as_large=True).double()
    guide = noise(2, 5, 8, 12, dtype=torch.float64)
    filters = separate.spatial_filters(guide)
    assert filters.shape == (2, 3, 4, 9, 4, 6)
    assert filters.min() > 0
    torch.testing.assert_close(filters.sum(3), torch.ones(2, 3, 4, 4, 6, dtype=torch.float64))
    even = torch.full((2, 12, 4, 6), 3.0, dtype=torch.float64)
    torch.testing.assert_close(separate(even, guide), torch.full((2, 12, 8, 12), 3.0, dtype=torch.float64))


def test_adaptive_separation_is_equation_11_in_loops():
    torch.manual_seed(0)
    separate = SpatiallyAdaptiveSeparation(4, 3, groups=2, guide_is_twice_as_large=False).double()
    deep, guide = noise(1, 4, 3, 4, dtype=torch.float64), noise(1, 3, 3, 4, seed=2, dtype=torch.float64)
    filters, out = separate.spatial_filters(guide), separate(deep, guide)
    for channel in range(4):
        for row in range(6):
            for col in range(8):
                y, x, new = row // 2, col // 2, (row % 2) * 2 + col % 2
                expected = sum(
                    filters[0, channel // 2, new, 3 * dy + dx, y, x]
                    * deep[0, channel, min(max(y + dy - 1, 0), 2), min(max(x + dx - 1, 0), 3)]
                    for dy in range(3)
                    for dx in range(3)
                )
                torch.testing.assert_close(out[0, channel, row, col], expected)


def test_cross_attention_is_normalised_and_starts_with_a_scale_of_ten():
    torch.manual_seed(0)
    attention = DiscriminativeCrossAttention(8)
    out = attention(noise(2, 3, 8), 100 * noise(2, 20, 8, seed=2))
    assert attention.inverse_scale.item() == 10
    for normed in (out.queries, out.keys):
        torch.testing.assert_close(normed.norm(dim=-1), torch.ones(normed.shape[:2]))


def matching_case():
    queries, keys = F.normalize(noise(2, 5, 8), dim=-1), F.normalize(noise(2, 12, 8, seed=2), dim=-1)
    labels = torch.randint(0, 3, (2, 12), generator=torch.Generator().manual_seed(3)) * 2  # 0, 2 and 4 of five classes
    labels[0, labels[0] == 4] = IGNORE
    return queries, keys, torch.tensor(10.0), labels


def test_matching_losses_are_equations_13_to_15_over_the_present_classes():
    queries, keys, scale, labels = matching_case()
    of_queries, of_patches = [], []
    for q, k, y in zip(queries, keys, labels, strict=True):
        present = [c for c in range(5) if (y == c).any()]
        regions = F.normalize(torch.stack([k[y == c].mean(0) for c in present]), dim=-1)
        for row, c in enumerate(present):
            of_queries.append(F.cross_entropy(scale * regions @ q[c], torch.tensor(row)))
        of_patches += [
            F.cross_entropy(scale * regions @ k[n], torch.tensor(present.index(int(y[n]))))
            for n in range(12)
            if y[n] != IGNORE
        ]
    query_to_region, patch_to_region = region_matching_losses(queries, keys, scale, labels)
    torch.testing.assert_close(query_to_region, torch.stack(of_queries).mean())
    torch.testing.assert_close(patch_to_region, torch.stack(of_patches).mean())


def test_queries_of_absent_classes_and_unlabelled_patches_have_no_part_in_the_losses():
    queries, keys, scale, labels = matching_case()
    queries.requires_grad_()
    keys.requires_grad_()
    sum(region_matching_losses(queries, keys, scale, labels)).backward()
    assert queries.grad is not None
    assert keys.grad is not None
    moved = queries.grad.abs().sum(-1) > 0
    assert moved.tolist() == [[True, False, True, False, False], [True, False, True, False, True]]
    assert not keys.grad[labels == IGNORE].any()
    assert keys.grad[labels != IGNORE].any()


def test_matching_losses_of_a_batch_without_labels_are_zero_with_a_gradient():
    queries, keys, scale, labels = matching_case()
    keys.requires_grad_()
    losses = region_matching_losses(queries, keys, scale, torch.full_like(labels, IGNORE))
    assert [loss.item() for loss in losses] == [0, 0]
    sum(losses).backward()
    assert keys.grad is not None
    assert torch.isfinite(keys.grad).all()


def test_overlapped_embedding_starts_as_the_pretrained_one():
    model = tiny()
    assert isinstance(model, RSSeg)
    image = noise(1, 3, 32, 48)
    dense = model.overlapped_embedding(image)
    assert dense.shape == (1, 24, 8, 12)
    # Its kernel on the patch whose corner is 2 pixels up and left of (8, 8), a cell at half of the patch being 4 pixels.
    expected = model.backbone.vit.patch_embed.proj(image[..., 6:14, 6:14])[0, :, 0, 0]
    torch.testing.assert_close(dense[0, :, 2, 2], expected, rtol=1e-4, atol=1e-5)


def test_shares_of_pathway_and_decoder_are_table_4s():
    with torch.device("meta"):
        linear = build_model("linear", "vit_base_patch16_384", 150, (512, 512))
        model = build_model("rsseg", "vit_base_patch16_384", 150, (512, 512), separations=0)
    assert isinstance(model, RSSeg)
    pathway = millions(model.path, model.reduce, model.overlapped_embedding, model.merge)
    assert round(pathway, 1) == 4.2
    assert round(millions(model) - pathway - millions(linear), 1) == 8.9


@pytest.mark.parametrize("size", [(32, 48), (40, 56), (33, 47)])
@pytest.mark.parametrize("separations", [0, 1, 2])
def test_any_image_size_gives_outputs_of_that_size(size, separations):
    model = tiny(separations=separations).eval()
    labels = torch.zeros(2, *size, dtype=torch.long)
    with torch.no_grad():
        prediction = model(noise(2, 3, *size))
        losses = model.loss(prediction, labels)
    assert prediction.logits.shape == (2, 4, *size)
    assert set(losses) == {"cross_entropy", "query_to_region", "patch_to_region"}
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_every_parameter_gets_a_gradient():
    model = tiny(backbone="beit_base_patch16_224").train()
    labels = torch.randint(0, 4, (2, 32, 48), generator=torch.Generator().manual_seed(3))
    sum(model.loss(model(noise(2, 3, 32, 48)), labels).values()).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_one_image_in_training_gets_a_clear_answer_and_is_fine_in_evaluation():
    model = tiny().train()
    with pytest.raises(ValueError, match=r"a batch of 1 image in training; .* at least 2 images"):
        model(noise(1, 3, 32, 48))
    assert model.eval()(noise(1, 3, 32, 48)).logits.shape == (1, 4, 32, 48)


def test_errors_say_what_came_and_what_was_expected():
    with pytest.raises(ValueError, match="groups"):
        tiny(groups=5)
    with pytest.raises(ValueError, match="separations is 3; expected 0, 1 or 2"):
        tiny(separations=3)
    with pytest.raises(ModelError, match="RSSeg has no option 'local_widht'; near options: local_width"):
        tiny(local_widht=3)
    with (
        pytest.raises(ValueError, match=r"vit_small_r26_s32_384 cannot carry .* found a hybrid"),
        torch.device("meta"),
    ):
        build_model("rsseg", "vit_small_r26_s32_384", 4, (64, 64))
