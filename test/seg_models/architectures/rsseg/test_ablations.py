"""RSSeg's ablations: the rows of Tables 4 to 8 as options."""

from __future__ import annotations

import datetime
import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from seg_models.architectures.rsseg import boundary, decoder, operators, pathway
from seg_models.losses import IGNORE
from test.seg_models.tiny_models import tiny_model


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels() -> torch.Tensor:
    made = torch.zeros(2, 64, 96, dtype=torch.int64)
    made[:, 20:40, 30:70] = 1
    made[:, 50:, :40] = 2
    made[:, :4] = IGNORE
    return made


def terms(name: str, **options) -> dict[str, torch.Tensor]:
    """The losses of a training step, whose gradients are finite."""
    model = tiny_model(name, **options)
    made = model.loss(model(noise(2, 3, 64, 96)), labels())
    torch.stack(list(made.values())).sum().backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert [name for name in missing if "backbone" not in name] == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    return made


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"query_to_region", "patch_to_region"}),
        ({"cross_attention": "vanilla"}, set()),
        ({"cross_attention": "vanilla", "separations": 0}, set()),
        ({"cross_attention": "vanilla", "pathway": False}, set()),
        ({"cross_attention": "unnormalized"}, {"query_to_region", "patch_to_region"}),
        ({"matching_weights": (1.0, 0.0)}, {"query_to_region"}),
        ({"matching_weights": (0.0, 1.0)}, {"patch_to_region"}),
        ({"filter_norm": "filter_norm"}, {"query_to_region", "patch_to_region"}),
        ({"pathway": False}, {"query_to_region", "patch_to_region"}),
    ],
)
def test_each_row_trains_with_its_losses(options, expected):
    assert set(terms("rsseg", **options)) == {"cross_entropy"} | expected


@pytest.mark.parametrize("operator", operators.LOCAL_OPERATORS)
@pytest.mark.parametrize("fusion", pathway.FUSIONS)
def test_pathways_of_tables_7_and_8_train_without_and_with_edges(operator, fusion):
    options = {"local_operator": operator, "fusion": fusion}
    assert set(terms("rsseg_pyramid", boundary_weight=0.0, **options)) == {"cross_entropy"}
    assert set(terms("rsseg_pyramid", boundary_target="laplacian", **options)) == {"cross_entropy", "boundary"}


def test_the_baseline_is_the_backbone_under_the_same_two_layers():
    model = tiny_model("rsseg_pyramid", pathway=False, boundary_weight=0.0)
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"backbone", "fuse", "classify"}
    assert model(noise(2, 3, 64, 96)).aux == {}


@pytest.mark.parametrize("operator", operators.LOCAL_OPERATORS)
def test_operators_are_depthwise_and_reach_as_far_as_named(operator):
    torch.manual_seed(0)
    layer = operators.local_operator(operator, 3)
    impulse = torch.zeros(1, 3, 41, 41)
    impulse[0, 1, 20, 20] = 1.0
    out = layer(impulse)
    assert out.shape == impulse.shape
    assert not out[0, [0, 2]].any()  # no other channel hears of it
    rows = out[0, 1].abs().sum(1).nonzero()
    reach = {"high_pass": 2, "convolution": 1, "large_kernel": 7, "multi_dilation": 4}[operator]
    assert (int(rows.min()), int(rows.max())) == (20 - reach, 20 + reach)


def test_filter_norm_gives_learnt_mean_and_deviation_and_stands_even_filters():
    norm = decoder.FilterNorm(9)
    filters = noise(2, 3, 4, 9, 5, 5)
    made = norm(filters, dim=3)
    torch.testing.assert_close(made.mean(3), torch.full((2, 3, 4, 5, 5), 1 / 9))
    torch.testing.assert_close(made.std(3, correction=0), torch.full((2, 3, 4, 5, 5), (2 / 9) ** 0.5))
    even = torch.zeros(1, 1, 1, 9, 1, 1, requires_grad=True)
    norm(even, dim=3).square().sum().backward()
    assert even.grad is not None
    assert even.grad.isfinite().all()


