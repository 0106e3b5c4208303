"""SegViT, its Shrunk and its pyramid form: the paper's equations and costs, sizes, options, errors."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from seg_models.architectures.segvit.atm import AtmDecoder, QueryUpsampling
from seg_models.architectures.segvit.loss import class_loss, mask_losses, present_classes
from seg_models.architectures.segvit.model import SegViT, SegViTPyramid, cascade_taps
from seg_models.architectures.segvit.shrunk import SegViTShrunk
from seg_models.backbones.timm_models import BackboneError
from seg_models.build import ModelError, build_model
from seg_models.losses import IGNORE
from seg_models.prediction import Prediction

close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)  # float32; sums may run in another order

VIT = {"embed_dim": 24, "depth": 3, "num_heads": 2}
SWIN = {"embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 2), "window_size": 2}
BACKBONES = {"segvit_pyramid": ("swin_tiny_patch4_window7_224", {"timm_options": SWIN, "decoder_width": 16})}
NAMES = ["segvit", "segvit_shrunk", "segvit_pyramid"]


def tiny(name: str = "segvit", classes: int = 5, size: tuple[int, int] = (32, 64), **options):
    torch.manual_seed(0)
    backbone, defaults = BACKBONES.get(name, ("vit_tiny_patch16_224", {"patch_size": 8, "timm_options": VIT}))
    options = {"backbone": backbone, **defaults, "decoder_layers": 1 if name != "segvit" else 2, **options}
    return build_model(name, num_classes=classes, image_size=size, **options).eval()


def picture(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_a_score_is_the_sum_over_tokens_of_class_probability_times_mask():
    model, image = tiny(), picture(32, 64)
    prediction = model(image)
    probability = prediction.aux["class_logits"][-1].softmax(-1)[..., :-1]
    masks = F.interpolate(prediction.aux["masks"][-1], size=(32, 64), mode="bilinear").sigmoid()
    close(prediction.logits, torch.einsum("bqk,bqhw->bkhw", probability, masks))
    decision = model.decide(image)
    assert torch.equal(decision.labels, prediction.logits.argmax(1))
    close(decision.confidence, prediction.logits.amax(1))


def test_a_mask_is_the_mean_over_heads_of_equation_2():
    torch.manual_seed(0)
    decoder = AtmDecoder((12,), 3, width=8, heads=2, layers=1).eval()
    tap = torch.randn(2, 6, 12)
    layer, memory = decoder.stages[0].layers[0], decoder.stages[0].project(tap)
    queries = layer.attend_to_each_other(decoder.class_tokens.expand(2, -1, -1))
    q, k = layer.cross_attention.query(queries), layer.cross_attention.key(memory)
    by_head = [q[..., h : h + 4] @ k[..., h : h + 4].transpose(1, 2) / 4**0.5 for h in (0, 4)]
    close(decoder([tap], [(2, 3)]).masks[0], torch.stack(by_head).mean(0).unflatten(2, (2, 3)))


def test_the_two_ways_through_attention_agree():
    torch.manual_seed(0)
    attention = AtmDecoder((None,), 3, width=8, heads=2).eval().stages[0].layers[0].cross_attention
    queries, memory = torch.randn(2, 3, 8), torch.randn(2, 7, 8)
    close(attention(queries, memory), attention.with_similarity(queries, memory)[0])


def test_the_cascade_reads_the_deepest_tap_first_and_sums_masks():
    model = tiny(taps=(0, 2))
    taps, grids = model.stages(picture(32, 64))
    first = model.decoder([taps[0]] * 2, grids).masks
    both = model.decoder(taps, grids).masks
    close(taps[0], model.backbone(picture(32, 64)).taps[1])
    close(first[0], both[0])
    queries = model.decoder.stages[0](model.decoder.class_tokens.expand(2, -1, -1), taps[0])[0][-1]
    close(both[1] - both[0], model.decoder.stages[1](queries, taps[1])[1][-1].unflatten(2, grids[0]))


def test_default_taps_are_the_released_ones():
    assert cascade_taps(12) == (5, 7, 11)
    assert cascade_taps(24) == (7, 15, 23)
    assert cascade_taps(6) == (1, 3, 5)
    assert cascade_taps(1) == (0,)


@pytest.mark.parametrize(
    ("way", "same_as_nearest"), [("query_nearest", True), ("all_nearest", False), ("query_conv", False)]
)
def test_query_down_sampling_quarters_the_tokens(way, same_as_nearest):
    model = tiny("segvit_shrunk", down_sampling=way)
    backbone = model.backbone
    assert (backbone.shrink_at, backbone.taps) == (1, (0, 2))
    x = torch.randn(2, 32, 24, generator=torch.Generator().manual_seed(0))
    out = backbone.run_block(1, x, (4, 8))
    assert out.shape == (2, 8, 24)
    # Every block works on tokens alone, so queries that are a subset give a subset of the block's plain output.
    plain = backbone.vit.blocks[1](x).transpose(1, 2).unflatten(2, (4, 8))[..., ::2, ::2].flatten(2).transpose(1, 2)
    assert torch.allclose(out, plain, atol=1e-5) is same_as_nearest
    alone = backbone.vit.blocks[1](x.unflatten(1, (4, 8))[:, ::2, ::2].flatten(1, 2))
    assert torch.allclose(out, alone, atol=1e-5) is (way == "all_nearest")


def test_query_upsampling_restores_the_grid_and_resizes_its_queries():
    model = tiny("segvit_shrunk")
    for size, grid in (((32, 64), (4, 8)), ((64, 64), (8, 8))):
        (tokens,), (found,) = model.stages(picture(*size))
        assert found == grid
        assert tokens.shape == (2, grid[0] * grid[1], 12)
    naive = tiny("segvit_shrunk", query_upsampling=False)
    assert naive(picture(32, 64)).aux["masks"].shape == (1, 2, 5, 2, 4)
    # All layers of the one ATM are supervised where the QU precedes it.
    assert tiny("segvit_shrunk", decoder_layers=3)(picture(32, 64)).aux["masks"].shape == (3, 2, 5, 4, 8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 64), (40, 40), (37, 51), (64, 128)])
def test_any_input_size_gives_scores_of_that_size_and_a_finite_loss(name, size):
    model = tiny(name).train()
    prediction = model(picture(*size))
    assert prediction.logits.shape == (2, 5, *size)
    labels = torch.randint(0, 5, (2, *size), generator=torch.Generator().manual_seed(0))
    loss = torch.stack(list(model.loss(prediction, labels).values())).sum()
    loss.backward()
    assert loss.isfinite()
    unreached = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unreached


def test_padding_is_zeros_at_the_bottom_and_right_and_is_cut_off():
    model, image = tiny(size=(37, 51)), picture(37, 51)
    padded = model(F.pad(image, (0, 5, 0, 3))).logits
    close(model(image).logits, padded[..., :37, :51])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_changes_nothing(name):
    gradients = []
    for checkpointing in (False, True):
        model = tiny(name, gradient_checkpointing=checkpointing, decoder_dropout=0.0).train()
        model(picture(32, 64)).logits.sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        close(gradients[1][key], gradient)


def loss_by_hand(logits: torch.Tensor, masks: torch.Tensor, labels: torch.Tensor) -> tuple[float, float, float]:
    """Eq. 4's terms pixel by pixel, in float64."""
    batch, classes, _ = logits.shape
    total, weights, focal, dice, count = 0.0, 0.0, 0.0, 0.0, 0
    for b in range(batch):
        for k in range(classes):
            target = (labels[b] == k).double()
            there = bool(target.any())
            weight = 1.0 if there else 0.1
            total -= weight * logits[b, k].double().log_softmax(0)[k if there else classes].item()
            weights += weight
            if there:
                p = masks[b, k].double().sigmoid()
                right = torch.where(target == 1, p, 1 - p)
                alpha = torch.where(target == 1, 0.25, 0.75)
                focal += (-alpha * (1 - right) ** 2 * right.log()).mean().item()
                dice += (1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)).item()
                count += 1
    return total / weights, focal / count, dice / count


