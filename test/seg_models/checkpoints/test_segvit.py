"""SegViT and its Shrunk form: equal to the authors' code; their released files and timm's load strictly.

`segvit_heads.pt`, `segvit_whole.pt` and `segvit_shrunk.pt` hold small models with random weights that the authors' own code
(zbwxp/SegVit) ran: weights in its key names, inputs, outputs, loss terms, gradients.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import timm
import torch

from seg_models.architectures.segvit.atm import AtmDecoder, QueryUpsampling
from seg_models.architectures.segvit.model import AtmModel
from seg_models.build import build_model
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.released import load_released
from seg_models.checkpoints.segvit import convert_segvit
from seg_models.evaluation.inference import segvit_windows, sliding_window
from test.seg_models.architectures.segvit.test_model import SWIN, VIT, picture, tiny

DATA = Path(__file__).parents[2] / "data"
HEADS = torch.load(DATA / "segvit_heads.pt", weights_only=True)["cases"]
WHOLE = torch.load(DATA / "segvit_whole.pt", weights_only=True)["case"]
SHRUNK = torch.load(DATA / "segvit_shrunk.pt", weights_only=True)["case"]
# Float32; sums run in another order than in the authors' code.
close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


def released(case: dict, **changes):
    """The whole model of a fixture in this package, with weights of its own."""
    name = "segvit_shrunk" if case["config"]["backbone"]["type"] == "vit_shrink" else "segvit"
    shape = {"embed_dim": 64, "depth": 6, "num_heads": 4}
    options = {"image_size": (64, 64), "num_classes": 6, "decoder_heads": 4, "timm_options": shape} | changes
    return build_model(name, "vit_tiny_patch16_224", **options).eval()


class HeadOnly(AtmModel):
    """A decoder on the fixture's taps instead of a backbone's."""

    def __init__(self, config: dict) -> None:
        backbone = build_model("segvit", "vit_tiny_patch16_224", 6, (64, 64), timm_options=VIT).backbone
        super().__init__(backbone, 6, (64, 64), stride=16)
        width, heads, shrunk = config["embed_dims"], config["num_heads"], config["type"] == "TPNATMHead"
        shape = {"width": width, "heads": heads, "layers": 3, "dropout": 0.0}
        self.upsampling = QueryUpsampling(config["in_channels"], 2, (4, 4), **shape) if shrunk else None
        single = shrunk or not config.get("use_proj", True)
        taps = (None,) if single else (config["in_channels"],) * config["use_stages"]
        self.decoder = AtmDecoder(taps, 6, **shape, every_layer=single)
        self.taps: list[torch.Tensor] = []

    def stages(self, image):
        taps = [tap.flatten(2).transpose(1, 2) if tap.ndim == 4 else tap for tap in self.taps]
        if self.upsampling is not None:
            return [self.upsampling(taps, (4, 4))], [(4, 4)]
        return taps[::-1], [(4, 4)] * len(taps)


@pytest.mark.parametrize("case", HEADS)
def test_heads_outputs_loss_terms_and_gradients_equal_the_authors(case):
    case = HEADS[case]
    model = HeadOnly(case["config"])
    prefixed = {f"decode_head.{key}": value for key, value in case["state_dict"].items()}
    missing, unexpected = model.load_state_dict(convert_segvit(prefixed, ())[0], strict=False)
    assert not unexpected
    assert all(key.startswith("backbone.") for key in missing)
    model.taps = [case["inputs"][key] for key in sorted(case["inputs"]) if key.startswith("f")]
    prediction = model(torch.zeros(2, 3, 64, 64))
    outputs = case["outputs"]
    close(prediction.logits, outputs["pred"])
    close(prediction.aux["class_logits"], torch.stack([outputs[f"{n}_logits"] for n in ("aux0", "aux1", "pred")]))
    close(prediction.aux["masks"][:2], torch.stack([outputs["aux0_masks"], outputs["aux1_masks"]]))

    terms = model.loss(prediction, case["inputs"]["gt"].long())
    theirs = {"class": "ce", "focal": "mask", "dice": "dice"}
    assert set(terms) == {part + suffix for part in theirs for suffix in ("", "_0", "_1")}
    for part, their in theirs.items():
        for suffix in ("", "_0", "_1"):
            close(terms[part + suffix], outputs[f"L_loss_{their}{suffix}"])
    torch.stack(list(terms.values())).sum().backward()
    gradients = convert_segvit({f"decode_head.{key}": value for key, value in case["grads"].items()}, ())[0]
    own = {name: p for name, p in model.named_parameters() if not name.startswith("backbone.")}
    # The released code gives no gradient to parameters that it does not use.
    assert set(gradients) == {name for name, p in own.items() if p.grad is not None}
    for key, gradient in gradients.items():
        torch.testing.assert_close(own[key].grad, gradient, atol=1e-4, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize(("case", "unused"), [(WHOLE, 1), (SHRUNK, 2)], ids=["cascade", "shrunk"])
def test_released_file_loads_strictly_and_whole_models_scores_equal_the_authors(case, unused):
    model = released(case)
    report = load_released(model, {"state_dict": case["state_dict"], "meta": {}})
    assert report.loaded == len(model.state_dict())
    assert len(report.unused) == unused
    assert all(key.endswith("criterion.empty_weight") for key in report.unused)
    assert report.resized == report.untouched == ()
    close(whole := model(case["inputs"]["x"]).logits.detach(), case["outputs"]["pred"])
    assert whole.std() > 0.01
    windows = segvit_windows(64, 42)
    close(sliding_window(model, case["inputs"]["big"], windows, size=(50, 90)), case["outputs"]["slide"])


def test_released_file_loads_into_another_size_with_positions_and_queries_resized():
    for case, resized in (
        (WHOLE, {"backbone.vit.pos_embed"}),
        (SHRUNK, {"backbone.vit.pos_embed", "upsampling.queries"}),
    ):
        model = released(case, image_size=(96, 64))
        assert set(load_released(model, case["state_dict"]).resized) == resized
        assert model(picture(96, 64)).logits.shape == (2, 6, 96, 64)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (WHOLE, {"num_classes": 7}, r"class_tokens is \(6, 32\), expected \(7, 32\)"),
        (WHOLE, {"taps": (1, 3)}, r"unexpected decoder.stages.2"),
        (SHRUNK, {"query_upsampling": False}, r"missing decoder.stages.0.project"),
        (SHRUNK, {"down_sampling": "query_conv"}, r"missing backbone.down.weight, backbone.down.bias"),
    ],
)
def test_a_released_file_of_another_shape_is_refused_in_one_line(case, changes, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load_released(released(case, **changes), case["state_dict"])
    assert "\n" not in str(error.value)


def test_a_released_file_of_the_other_form_says_which_it_is():
    with pytest.raises(CheckpointError, match=r"holds a SegViT, .* expected weights of SegViTShrunk"):
        load_released(released(SHRUNK), WHOLE["state_dict"])
    with pytest.raises(
        CheckpointError, match=r"holds a Shrunk SegViT, .* expected weights of SegViT or of its backbone"
    ):
        load_released(released(WHOLE), SHRUNK["state_dict"])


def test_timm_files_fill_the_backbones_and_their_last_norm_is_reported_unused():
    vit = timm.create_model("vit_tiny_patch16_224", **VIT, patch_size=8, img_size=(32, 64), num_classes=3)
    model = tiny()
    report = load_released(model, vit.state_dict())
    assert report.unused == ("norm.weight", "norm.bias", "head.weight", "head.bias")
    assert torch.equal(model.backbone.vit.blocks[2].mlp.fc1.weight, vit.blocks[2].mlp.fc1.weight)
    swin = timm.create_model("swin_tiny_patch4_window7_224", **SWIN, img_size=(32, 64), num_classes=3)
    model = tiny("segvit_pyramid")
    report = load_released(model, swin.state_dict())
    assert report.unused == ("norm.weight", "norm.bias", "head.fc.weight", "head.fc.bias")
    assert all(key.startswith("decoder.") for key in report.untouched)
    image = picture(32, 64)
    expected = swin.eval().forward_intermediates(image, intermediates_only=True)
    for level, theirs in zip(model.backbone(image), expected, strict=True):
        close(level, theirs)
