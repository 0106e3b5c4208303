"""Training, resuming, evaluating and exporting through the command lines, on a tiny model and a tiny folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torch.nn.functional as F
import yaml

from seg_models import evaluate, train
from seg_models.build import build_model
from seg_models.checkpoints.trained import load_task, read_trained
from seg_models.data.labels import LabelTable
from seg_models.export import command
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.export.errors import ExportError
from seg_models.export.graph import OPSET
from seg_models.training.run import init_backbone_from
from test.seg_models.data.test_folder import write_folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> dict[str, Path]:
    """The run's checkpoint as a deployment model of each form, through the command line; `association` by default."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {"association": folder / "tiny.onnx", "labels": folder / "labels.onnx"}
    arguments = ["--checkpoint", str(run["checkpoint"]), "--images", str(run["data"] / "images/val"), "--out"]
    assert command.main([*arguments, str(paths["association"])]) == 0
    assert command.main([*arguments, str(paths["labels"]), "--form", "labels"]) == 0
    return paths


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> dict[str, Path]:
    """A finished run of four steps: its recipe, data and checkpoint."""
    root = tmp_path_factory.mktemp("run")
    data = write_folder(root / "data", 6)
    write_folder(data, 2, "val")
    recipe = root / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "name": "tiny",
                "model": {
                    "name": "superpixel_transformer",
                    "backbone": "test_efficientnet",
                    "image_size": [64, 96],
                    "options": {"width": 32},
                },
                "data": {"roots": [str(data)], "batch_size": 2, "workers": 0, "description": "random pixels"},
                "schedule": {"steps": 4, "warmup_steps": 1},
                "trainer": {"validate_every_steps": 2, "accelerator": "cpu", "keep_checkpoints": -1},
            }
        )
    )
    assert train.main(["--config", str(recipe), "--out", str(root / "out")]) == 0
    return {"recipe": recipe, "data": data, "out": root / "out", "checkpoint": root / "out/last.ckpt"}


def test_training_leaves_checkpoints_recipe_and_tensorboard_logs(run):
    content = read_trained(run["checkpoint"]).content
    assert content["global_step"] == 4
    assert yaml.safe_load((run["out"] / "recipe.yaml").read_text())["name"] == "tiny"
    assert list((run["out"] / "tensorboard").glob("events*"))


def test_resuming_goes_on_where_the_run_stopped_and_equals_an_unbroken_run(run, tmp_path):
    # the checkpoint of step 2 stands for a run that was stopped there
    (tmp_path / "last.ckpt").write_bytes((run["out"] / "step2.ckpt").read_bytes())
    assert train.main(["--config", str(run["recipe"]), "--out", str(tmp_path), "--resume"]) == 0
    resumed = read_trained(tmp_path / "last.ckpt").weights
    for key, value in read_trained(run["checkpoint"]).weights.items():
        torch.testing.assert_close(resumed[key], value, msg=key)


def test_a_run_is_not_overwritten_and_nothing_is_resumed_from_nowhere(run, tmp_path, capsys):
    assert train.main(["--config", str(run["recipe"]), "--out", str(run["out"])]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert train.main(["--config", str(run["recipe"]), "--out", str(tmp_path), "--resume"]) == 2
    assert "nothing to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "grid"), [("model.options.superpixel_stride=16", (4, 6)), ("model.image_size=[96, 128]", (3, 4))]
)
def test_a_run_starts_from_one_with_another_grid_of_superpixels(run, tmp_path, override, grid):
    arguments = ["--config", str(run["recipe"]), "--init-from", str(run["checkpoint"]), "--out", str(tmp_path / "out")]
    still = ["optimizer.lr=1e-12", "schedule.steps=1", "schedule.warmup_steps=0"]  # a step that changes nothing
    assert train.main([*arguments, override, *still]) == 0
    before, now = (read_trained(path).weights for path in (run["checkpoint"], tmp_path / "out/last.ckpt"))
    torch.testing.assert_close(now["queries"], F.interpolate(before["queries"], size=grid, mode="bilinear"))
    torch.testing.assert_close(now["classifier.weight"], before["classifier.weight"])


def test_a_run_does_not_start_from_one_of_another_width(run, tmp_path, capsys):
    arguments = ["--config", str(run["recipe"]), "--init-from", str(run["checkpoint"])]
    wider = [*arguments, "--out", str(tmp_path / "wider"), "model.options.width=64"]
    assert train.main(wider) == 2
    assert "queries is (1, 32, 2, 3), expected (1, 64, 2, 3)" in capsys.readouterr().err
    assert not (tmp_path / "wider").exists()


def test_a_run_that_cannot_be_optimised_stops_before_anything_is_made(run, tmp_path, capsys):
    arguments = ["--config", str(run["recipe"]), "--out", str(tmp_path / "out")]
    assert train.main([*arguments, "schedule.warmup_steps=5"]) == 2
    assert "schedule.warmup_steps is 5, more than the 4 of schedule.steps" in capsys.readouterr().err
    assert train.main([*arguments, "data.max_class_share=2"]) == 2
    assert "max_class_share is 2" in capsys.readouterr().err
    assert train.main([*arguments, "trainer.accelerator=gpu", "trainer.devices=99"]) == 2  # whether it has a GPU or not
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run['recipe']}: trainer: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