def test_loss_terms_are_equation_4():
    generator = torch.Generator().manual_seed(0)
    logits, masks = torch.randn(2, 4, 5, generator=generator), torch.randn(2, 4, 6, 7, generator=generator)
    labels = torch.randint(0, 3, (2, 6, 7), generator=generator)  # class 3 is nowhere
    labels[0, :2] = IGNORE
    labels[1] = 1
    present = present_classes(labels, 4)
    assert present.tolist() == [[True, True, True, False], [False, True, False, False]]
    terms = (class_loss(logits, present, 0.1), *mask_losses(masks, labels, present, [(6, 7)]))
    assert [t.item() for t in terms] == pytest.approx(loss_by_hand(logits, masks, labels), rel=1e-5)


def test_a_batch_without_labels_only_teaches_that_there_is_no_object():
    model = tiny().train()
    terms = model.loss(model(picture(32, 64)), torch.full((2, 32, 64), IGNORE))
    torch.stack(list(terms.values())).sum().backward()
    assert all((value.item() == 0) == (not name.startswith("class")) for name, value in terms.items())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_cross_entropy_form_is_of_the_scores_shares():
    """Scores are in 0..1: a softmax over them, not their logarithms, could not come below 4.02 for 150 classes."""
    model = tiny(loss_form="cross_entropy")
    prediction, labels = model(picture(32, 64)), torch.ones(2, 32, 64, dtype=torch.long)
    shares = prediction.logits / prediction.logits.sum(1, keepdim=True)
    (name, loss), *rest = model.loss(prediction, labels).items()
    assert (name, rest) == ("cross_entropy", [])
    torch.testing.assert_close(loss, -shares[:, 1].log().mean(), atol=1e-4, rtol=1e-4)  # 1e-6 is added to each score
    sure = torch.zeros(2, 5, 32, 64)
    sure[:, 1] = 1.0
    assert model.loss(Prediction(sure), labels)["cross_entropy"] < 1e-5
    never = model.loss(Prediction(1 - sure), labels)["cross_entropy"]
    assert never.isfinite()


