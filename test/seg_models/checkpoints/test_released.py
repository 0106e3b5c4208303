"""Released files: equal to the authors' code as whole models, and refused whenever anything does not fit.

`segmenter_whole.pt`, `regproxy_whole.pt` and `regproxy_hybrid.pt` hold small models with random weights that the authors'
own code ran: weights in its key names, an image of another size than the position embeddings', scores, loss, gradients.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from seg_models.build import build_model
from seg_models.checkpoints.reading import CheckpointError, read_checkpoint
from seg_models.checkpoints.regproxy import convert_regproxy
from seg_models.checkpoints.released import load_released
from seg_models.checkpoints.segmenter import convert_segmenter
from test import broken_files
from test.seg_models.tiny_models import hybrid_options

DATA = Path(__file__).parents[2] / "data"
SEGMENTERS = torch.load(DATA / "segmenter_whole.pt", weights_only=True)["cases"]
REGPROXIES = {
    **torch.load(DATA / "regproxy_whole.pt", weights_only=True)["cases"],
    **torch.load(DATA / "regproxy_hybrid.pt", weights_only=True)["cases"],
}


def segmenter(config: dict, **changes):
    """The fixture's Segmenter in this package, with weights of its own."""
    config = config | changes
    torch.manual_seed(0)
    return build_model(
        "segmenter",
        "deit_tiny_distilled_patch16_224" if config["distilled"] else "vit_tiny_patch16_224",
        config["num_classes"],
        tuple(config["image_size"]),
        decoder=config["decoder"],
        decoder_heads=2,
        patch_size=config["patch_size"],
        timm_options={"embed_dim": config["width"], "depth": config["depth"], "num_heads": config["heads"]},
    ).eval()


def regproxy(config: dict, **changes):
    """The fixture's RegProxy in this package, with weights of its own; the hybrid has a small ResNet stem."""
    config = config | changes
    torch.manual_seed(0)
    options = {"embed_dim": config["width"], "depth": config["depth"], "num_heads": config["heads"]}
    name, patch = "deit_tiny_distilled_patch16_224" if config["distilled"] else "vit_tiny_patch16_224", 8
    if config["hybrid"]:
        name, patch = "vit_small_patch32_384", None
        options |= hybrid_options()
    return build_model(
        "regproxy",
        name,
        config["num_classes"],
        tuple(config["image_size"]),
        patch_size=patch,
        token_head_layers=config["token_head_layers"],
        timm_options=options,
    ).eval()


CASES = [(segmenter, SEGMENTERS[name], convert_segmenter, name) for name in SEGMENTERS] + [
    (regproxy, REGPROXIES[name], convert_regproxy, name) for name in REGPROXIES
]


