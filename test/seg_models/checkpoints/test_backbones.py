"""Released files of backbones: equal to the authors' code, wholly accounted for, and refused if anything does not fit.

`cswin.pt` and `beit.pt` hold small models with random weights that the authors' own code ran: weights in its key names,
images, outputs and gradients of the scalar product of the outputs with `cotangent`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from seg_models.backbones.cswin import CSWinShape
from seg_models.build import build_model
from seg_models.checkpoints.backbones import convert_beit, convert_cswin
from seg_models.checkpoints.fitting import LoadReport
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.released import architecture_of, load_released

DATA = Path(__file__).parents[2] / "data"
CSWIN = torch.load(DATA / "cswin.pt", weights_only=True)
BEITS = torch.load(DATA / "beit.pt", weights_only=True)  # by version, each a classifier and a pre-trained model
OPTIONS = {"embed_dim": 16, "depth": 2, "num_heads": 2}
NORM = {"backbone.vit.norm.weight", "backbone.vit.norm.bias"}
NORMS_1_TO_3 = {f"backbone.norm{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias")}


def on_vit(name: str, backbone: str = "beit_base_patch16_224", size: tuple[int, int] = (32, 32), **changes):
    """A model on a tiny transformer of the fixtures' shape, with weights of its own."""
    torch.manual_seed(0)
    own = {"rsseg": {"sampled_blocks": (0,), "local_width": 8}, "segmenter": {"decoder_heads": 2}}
    options = {"timm_options": OPTIONS | changes, **own.get(name, {})}
    return build_model(name, backbone, 3, size, patch_size=8, **options).eval()


def on_cswin(stripes=(1, 2, 2), **changes):
    """RSSeg's pyramid form on a CSWin Transformer of the fixture's shape, with weights of its own."""
    torch.manual_seed(0)
    shape = {key: tuple(value) if key != "width" else value for key, value in CSWIN["config"].items()}
    shape = CSWinShape(**shape | {"stripes": tuple(stripes)} | changes)
    return build_model("rsseg_pyramid", "cswin_tiny", 3, (64, 64), shape=shape, interval=1, hidden_width=8).eval()


def cswin_classifier() -> dict[str, torch.Tensor]:
    """The fixture's weights as the authors' classifier has them: one norm and a head."""
    case, renamed = CSWIN["classification"], {own: key for key, own in CSWIN["classification"]["renamed"].items()}
    weights = {renamed.get(key, key): value for key, value in CSWIN["segmentation"]["state_dict"].items()}
    return {key: (weights | case["head"])[key] for key in case["keys"]}


def uper_net() -> dict[str, torch.Tensor]:
    """The fixture's weights as mmsegmentation keeps them, with two heads."""
    heads = {"decode_head.conv_seg.weight": torch.ones(3, 8, 1, 1), "auxiliary_head.conv_seg.bias": torch.ones(3)}
    return {f"backbone.{key}": value for key, value in CSWIN["segmentation"]["state_dict"].items()} | heads


