"""Scoring as a robot sees and as the papers do: windows, scales, released files, and what is refused."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
import torch
import yaml

from seg_models.build import model_from_recipe
from seg_models.data.folder import FolderDataset
from seg_models.evaluate import main
from seg_models.evaluation.class_scores import ClassScores
from seg_models.evaluation.inference import Windows, sliding_window
from seg_models.evaluation.measures import Segmented
from seg_models.evaluation.predictors import protocol_predictor
from seg_models.evaluation.protocol import Protocol, ProtocolError, default_windows
from seg_models.evaluation.scoring import evaluate
from seg_models.export import command as export
from seg_models.normalization import normalize
from seg_models.training.recipe import read_recipe
from test.seg_models.architectures.overfit import drawn_rooms
from test.seg_models.tiny_models import tiny_model

CLASSES = 5


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Three drawn rooms as a folder data set."""
    root = tmp_path_factory.mktemp("rooms")
    images, labels, classes = drawn_rooms(3, 60, 90)
    assert classes == CLASSES
    for kind, pictures in (("images", images[..., ::-1]), ("labels", labels.astype(np.uint8))):
        (root / kind / "val").mkdir(parents=True)
        for i, picture in enumerate(pictures):
            cv2.imwrite(str(root / kind / "val" / f"{i}.png"), np.ascontiguousarray(picture))
    table = [{"id": i, "name": f"class {i}", "color": [i, i, i]} for i in range(CLASSES)]
    (root / "classes.yaml").write_text(yaml.safe_dump({"ignore_index": 255, "classes": table}))
    return root


def test_the_score_is_that_of_the_labels_pixel_by_pixel(rooms):
    data = FolderDataset([rooms], "val")
    scored = ClassScores(data.table.names)
    ones = np.full((60, 90), 1, np.uint8)
    evaluate(lambda image: Segmented(ones, ones), data, [scored], show_progress=False)
    scores = scored.scores()
    labels = np.stack([data.read(i)[1] for i in range(3)])
    share = (labels == 1).mean()
    assert scores.pixel_accuracy == pytest.approx(share)
    assert scores.miou == pytest.approx(share / len(np.unique(labels)))


def test_a_window_as_large_as_the_image_sees_it_whole(rooms):
    model = tiny_model("linear", CLASSES, (64, 96)).eval()
    image, _ = FolderDataset([rooms], "val").read(0)
    labels = protocol_predictor(model, Protocol("whole"))(image).labels
    slid = protocol_predictor(model, Protocol("slide", window=96, stride=96))(image).labels
    assert labels.shape == (60, 90)
    assert np.array_equal(slid, labels)


def test_windows_are_those_that_were_asked_for(rooms):
    model = tiny_model("linear", CLASSES, (32, 32)).eval()
    image, _ = FolderDataset([rooms], "val").read(1)
    batch = normalize(torch.from_numpy(image).permute(2, 0, 1)[None], model.normalization)
    expected = sliding_window(model, batch, Windows(32, 16, "keep")).argmax(1)[0].numpy()
    assert np.array_equal(protocol_predictor(model, Protocol("slide", 32, 16, "keep"))(image).labels, expected)
    assert not np.array_equal(protocol_predictor(model, Protocol("slide", 32, 32, "keep"))(image).labels, expected)


def test_scales_and_flip_change_the_scores_and_a_mirrored_image_mirrors_them(rooms):
    model = tiny_model("linear", CLASSES, (64, 96)).eval()
    image, _ = FolderDataset([rooms], "val").read(0)
    predict = protocol_predictor(model, Protocol("whole", short_side=48, scales=(0.5, 1.0), flip=True))
    mirrored = predict(np.ascontiguousarray(image[:, ::-1])).labels
    # Resizing is symmetric up to the last bit of a float32, which decides ties.
    assert (predict(image).labels[:, ::-1] == mirrored).mean() > 0.99