@pytest.mark.parametrize("name", ["segvit", "segvit_shrunk"])
def test_drop_path_is_on_the_feed_forward_branches_alone(name):
    """Measured at the authors' ViT: with every dropped branch dropped, attention still changes the tokens."""
    backbone = tiny(name, drop_path_rate=0.3).backbone
    rates = [getattr(block.drop_path2, "drop_prob", 0.0) for block in backbone.vit.blocks]
    assert rates == pytest.approx([0.0, 0.15, 0.3])
    backbone.vit.blocks[2].drop_path2.drop_prob = 1.0  # always
    backbone.train()
    x = torch.randn(2, 32 if name == "segvit" else 8, 24, generator=torch.Generator().manual_seed(0))
    block = backbone.vit.blocks[2]
    for _ in range(20):
        close(backbone.run_block(2, x, (4, 8)), x + block.attn(block.norm1(x)))


def test_attention_starts_as_the_authors_does():
    """At width 384: 0.036 where the released code has nn.MultiheadAttention, 0.02 for the ATM's own linear layers."""
    torch.manual_seed(0)
    ours = AtmDecoder((None,), 3, width=384, heads=12, layers=1).stages[0].layers[0]
    theirs = torch.nn.MultiheadAttention(384, 12).in_proj_weight
    for part in ("query", "key", "value"):
        weight = getattr(ours.self_attention, part).weight
        assert weight.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
        assert weight.abs().max().item() == pytest.approx(
            theirs.abs().max().item(), rel=0.02
        )  # uniform: the same bound
        assert getattr(ours.cross_attention, part).weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert theirs.std().item() == pytest.approx(0.036, abs=5e-4)
    assert ours.self_attention.out.weight.std().item() == pytest.approx(0.02, rel=0.02)
    upsampling = QueryUpsampling(384, 1, (2, 2), width=384, heads=12, layers=1, dropout=0.0).stages[0][0]
    for attention in (upsampling.self_attention, upsampling.cross_attention):
        assert attention.key.weight.std().item() == pytest.approx(0.036, abs=1e-3)
        assert not attention.key.bias.any()


def test_weights_scale_their_terms():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (2, 32, 64), generator=generator)
    plain, weighted = tiny(), tiny(class_weight=2.0, focal_weight=5.0, dice_weight=3.0)
    prediction = plain(picture(32, 64))
    a, b = plain.loss(prediction, labels), weighted.loss(prediction, labels)
    for name, factor in (("class", 2), ("focal", 5 / 20), ("dice", 3)):
        close(b[name], a[name] * factor)


def test_wrong_labels_are_refused_with_what_came():
    model = tiny()
    prediction = Prediction(torch.zeros(2, 5, 32, 64), aux=model(picture(32, 64)).aux)
    with pytest.raises(ValueError, match=r"labels of shape \(2, 64, 32\)"):
        model.loss(prediction, torch.zeros(2, 64, 32, dtype=torch.long))
    with pytest.raises(ValueError, match="label 5 in the batch; expected 0 to 4, or 255"):
        model.loss(prediction, torch.full((2, 32, 64), 5))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("segvit", {"taps": (3,)}, BackboneError, "tap 3 of vit_tiny_patch16_224: its blocks are 0 to 2"),
        ("segvit", {"taps": ()}, ValueError, "0 taps"),
        ("segvit", {"decoder_heads": 5}, ValueError, "multiple of decoder_heads 5"),
        ("segvit", {"loss_form": "ce"}, ValueError, "mask, cross_entropy"),
        ("segvit", {"classes": 0}, ValueError, "num_classes is 0"),
        ("segvit", {"decoder_layer": 2}, ModelError, "decoder_layers"),
        ("segvit_shrunk", {"down_sampling": "nearest"}, ValueError, "query_nearest, query_conv, all_nearest"),
        ("segvit_shrunk", {"shrink_at": 0}, BackboneError, "expected a block from 1 to 2"),
        ("segvit_shrunk", {"backbone": "beit_base_patch16_224"}, BackboneError, "beit_base_patch16_224 cannot shrink"),
        ("segvit_pyramid", {"backbone": "vit_tiny_patch16_224"}, BackboneError, "is no Swin Transformer"),
        ("segvit_pyramid", {"backbone": "swin_tiny_patch4_window7"}, BackboneError, "swin_tiny_patch4_window7_224"),
        ("segvit_pyramid", {"levels": (3, 1)}, BackboneError, "ascending"),
    ],
)
def test_bad_options_are_refused_with_what_was_expected(name, options, error, message):
    with pytest.raises(error, match=message):
        tiny(name, **options)


def test_each_name_builds_its_class():
    for name, kind in zip(NAMES, (SegViT, SegViTShrunk, SegViTPyramid), strict=True):
        assert type(tiny(name)) is kind