def transformer(name: str = "beit_base_patch16_224", **options) -> nn.Module:
    """timm's own model with random weights and biases."""
    torch.manual_seed(1)
    network = timm.create_model(name, **{"img_size": 32, "patch_size": 8, "num_classes": 3} | OPTIONS | options).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def check_gradients(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    """Compare with gradients in own key names."""
    own = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    for key, gradient in expected.items():
        # Float32; sums run in another order than in the authors' code and on every processor. What that costs goes with the
        # largest of the summands, so a tensor of large gradients gets 1e-5 of its largest one.
        atol = max(1e-4, 1e-5 * float(gradient.abs().max()))
        torch.testing.assert_close(own[key], gradient, atol=atol, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


def check_accounts(model: nn.Module, report: LoadReport) -> None:
    """Each key of the model is loaded, made from a loaded one, or named as untouched."""
    assert report.loaded + len(report.derived) + len(report.untouched) == len(model.state_dict())


def test_cswin_segmentation_backbone_equals_the_authors_where_stripes_do_not_divide_the_maps():
    case = CSWIN["segmentation"]  # maps of 8 x 12 and 4 x 6 tokens in stages 2 and 3, stripes of 5 and 7
    model = on_cswin(case["stripes"])
    report = load_released(model, {"state_dict": uper_net(), "meta": {"epoch": 1}})
    assert report.unused == ("decode_head.conv_seg.weight", "auxiliary_head.conv_seg.bias")
    assert not [key for key in report.untouched if key.startswith("backbone.")]
    check_accounts(model, report)
    model.backbone.set_taps(model.backbone.stage_ends)
    stages = model.backbone(case["image"])
    for own, theirs in zip(stages, case["stages"], strict=True):
        # Float32, values around 1, behind 20 blocks: sums in another order on every processor (1.5e-5 seen).
        torch.testing.assert_close(own, theirs, atol=3e-5, rtol=1e-5)
    sum((own * to).sum() for own, to in zip(stages, case["cotangents"], strict=True)).backward()
    check_gradients(model, convert_cswin({f"backbone.{k}": v for k, v in case["gradients"].items()}).tensors)
    assert len(case["gradients"]) == len(case["state_dict"])


def test_cswin_classifier_equals_the_authors_and_leaves_the_norms_that_it_has_not():
    case = CSWIN["classification"]
    model = on_cswin(case["stripes"])
    report = load_released(model, {"state_dict_ema": cswin_classifier()})
    assert set(report.unused) == {"head.weight", "head.bias"}
    assert {key for key in report.untouched if key.startswith("backbone.")} == NORMS_1_TO_3
    check_accounts(model, report)
    model.backbone.set_taps(model.backbone.stage_ends[-1:])
    pooled = model.backbone(case["image"])[0].mean((2, 3))
    torch.testing.assert_close(pooled, case["pooled"], atol=1e-5, rtol=1e-5)  # float32, values around 1
    (pooled * case["cotangent"]).sum().backward()
    check_gradients(model, convert_cswin(case["gradients"]).tensors)


def test_the_order_of_keys_in_a_file_does_not_matter():
    for model, state in ((on_cswin(), cswin_classifier()), (on_vit("rsseg"), beit())):
        check_accounts(model, load_released(model, dict(reversed(state.items()))))


def test_averaged_weights_are_preferred_since_the_authors_evaluate_them():
    averaged = cswin_classifier()
    model = on_cswin()
    load_released(model, {"state_dict": {k: v + 1 for k, v in averaged.items()}, "state_dict_ema": averaged})
    assert torch.equal(model.backbone.merge1.conv.weight, averaged["merge1.conv.weight"])


@pytest.mark.parametrize("version", BEITS)
def test_beit_classifier_equals_the_authors_and_its_own_norm_is_not_taken_for_the_last_blocks(version):
    case = BEITS[version]["classifier"]
    model = on_vit("linear")
    norm = model.backbone.vit.norm.weight.detach().clone()
    report = load_released(model, {"model": case["state_dict"]})
    assert {key.split(".")[0] for key in report.unused if "relative_position_index" not in key} == {"fc_norm", "head"}
    assert {key for key in report.untouched if key.startswith("backbone.")} == NORM
    assert torch.equal(model.backbone.vit.norm.weight, norm)
    assert len(case["state_dict"]) == report.loaded + len(report.unused)
    check_accounts(model, report)
    model.backbone.vit.norm = nn.Identity()  # the authors' block outputs are bare
    model.backbone.set_taps((0, 1))
    blocks = torch.stack(model.backbone(case["image"]).taps)
    torch.testing.assert_close(blocks, case["blocks"], atol=1e-5, rtol=1e-5)  # float32, values around 1
    (blocks * case["cotangent"]).sum().backward()
    check_gradients(model, convert_beit(case["gradients"]).tensors)


@pytest.mark.parametrize("version", BEITS)
def test_pretrained_beit_equals_the_authors_and_each_block_gets_the_shared_table_as_its_own(version):
    case = BEITS[version]["pretrained"]
    model = on_vit("linear")
    report = load_released(model, case["state_dict"])
    assert {"mask_token", "lm_head.weight", "lm_head.bias"} < set(report.unused)
    assert not [key for key in report.untouched if key.startswith("backbone.")]
    assert len(case["state_dict"]) == report.loaded - 1 + len(report.unused)  # one table in the file, two in the model
    (tokens,) = model.backbone(case["image"]).taps
    torch.testing.assert_close(tokens, case["tokens"], atol=1e-5, rtol=1e-5)  # float32, values around 1
    (tokens * case["cotangent"]).sum().backward()
    gradients = convert_beit(case["gradients"]).tensors
    tables = {key: gradients.pop(key) for key in list(gradients) if "relative_position_bias_table" in key}
    check_gradients(model, gradients)
    own = [block.attn.relative_position_bias_table for block in model.backbone.vit.blocks]
    assert own[0] is not own[1]
    assert own[0].data_ptr() != own[1].data_ptr()
    for theirs in tables.values():
        torch.testing.assert_close(sum(table.grad for table in own), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["rsseg", "linear", "segmenter"])
@pytest.mark.parametrize("kind", ["classifier", "pretrained"])
def test_every_model_on_beit_takes_both_kinds_of_file(architecture, kind):
    model = on_vit(architecture)
    report = load_released(model, BEITS["beit"][kind]["state_dict"])
    check_accounts(model, report)
    assert report.resized == ()
    assert ({*report.untouched} >= NORM) is (kind == "classifier")


@pytest.mark.parametrize("with_index", [False, True], ids=["now", "with_the_index_buffers_of_older_versions"])
def test_timm_beit_equals_timm(with_index):
    theirs = transformer()
    state = dict(theirs.state_dict())
    if with_index:
        state |= {f"blocks.{i}.attn.relative_position_index": torch.zeros(17, 17, dtype=torch.long) for i in (0, 1)}
    model = on_vit("linear")
    report = load_released(model, state)
    assert len(report.unused) == 4 + 2 * with_index
    model.backbone.vit.norm = nn.Identity()  # timm's classifier has none there
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        # Float32; the authors and timm add the bias in another order than the fused attention.
        torch.testing.assert_close(model.backbone(image).taps[0], theirs.forward_features(image)[:, 1:])


def test_beit_with_position_embeddings_instead_of_biases_loads_too():
    options = {"use_abs_pos_emb": True, "use_rel_pos_bias": False, "init_values": None}
    theirs = transformer(**options)
    model = on_vit("linear", size=(32, 64), **options)
    report = load_released(model, theirs.state_dict())
    assert report.resized == ("backbone.vit.pos_embed",)
    assert torch.equal(model.backbone.vit.pos_embed[:, 0], theirs.pos_embed[:, 0])


def test_bias_tables_of_another_grid_are_resized_as_the_backbone_does_for_other_images():
    state = BEITS["beit"]["classifier"]["state_dict"]
    small, wide = on_vit("linear"), on_vit("linear", size=(32, 64))
    load_released(small, state)
    report = load_released(wide, state)
    assert report.resized == tuple(f"backbone.vit.blocks.{i}.attn.relative_position_bias_table" for i in (0, 1))
    own = wide.backbone.vit.blocks[1].attn.relative_position_bias_table
    assert own.shape == (7 * 15 + 3, 2)
    assert torch.equal(own[-3:], state["blocks.1.attn.relative_position_bias_table"][-3:])  # the class token's
    image = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(small.backbone(image).taps[0], wide.backbone(image).taps[0])


def test_a_grid_of_as_many_entries_but_another_shape_is_resized():
    beit = transformer(img_size=64)  # 8 x 8 patches have 15 x 15 offsets, 5 x 13 patches 9 x 25
    report = load_released(on_vit("linear", size=(40, 104)), beit.state_dict())
    assert len(report.resized) == 2
    vit = transformer("vit_tiny_patch16_224")  # 4 x 4 patches, and 2 x 8
    model = on_vit("linear", "vit_tiny_patch16_224", size=(16, 64))
    assert load_released(model, vit.state_dict()).resized == ("backbone.vit.pos_embed",)
    assert not torch.equal(model.backbone.vit.pos_embed, vit.pos_embed)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "beit_base_patch16_224"])