TINY_VIT = {"embed_dim": 32, "depth": 6, "num_heads": 2}


@pytest.fixture
def released_vit(tmp_path) -> Path:
    """A file as timm's, of a small vision transformer for 32 x 32 pixels with an ImageNet classifier."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10, **TINY_VIT)
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def test_training_starts_from_a_released_backbone_and_says_what_it_took(run, released_vit, tmp_path, capsys):
    """With Segmenter's optimiser and augmentation, at a rate so small that the weights stay what they were."""
    arguments = ["--config", str(run["recipe"]), "--out", str(tmp_path / "out"), "--init-backbone", str(released_vit)]
    overrides = {
        "model": {
            "name": "segmenter",
            "backbone": "vit_tiny_patch16_224",
            "image_size": [64, 64],
            "options": {"timm_options": TINY_VIT},
        },
        "data.resize": [64, 32],
        "data.max_class_share": 0.75,
        "data.photometric_distortion": True,
        "optimizer": {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0, "backbone_lr_scale": 1.0},
        "schedule": {"steps": 1, "warmup_steps": 0, "min_lr": 1e-13},
    }
    assert train.main([*arguments, *(f"{key}={json.dumps(value)}" for key, value in overrides.items())]) == 0
    trained = read_trained(tmp_path / "out/last.ckpt").weights
    released = torch.load(released_vit, weights_only=True)
    decoder = [key for key in trained if key.startswith("decoder.")]
    assert (
        f"{len(released) - 2} tensors loaded, 1 of them resized, 0 made of them; "  # the position embeddings
        f"2 of the file not used, {len(decoder)} of the model not in it"  # weight and bias of the classifier
    ) in capsys.readouterr().out
    for key in ("patch_embed.proj.weight", "blocks.5.mlp.fc2.weight"):
        torch.testing.assert_close(trained[f"backbone.vit.{key}"], released[key], atol=1e-8, rtol=0)


def test_rsseg_starts_with_the_patch_embedding_of_the_released_backbone(released_vit, capsys):
    model = build_model("rsseg", "vit_tiny_patch16_224", 2, (64, 64), timm_options=TINY_VIT, local_width=8)
    init_backbone_from(model, released_vit)
    released = torch.load(released_vit, weights_only=True)
    torch.testing.assert_close(model.overlapped_embedding.weight, released["patch_embed.proj.weight"])
    assert "2 made of them" in capsys.readouterr().out


def test_a_backbone_that_does_not_fit_and_two_ways_to_start_are_refused(run, released_vit, tmp_path, capsys):
    arguments = ["--config", str(run["recipe"]), "--out", str(tmp_path / "out"), "--init-backbone", str(released_vit)]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {released_vit} does not fit SuperpixelTransformer: missing backbone.network.")
    assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        train.main([*arguments, "--resume"])
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["association", "labels"])
def test_evaluation_of_checkpoint_and_file_agree(run, exported, tmp_path, form):
    figures = []
    for source in (["--checkpoint", str(run["checkpoint"])], ["--onnx", str(exported[form])]):
        out = tmp_path / "figures.json"
        assert evaluate.main([*source, "--data", str(run["data"]), "--json", str(out)]) == 0
        figures.append(json.loads(out.read_text()))
    assert figures[0]["iou"].keys() == {"floor", "wall"}
    # a pixel whose two classes tie may fall either way between the two runtimes
    assert figures[0]["pixel_accuracy"] == pytest.approx(figures[1]["pixel_accuracy"], abs=2e-3)


def test_a_checkpoint_brings_its_own_recipe_and_export_says_so_when_another_is_given(run, tmp_path, capsys):
    out, other, images = tmp_path / "m.onnx", tmp_path / "other.yaml", str(run["data"] / "images/val")
    arguments = ["--checkpoint", str(run["checkpoint"]), "--out", str(out), "--images", images]
    assert command.main([*arguments, "--recipe", str(other)]) == 0  # which does not even exist
    said = capsys.readouterr().out
    assert f"{run['checkpoint']} carries its own recipe, " in said
    assert f"{other} is not read" in said
    assert command.main(arguments) == 0
    assert "recipe" not in capsys.readouterr().out


def test_the_file_of_the_form_association_keeps_the_contract(exported):
    path = exported["association"]
    proto = onnx.load(path)
    assert [node.op_type for node in proto.graph.node if "image" in node.input] == ["Cast"]
    session = onnxruntime.InferenceSession(str(path))
    types = {o.name: (o.type, o.shape[1:]) for o in session.get_outputs()}
    assert types == {"association": ("tensor(float)", [2, 3, 16, 9]), "class_logits": ("tensor(float)", [2, 3, 2])}
    properties = session.get_modelmeta().custom_metadata_map
    assert (properties["format_version"], properties["form"]) == ("2", "association")
    geometry = {key: json.loads(properties[key]) for key in ("superpixel_grid", "cell", "feature_cell")}
    assert geometry == {"superpixel_grid": [2, 3], "cell": [32, 32], "feature_cell": [4, 4]}
    for batch in (1, 3):  # the batch is free
        outputs = session.run(None, {"image": np.zeros((batch, 64, 96, 3), np.uint8)})
        assert [o.shape[0] for o in outputs] == [batch] * 2
    association = outputs[0][0]  # (R, C, P, 9)
    assert (association[0, 0, :, :4] == -1e4).all()  # neighbours above and to the left of the first cell
    assert (association[0, 0, :, 4] > -1e4).all()