def test_a_scale_below_the_smallest_short_side_is_raised_to_it(rooms):
    model = tiny_model("linear", CLASSES, (64, 96)).eval()
    image, _ = FolderDataset([rooms], "val").read(0)
    protocol = Protocol("whole", short_side=64, scales=(0.25,), min_short_side=48)
    raised = protocol_predictor(model, protocol)(image).labels
    at_48 = protocol_predictor(model, Protocol("whole", short_side=48))(image).labels
    at_16 = protocol_predictor(model, Protocol("whole", short_side=64, scales=(0.25,)))(image).labels
    assert np.array_equal(raised, at_48)
    assert not np.array_equal(raised, at_16)


@pytest.mark.parametrize(
    ("name", "window", "stride", "expected"),
    [
        ("segmenter", None, None, (64, 32, "upsample")),
        ("regproxy", None, 32, (64, 32, "pad")),
        ("segvit", 48, 24, (48, 24, "keep")),
        ("segvit", 48, None, (48, 48, "keep")),
    ],
)
def test_windows_default_to_the_networks_input_and_the_released_treatment_of_small_images(
    name, window, stride, expected
):
    assert default_windows(tiny_model(name, CLASSES, (64, 64)), window, stride, None) == expected


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (Protocol("resize", flip=True), "mode resize has none"),
        (Protocol("resize", min_short_side=48), "mode resize has none"),
        (Protocol("whole", min_short_side=-1), "the smallest short side is -1; expected pixels, such as 480"),
        (Protocol("whole", short_side=-5), "the short side is -5; expected pixels"),
        (Protocol("whole", longest_ratio=float("nan")), "the longest ratio is nan; expected 1 to 16"),
        (Protocol("whole", scales=(1e9,)), "expected positive numbers up to 16"),
        (Protocol("crop"), "mode is 'crop'; expected one of resize, whole, slide"),
        (Protocol("whole", scales=(0.0,)), r"scales are \(0.0,\); expected positive numbers"),
        (Protocol("slide", window=32, stride=64), "stride is 64; expected 1 to the window's size, 32"),
    ],
)
def test_what_does_not_fit_together_is_refused(protocol, message):
    with pytest.raises(ValueError, match=message):
        protocol_predictor(tiny_model("linear", CLASSES, (64, 96)), protocol)


def test_a_window_has_to_be_given_where_the_networks_input_is_no_square():
    with pytest.raises(ProtocolError, match=r"the network's input is \(64, 96\), no square; give the window's side"):
        default_windows(tiny_model("linear", CLASSES, (64, 96)), None, None, None)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe of a tiny Segmenter."""
    path = tmp_path_factory.mktemp("recipe") / "segmenter.yaml"
    options = {"patch_size": 8, "timm_options": {"embed_dim": 32, "depth": 2, "num_heads": 2}}
    model = {"name": "segmenter", "backbone": "vit_tiny_patch16_224", "image_size": [64, 64], "options": options}
    path.write_text(yaml.safe_dump({"name": "segmenter", "model": model}))
    return path


def released_file(path, recipe):
    """A file with the released names of Segmenter's authors."""
    torch.manual_seed(0)
    state = model_from_recipe(read_recipe(recipe), CLASSES).state_dict()
    torch.save({"model": {k.replace("backbone.vit.", "encoder."): v for k, v in state.items()}}, path)
    return path


def test_a_released_file_is_scored_in_windows_and_the_report_says_how(rooms, recipe, tmp_path, capsys):
    report = tmp_path / "report.json"
    released = released_file(tmp_path / "released.pth", recipe)
    arguments = ["--released", str(released), "--recipe", str(recipe), "--data", str(rooms)]
    assert main([*arguments, "--mode", "slide", "--stride", "32", "--json", str(report)]) == 0
    assert "mode slide, window 64, stride 32, small_inputs upsample" in capsys.readouterr().out
    figures = json.loads(report.read_text())
    assert figures["protocol"]["stride"] == 32
    assert figures["images"] == 3
    assert 0 <= figures["miou"] <= 1