def test_the_overlapped_embedding_of_rsseg_starts_from_the_loaded_kernel(backbone):
    theirs = transformer(backbone)
    model = on_vit("rsseg", backbone)
    report = load_released(model, theirs.state_dict())
    assert set(report.derived) == {"overlapped_embedding.weight", "overlapped_embedding.bias"}
    check_accounts(model, report)
    assert torch.equal(model.overlapped_embedding.weight, theirs.patch_embed.proj.weight)
    assert torch.equal(model.overlapped_embedding.bias, theirs.patch_embed.proj.bias)


def beit(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The fixture's classifier with tensors (dots of their keys as "__") replaced or, if None, left out."""
    state = dict(BEITS["beit"]["classifier"]["state_dict"])
    for name, value in changes.items():
        state.pop(name.replace("__", "."), None)
        if value is not None:
            state[name.replace("__", ".")] = value
    return state


REFUSED = {
    "a deeper model": (
        lambda: on_vit("rsseg", depth=3, drop_path_rate=0.0),
        beit,
        r"a BEiT of width 16 and 2 blocks; expected width 16 and 3 blocks \(beit_base_patch16_224\)",
    ),
    "a wider model": (lambda: on_vit("rsseg", embed_dim=24), beit, "width 16 and 2 blocks; expected width 24 and 2"),
    "a wider ViT": (
        lambda: on_vit("rsseg", "vit_tiny_patch16_224", embed_dim=24),
        lambda: transformer("vit_tiny_patch16_224").state_dict(),
        "a timm vision transformer of width 16 and 2 blocks; expected width 24 and 2 blocks",
    ),
    "more heads": (
        lambda: on_vit("rsseg", num_heads=4),
        beit,
        r"blocks.0.attn.relative_position_bias_table is \(52, 2\), expected \(52, 4\)",
    ),
    "a ViT": (
        lambda: on_vit("rsseg", "vit_tiny_patch16_224"),
        beit,
        "holds a BEiT, .* expected weights of RSSeg or of its backbone vit_tiny_patch16_224",
    ),
    "a BEiT": (
        lambda: on_vit("segmenter"),
        lambda: transformer("vit_tiny_patch16_224").state_dict(),
        "holds a timm vision transformer, .* expected weights of Segmenter or of its backbone beit_base_patch16_224",
    ),
    "a missing tensor": (
        lambda: on_vit("rsseg"),
        lambda: beit(blocks__1__gamma_1=None),
        "missing backbone.vit.blocks.1.gamma_1; unexpected none",
    ),
    "an unknown tensor": (
        lambda: on_vit("rsseg"),
        lambda: beit(blocks__1__gamma_3=torch.zeros(16)),
        "missing none; unexpected backbone.vit.blocks.1.gamma_3",
    ),
    "neither of the norms": (
        lambda: on_vit("rsseg"),
        lambda: beit(fc_norm__weight=None, fc_norm__bias=None),
        "missing backbone.vit.norm.weight, backbone.vit.norm.bias; unexpected none",
    ),
    "shared and own tables": (
        lambda: on_vit("rsseg"),
        lambda: beit(rel_pos_bias__relative_position_bias_table=torch.zeros(52, 2)),
        "unexpected backbone.vit.rel_pos_bias.relative_position_bias_table",
    ),
    "a table of no square grid": (
        lambda: on_vit("rsseg"),
        lambda: beit(blocks__0__attn__relative_position_bias_table=torch.zeros(40, 2)),
        r"blocks.0.attn.relative_position_bias_table is \(40, 2\), expected \(52, 2\)",
    ),
    "another patch": (
        lambda: on_vit("rsseg"),
        lambda: beit(patch_embed__proj__weight=torch.zeros(16, 3, 16, 16)),
        r"patch_embed.proj.weight is \(16, 3, 16, 16\), expected \(16, 3, 8, 8\)",
    ),
    "a CSWin Transformer for a BEiT": (
        lambda: on_vit("rsseg"),
        cswin_classifier,
        "holds a CSWin Transformer, .* expected weights of RSSeg or of its backbone beit_base_patch16_224",
    ),
    "a BEiT for a CSWin Transformer": (
        on_cswin,
        beit,
        "holds a BEiT, .* expected weights of RSSegPyramid or of its backbone cswin_tiny",
    ),
    "a deeper CSWin Transformer": (
        lambda: on_cswin(depths=(1, 2, 3, 1)),
        cswin_classifier,
        r"a CSWin Transformer of width 4 and 1, 1, 2, 1 blocks; expected width 4 and 1, 2, 3, 1 blocks \(cswin_tiny\)",
    ),
    "a CSWin classifier without its norm": (
        on_cswin,
        lambda: {key: value for key, value in cswin_classifier().items() if not key.startswith("norm.")},
        "missing backbone.norm1.weight, backbone.norm1.bias, backbone.norm2.weight and 5 more; unexpected none",
    ),
    "a CSWin classifier with both norms": (
        on_cswin,
        lambda: cswin_classifier() | {"norm4.weight": torch.ones(32), "norm4.bias": torch.zeros(32)},
        "unexpected backbone.norm.weight, backbone.norm.bias",
    ),
    "a segmenter with an unknown part": (
        on_cswin,
        lambda: uper_net() | {"neck.weight": torch.zeros(1)},
        "missing none; unexpected neck.weight",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_does_not_fit_is_refused_in_one_line_and_the_model_left_alone(name):
    build, state, message = REFUSED[name]
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as error:
        load_released(model, state())
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_files_are_named_after_their_architecture():
    for state, name in (
        (BEITS["beit"]["pretrained"]["state_dict"], "BEiT"),
        (BEITS["beit_v2"]["classifier"]["state_dict"], "BEiT"),
        (transformer().state_dict(), "BEiT"),
        (cswin_classifier(), "CSWin Transformer"),
        (uper_net(), "CSWin Transformer"),
        (transformer("vit_tiny_patch16_224").state_dict(), "timm vision transformer"),
        ({"decode_head.conv_seg.weight": torch.zeros(1)}, "mmsegmentation model"),
        ({"conv1.weight": torch.zeros(1)}, ""),
    ):
        assert architecture_of(state) == name


def test_a_training_file_with_options_and_nested_weights_is_read(tmp_path):
    state = BEITS["beit"]["classifier"]["state_dict"]
    content = {
        "model": {"module": state},
        "args": argparse.Namespace(lr=1e-3, model="beit_base_patch16_224"),
        "epoch": 3,
    }
    torch.save(content, tmp_path / "checkpoint-3.pth")
    model = on_vit("rsseg")
    load_released(model, tmp_path / "checkpoint-3.pth")
    assert torch.equal(model.backbone.vit.cls_token, state["cls_token"])