def test_a_model_without_superpixels_has_no_form_association(run):
    task = load_task(run["checkpoint"])
    image = np.zeros((64, 64, 3), np.uint8)
    options = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    model = build_model("linear", "vit_tiny_patch16_224", 2, (64, 64), timm_options=options)
    with pytest.raises(ExportError, match=r"LinearBaseline has no form association.* --form labels"):
        export_onnx(model, task.table, Origin("t", "s", "d"), run["data"] / "m.onnx", [image], form="association")
    with pytest.raises(ExportError, match="form is 'masks'; expected one of labels, association"):
        export_onnx(model, task.table, Origin("t", "s", "d"), run["data"] / "m.onnx", [image], form="masks")


def test_the_file_of_the_form_labels_keeps_the_contract(exported):
    path = exported["labels"]
    proto = onnx.load(path)
    names = {v.name for v in proto.graph.input}
    assert names == {"image"}
    first = [node.op_type for node in proto.graph.node if "image" in node.input]
    assert first == ["Cast"]
    last = {
        o: node.op_type
        for node in proto.graph.node
        for o in node.output
        if o in ("labels", "confidence", "superpixels")
    }
    assert set(last.values()) == {"Cast"}
    assert {op.domain: op.version for op in proto.opset_import} == {"": OPSET}
    assert not {node.op_type for node in proto.graph.node} & {"Col2Im", "NonZero", "Loop", "If"}
    session = onnxruntime.InferenceSession(str(path))
    types = {o.name: (o.type, o.shape[1:]) for o in session.get_outputs()}
    assert types == {
        "labels": ("tensor(uint8)", [64, 96]),
        "confidence": ("tensor(uint8)", [64, 96]),
        "superpixels": ("tensor(int32)", [64, 96]),
    }
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["format_version"] == "1"
    assert json.loads(properties["class_names"]) == ["floor", "wall"]
    assert json.loads(properties["palette"]) == [[10, 20, 30], [40, 50, 60]]
    assert json.loads(properties["input_size"]) == [64, 96]
    assert json.loads(properties["superpixel_grid"]) == [2, 3]
    assert (properties["name"], properties["training_data"]) == ("tiny", "random pixels")
    assert {"architecture", "license", "source_commit", "normalization"} <= properties.keys()
    for batch in (1, 3):  # the batch is free
        outputs = session.run(None, {"image": np.zeros((batch, 64, 96, 3), np.uint8)})
        assert [o.shape[0] for o in outputs] == [batch] * 3
    assert b"/seg_models/" not in path.read_bytes()  # no stack traces with paths of the machine that exported


def test_nothing_is_written_when_the_runtimes_disagree(run, tmp_path, monkeypatch):
    task = load_task(run["checkpoint"])
    images = [np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)]
    true_run = onnxruntime.InferenceSession.run

    def flipped(self, names, feeds):
        labels, *rest = true_run(self, names, feeds)
        return [1 - labels, *rest]

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", flipped)
    with pytest.raises(ExportError, match=r"disagree on 1 images.*nothing was written"):
        export_onnx(task.model, task.table, Origin("t", "s", "d"), tmp_path / "m.onnx", images)
    assert list(tmp_path.iterdir()) == []


def test_export_refuses_a_table_of_other_classes_and_no_images(run, tmp_path):
    task = load_task(run["checkpoint"])
    origin = Origin("t", "s", "d")
    with pytest.raises(ExportError, match="no images to check"):
        export_onnx(task.model, task.table, origin, tmp_path / "m.onnx", [])
    image = np.zeros((64, 96, 3), np.uint8)
    with pytest.raises(ExportError, match="3 classes, the model 2"):
        export_onnx(task.model, LabelTable(("a", "b", "c"), ((0, 0, 0),) * 3), origin, tmp_path / "m.onnx", [image])


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, capsys, content):
    path = tmp_path / "x.ckpt"
    if content is not None:
        path.write_bytes(content)
    assert command.main(["--checkpoint", str(path), "--out", str(tmp_path / "m.onnx")]) == 2
    assert "checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["association", "labels"])
def test_the_file_is_understood_by_tensorrts_parser(exported, form):
    tensorrt = pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux, no GPU needed)")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(str(exported[form]))
    assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    outputs = {network.get_output(i).name: network.get_output(i).dtype for i in range(network.num_outputs)}
    expected = {
        "association": {"association": tensorrt.float32, "class_logits": tensorrt.float32},
        "labels": {"labels": tensorrt.uint8, "confidence": tensorrt.uint8, "superpixels": tensorrt.int32},
    }
    assert outputs == expected[form]