def test_vanilla_cross_attention_is_pytorchs():
    torch.manual_seed(0)
    layer = decoder.DiscriminativeCrossAttention(8, "vanilla")
    queries, patches = noise(2, 3, 8), noise(2, 5, 8, seed=2)
    q, k, v = layer.query(queries), layer.key(patches), layer.value(patches)
    torch.testing.assert_close(layer(queries, patches).out, layer.out(F.scaled_dot_product_attention(q, k, v)))
    assert "inverse_scale" not in dict(layer.named_parameters())
    # Where the scale is learnt and nothing is normalised, it starts there too.
    plain = decoder.DiscriminativeCrossAttention(8, "unnormalized")
    plain.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(plain(queries, patches).out, layer(queries, patches).out)


def test_regions_that_are_not_normalised_are_the_means_of_their_patches():
    queries, keys = noise(1, 2, 4), noise(1, 3, 4, seed=3)
    made = decoder.region_matching_losses(queries, keys, torch.tensor(0.5), torch.tensor([[0, 1, 1]]), normalizes=False)
    regions = torch.stack([keys[0, 0], keys[0, 1:].mean(0)])
    to_region = F.cross_entropy(queries[0] @ regions.T * 0.5, torch.tensor([0, 1]))
    of_patches = F.cross_entropy(keys[0] @ regions.T * 0.5, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(torch.stack(made), torch.stack([to_region, of_patches]))


def test_stdcs_boundary_is_the_laplacian_at_three_strides():
    made = torch.zeros(1, 16, 16, dtype=torch.int64)
    made[:, :, 8:] = 3
    made[0, 0, 0] = IGNORE
    found = boundary.laplacian_boundaries(made)
    assert found[0, 4:12, 8].all()  # the side of the larger number
    assert not found[0, 4:12, 2:7].any()
    assert not found[0, 0, 0]
    # Stride 2 sees columns 0, 2, ...: the step lies at its column 4, which is 8 and 9 of the image; stride 4 alone is too little.
    assert found[0, 4:12, 9].all()
    assert not found[0, 4:12, 10:12].any()
    even = torch.full((1, 16, 16), 2)
    assert boundary.laplacian_boundaries(even)[0, 2:-2, 2:-2].sum() == 0
    assert boundary.laplacian_boundaries(even)[0, 0].all()  # zeros around the image


def test_unknown_forms_are_named():
    for name, options, message in (
        ("rsseg", {"cross_attention": "plain"}, "cross_attention is 'plain'; expected one of discriminative"),
        ("rsseg", {"filter_norm": "none"}, "filter_norm is 'none'; expected one of softmax"),
        ("rsseg", {"local_operator": "x"}, "local_operator is 'x'; expected one of high_pass"),
        ("rsseg_pyramid", {"fusion": "x"}, "fusion is 'x'; expected one of attention"),
        ("rsseg_pyramid", {"boundary_target": "x"}, "boundary_target is 'x'; expected one of classes"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_model(name, **options)


def one_process(rank: int, folder: Path) -> None:
    """Whether fusions with plain and with synchronised norms take a batch of one here, one of two processes."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", datetime.timedelta(minutes=2), 2, rank)
    plain = pathway.AttentionGuidedFusion(4, 6)
    synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(pathway.AttentionGuidedFusion(4, 6))
    torch.save((plain.shares_statistics(), synchronised.shares_statistics()), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_one_image_a_process_is_taken_where_the_norms_are_those_of_several(tmp_path: Path):
    """CSWin's protocol: 1 on each of 8 GPUs. PyTorch's synchronised norm itself runs on GPUs alone."""
    alone = torch.nn.SyncBatchNorm.convert_sync_batchnorm(pathway.AttentionGuidedFusion(4, 6)).train()
    assert not alone.shares_statistics()
    with pytest.raises(ValueError, match="several processes with"):
        alone(noise(1, 4, 8, 8), noise(1, 6, 4, 4))
    other = multiprocessing.get_context("spawn").Process(target=one_process, args=(1, tmp_path))
    other.start()
    one_process(0, tmp_path)
    other.join()
    assert other.exitcode == 0
    assert [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)] == [(False, True)] * 2