def test_a_released_file_is_scored_by_the_row_that_it_is_of(rooms, recipe, tmp_path, capsys):
    rows = tmp_path / "rows.yaml"
    rows.write_text(f"rows:\n  T1 tiny: {{extends: {recipe}, printed: 1.0}}\n")
    released = released_file(tmp_path / "released.pth", recipe)
    arguments = ["--released", str(released), "--recipe", str(rows), "--data", str(rooms)]
    assert main([*arguments, "--row", "T1 tiny"]) == 0
    assert main(["--released", str(released), "--recipe", str(recipe), "--data", str(rooms)]) == 0
    first, second = re.findall(r"mIoU (\S+)", capsys.readouterr().out)
    assert first == second
    assert main([*arguments, "--row", "T2"]) == 2
    assert "has no row 'T2'; near ones: T1 tiny" in capsys.readouterr().err


def test_a_released_file_becomes_a_deployment_model(rooms, recipe, tmp_path, capsys):
    released, out = released_file(tmp_path / "released.pth", recipe), tmp_path / "model.onnx"
    content = yaml.safe_load(recipe.read_text()) | {"data": {"roots": [str(rooms)]}}
    with_data = tmp_path / "recipe.yaml"
    with_data.write_text(yaml.safe_dump(content))
    arguments = ["--released", str(released), "--out", str(out)]
    assert export.main([*arguments, "--recipe", str(with_data)]) == 0
    assert main(["--onnx", str(out), "--data", str(rooms)]) == 0
    by_file = capsys.readouterr().out.splitlines()[-2:]
    assert main(["--released", str(released), "--recipe", str(recipe), "--data", str(rooms)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == by_file
    assert export.main(arguments) == 2
    assert "--released needs --recipe" in capsys.readouterr().err


def test_a_released_backbone_alone_and_one_without_a_recipe_are_refused(rooms, recipe, tmp_path, capsys):
    import timm

    path = tmp_path / "backbone.pth"
    vit = timm.create_model("vit_tiny_patch16_224", patch_size=8, img_size=64, embed_dim=32, depth=2, num_heads=2)
    torch.save(vit.state_dict(), path)
    assert main(["--released", str(path), "--recipe", str(recipe), "--data", str(rooms)]) == 2
    assert "expected a whole model, found a backbone" in capsys.readouterr().err
    assert main(["--released", str(path), "--data", str(rooms)]) == 2
    assert "--released needs --recipe" in capsys.readouterr().err


def test_a_deployment_model_has_one_way_to_be_scored(rooms, capsys):
    assert main(["--onnx", "model.onnx", "--data", str(rooms), "--mode", "whole"]) == 2
    assert "a deployment model has one input size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "64"], "--window is of --mode slide; the mode is resize"),
        (["--recipe", "r.yaml"], "--recipe is of --released"),
        (["--row", "T1"], "--row is of --recipe"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        main(["--checkpoint", "last.ckpt", *options])
    assert message in capsys.readouterr().err


def test_a_target_that_cannot_be_written_is_found_before_the_work(rooms, recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("seg_models.evaluate.evaluate", None)  # the work
    arguments = ["--released", str(tmp_path / "absent.pth"), "--recipe", str(recipe), "--data", str(rooms), "--json"]
    assert main([*arguments, str(tmp_path / "absent/figures.json")]) == 2
    assert f"{tmp_path / 'absent'} is not a folder; make it first" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path)]) == 2
    assert "is a folder; expected the name of a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe_text", "message"),
    [
        ("model: [", "is no YAML in line 1"),
        ("model: {name: segmentor}", "model: unknown architecture 'segmentor'; near names: segmenter"),
        ("model: {image_size: [0, 0]}", "recipe.model.image_size[0] is 0; expected 1 to"),
    ],
)
def test_a_broken_recipe_of_a_released_file_is_named(rooms, tmp_path, capsys, recipe_text, message):
    path = tmp_path / "r.yaml"
    path.write_text(recipe_text)
    assert main(["--released", str(tmp_path / "x.pth"), "--recipe", str(path), "--data", str(rooms)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 50])
def test_a_broken_deployment_model_is_named(rooms, tmp_path, capsys, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert main(["--onnx", str(path), "--data", str(rooms)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path} ")
    assert error.count("\n") == 1
