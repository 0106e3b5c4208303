"""A deployment file as a teacher, and the deployment file of the best weights of a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from seg_models import train
from seg_models.background_export import LOG, BackgroundExport, alone
from seg_models.data.labels import LabelTable
from seg_models.deployed_teacher import DeployedTeacher
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.training.distillation import teacher_of
from seg_models.training.recipe import RecipeError, recipe_from_dict
from test.seg_models.architectures.overfit import drawn_rooms
from test.seg_models.tiny_models import tiny_model
from test.seg_models.training.tiny_run import losses, write_recipe

SIZE = (60, 90)  # no multiple of the cells: padding is cut off
TABLE = LabelTable(("wall", "floor", "chair"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A tiny Superpixel Transformer in both forms."""
    folder = tmp_path_factory.mktemp("teacher")
    images = list(drawn_rooms(2, *SIZE)[0])
    model = tiny_model("superpixel_transformer", num_classes=3, image_size=SIZE)
    paths = {form: folder / f"{form}.onnx" for form in ("association", "labels")}
    for form, path in paths.items():
        export_onnx(model, TABLE, Origin("tiny", "superpixel_transformer", "none"), path, images, form=form)
    return paths


def test_a_file_gives_the_scores_of_the_model_it_was_made_from(files):
    model = tiny_model("superpixel_transformer", num_classes=3, image_size=SIZE).eval()
    teacher = DeployedTeacher(files["association"])
    images = torch.from_numpy(np.stack(drawn_rooms(2, *SIZE)[0])).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(model.normalization[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = model((images - mean) / std).logits
    scores = teacher.scores(images)
    assert teacher.names == TABLE.names
    # ONNX Runtime sums in another order, and the deployed form multiplies in another one: as the check before export allows.
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=1e-3)
    assert teacher.scores(images[..., :40, :50]).shape == (2, 3, *SIZE)  # other crops are resized to the file's input


def test_a_student_learns_from_a_file(files, tmp_path):
    recipe = write_recipe(tmp_path, images=8)
    arguments = ["--config", str(recipe), "--out", str(tmp_path / "out"), "schedule.steps=2", "data.batch_size=4"]
    assert train.main([*arguments, f"distillation.teacher={files['association']}"]) == 0
    line = json.loads((tmp_path / "out/metrics.jsonl").read_text().splitlines()[0])
    assert line["loss/distillation"] > 0
    assert losses(tmp_path / "out").keys() == {1, 2}


def test_files_that_cannot_teach_are_named(files, tmp_path):
    with pytest.raises(RecipeError, match="is of the form 'labels', which holds no class scores"):
        DeployedTeacher(files["labels"])
    with pytest.raises(RecipeError, match="does not exist; expected a checkpoint"):
        DeployedTeacher(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"none")
    with pytest.raises(RecipeError, match="is no model that ONNX Runtime loads"):
        DeployedTeacher(tmp_path / "broken.onnx")
    damaged = onnx.load(str(files["association"]))
    onnx.helper.set_model_props(damaged, {"form": "association", "class_names": "["})
    onnx.save(damaged, str(tmp_path / "damaged.onnx"))
    with pytest.raises(RecipeError, match="has damaged metadata"):
        DeployedTeacher(tmp_path / "damaged.onnx")
    with pytest.raises(RecipeError, match=r"is opened by seg_models\.train alone"):
        teacher_of(recipe_from_dict({"distillation": {"teacher": str(files["association"])}}))


def test_the_deployment_file_of_the_best_weights_appears_beside_them(tmp_path, capsys):
    recipe = write_recipe(tmp_path, images=8)
    arguments = ["--config", str(recipe), "--out", str(tmp_path / "out"), "--export-every-best"]
    assert train.main([*arguments, "--export-arguments", "--precision float16 --license MIT"]) == 0
    out = tmp_path / "out"
    session = onnxruntime.InferenceSession(str(out / "best.onnx"), providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    assert (properties["license"], properties["precision"], properties["name"]) == ("MIT", "float16", "tiny")
    assert sorted(path.name for path in out.glob("*.onnx")) == ["best.onnx"]
    assert "against PyTorch" in (out / LOG).read_text()
    with pytest.raises(SystemExit):
        train.main(["--config", str(recipe), "--export-arguments", "--precision float16"])
    assert "are of --export-every-best" in capsys.readouterr().err


def test_an_export_that_fails_is_a_warning_and_of_several_that_wait_the_newest_is_made(tmp_path):
    export = BackgroundExport()
    for name in ("a", "b", "c"):  # the first one runs, the second never does
        export(tmp_path / f"{name}.ckpt")
    with pytest.warns(UserWarning, match="was not written") as caught:
        export.finish()
    texts = [str(warning.message) for warning in caught if "was not written" in str(warning.message)]
    assert [text.partition(" ")[0] for text in texts] == [str(tmp_path / "a.onnx"), str(tmp_path / "c.onnx")]
    assert "no checkpoint at" in texts[0]


def test_the_export_is_no_process_of_the_training():
    around = {"RANK": "1", "SLURM_PROCID": "1", "TORCHELASTIC_RUN_ID": "x", "PATH": "/bin", "WORLD_SIZE": "2"}
    assert alone(around) == {"PATH": "/bin"}