@pytest.mark.parametrize(("build", "case", "convert", "name"), CASES, ids=[f"{c[0].__name__}-{c[3]}" for c in CASES])
def test_whole_models_scores_loss_and_gradients_equal_the_authors(build, case, convert, name):
    model = build(case["config"])
    report = load_released(model, case["state_dict"])
    assert report.loaded == len(model.state_dict()) == len(case["state_dict"]) - len(report.unused)
    prediction = model(case["inputs"]["image"])
    # Float32; sums run in another order than in the authors' code.
    torch.testing.assert_close(prediction.logits, case["outputs"]["logits"], atol=1e-5, rtol=1e-5)
    (loss,) = model.loss(prediction, case["inputs"]["labels"]).values()
    torch.testing.assert_close(loss, case["outputs"]["loss"], atol=1e-5, rtol=1e-5)
    loss.backward()
    gradients = convert(case["gradients"])
    gradients = gradients[0] if isinstance(gradients, tuple) else gradients
    own = dict(model.named_parameters())
    assert len(gradients) > 20
    for key, gradient in gradients.items():
        torch.testing.assert_close(own[key].grad, gradient, atol=1e-4, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


def test_only_the_imagenet_classifier_of_a_segmenter_file_is_unused_and_it_is_reported():
    case = SEGMENTERS["deit_mask"]
    report = load_released(segmenter(case["config"]), {"model": case["state_dict"], "epoch": 3})
    assert sorted(report.unused) == [
        "encoder.head.bias",
        "encoder.head.weight",
        "encoder.head_dist.bias",
        "encoder.head_dist.weight",
    ]
    assert report.resized == report.untouched == ()


@pytest.mark.parametrize(("build", "case"), [(segmenter, SEGMENTERS["deit_mask"]), (regproxy, REGPROXIES["vit"])])
def test_a_model_of_another_size_gets_resized_positions_and_the_same_scores_there(build, case):
    size = case["inputs"]["image"].shape[-2:]
    model = build(case["config"], image_size=tuple(size))
    report = load_released(model, case["state_dict"])
    assert report.resized == ("backbone.vit.pos_embed",)
    torch.testing.assert_close(model(case["inputs"]["image"]).logits, case["outputs"]["logits"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_timm_file_fills_the_backbone_and_leaves_the_decoder(tmp_path, suffix):
    torch.manual_seed(1)
    options = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8}
    source = timm.create_model("deit_tiny_distilled_patch16_224", **options).eval()
    path = tmp_path / f"deit{suffix}"
    if suffix == ".pth":
        torch.save({"model": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    model = segmenter(SEGMENTERS["deit_mask"]["config"])
    before = {key: value.clone() for key, value in model.decoder.state_dict().items()}
    report = load_released(model, path)
    for key, value in model.decoder.state_dict().items():
        assert torch.equal(before[key], value)
    assert set(report.untouched) == {f"decoder.{key}" for key in before}
    assert sorted(report.unused) == ["head.bias", "head.weight", "head_dist.bias", "head_dist.weight"]
    for key, value in model.backbone.vit.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.mask_norm.bias"), "missing decoder.mask_norm.bias; unexpected none"),
        (lambda s: s.update({"decoder.extra": torch.zeros(1)}), "missing none; unexpected decoder.extra"),
        (lambda s: s.update({"encoder.norm.bias": torch.zeros(8)}), r"vit.norm.bias is \(8,\), expected \(16,\)"),
        (
            lambda s: s.update({"decoder.cls_emb": torch.zeros(1, 9, 16)}),
            r"cls_emb is \(1, 9, 16\), expected \(1, 5, 16\)",
        ),
        (lambda s: s.update({"encoder.pos_embed": torch.zeros(1, 13, 16)}), "no square grid; build the model with"),
    ],
)
def test_a_key_or_shape_that_differs_is_refused_and_the_model_left_alone(change, message):
    case = SEGMENTERS["vit_mask"]
    model, state = segmenter(case["config"]), dict(case["state_dict"])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    change(state)
    with pytest.raises(CheckpointError, match=message) as error:
        load_released(model, state)
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_checkpoint_of_another_architecture_says_what_was_found_and_expected():
    model = segmenter(SEGMENTERS["vit_mask"]["config"])
    with pytest.raises(
        CheckpointError, match=r"holds a RegProxy, .*expected weights of Segmenter or of its backbone vit_t"
    ):
        load_released(model, REGPROXIES["vit"]["state_dict"])
    with pytest.raises(CheckpointError, match=r"an unknown architecture, 2 tensors \(conv1.weight"):
        load_released(model, {"conv1.weight": torch.zeros(1), "conv1.bias": torch.zeros(1)})
    distilled = segmenter(SEGMENTERS["deit_mask"]["config"])
    with pytest.raises(CheckpointError, match=r"missing backbone.vit.dist_token; unexpected none"):
        load_released(distilled, SEGMENTERS["vit_mask"]["state_dict"])


class Command:
    """What a hostile file would unpickle."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"weight": Command()}}, "hostile.pth")
    with pytest.raises(CheckpointError, match="expected tensors and plain values alone") as error:
        read_checkpoint("hostile.pth")
    assert "\n" not in str(error.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or no PyTorch file"),
        (b"not a checkpoint", "damaged or no PyTorch file"),
        (b"PK\x03\x04 cut off", "damaged or no PyTorch file"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content, message, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused(tmp_path):
    torch.save({"model": {"weight": torch.zeros(1000)}}, tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="damaged or no PyTorch file"):
        read_checkpoint(tmp_path / "half.pth")


def test_missing_file_and_content_without_tensors_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds list; expected a dictionary of tensors"):
        read_checkpoint(tmp_path / "list.pth")
    torch.save({"model": {"weight": torch.zeros(1), "epoch": 3}}, tmp_path / "mixed.pth")
    with pytest.raises(CheckpointError, match="'epoch', which is no tensor"):
        read_checkpoint(tmp_path / "mixed.pth")
    torch.save({"when": datetime.date(2020, 1, 1), "model": {"weight": torch.zeros(1)}}, tmp_path / "date.pth")
    with pytest.raises(CheckpointError, match=r"it asks for datetime.date; expected tensors and plain values alone"):
        read_checkpoint(tmp_path / "date.pth")


def test_a_file_that_holds_itself_and_one_without_names_are_refused(tmp_path):
    endless: dict = {}
    endless["model"] = endless
    model = build_model("linear", "vit_tiny_patch16_224", 3, (32, 32), timm_options={"embed_dim": 24, "depth": 1})
    for content, message in ((endless, "'model', which is no tensor"), ({0: torch.zeros(1)}, "tensors under 0")):
        torch.save(content, tmp_path / "file.pth")
        with pytest.raises(CheckpointError, match=message):
            load_released(model, tmp_path / "file.pth")


@pytest.mark.parametrize("seed", broken_files.rounds(40))
def test_broken_released_files_are_refused_in_one_line_and_the_model_left_alone(tmp_path, seed):
    build, case, _, name = CASES[seed % len(CASES)]
    model = build(case["config"])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = tmp_path / "broken.pth"
    how, state = broken_files.damaged_state(case["state_dict"], seed)
    try:
        torch.save({"model": state}, path)
    except (RuntimeError, NotImplementedError):
        pytest.skip(f"PyTorch writes no file in which {how}")
    try:
        load_released(model, path)
    except CheckpointError as error:
        line = str(error)
    else:
        line = str(path)
        before = {}
        assert all(torch.isfinite(value).all() for value in model.state_dict().values()), how
    assert line.startswith((str(path), f"no checkpoint at {path}")), (name, how, line)
    assert line.isprintable(), (name, how)
    assert len(line) < 1500
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value), (name, how)


def test_hostile_released_files_are_refused_and_run_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    case = SEGMENTERS["vit_mask"]
    model, marker = segmenter(case["config"]), tmp_path / "ran"
    for suffix in (".pth", ".safetensors"):
        for name, hostile in broken_files.hostile_checkpoints(broken_files.saved(case["state_dict"]), marker).items():
            path = tmp_path / f"hostile{suffix}"
            path.write_bytes(hostile)
            with pytest.raises(CheckpointError) as error:
                load_released(model, path)
            assert str(path) in str(error.value), name
            assert str(error.value).isprintable(), name
            assert not marker.exists(), name
