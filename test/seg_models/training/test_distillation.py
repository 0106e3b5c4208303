"""Distillation and the anchored backbone: losses by their equations, who learns from whom, and both through the command line."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from seg_models import train
from seg_models.build import ARCHITECTURES
from seg_models.checkpoints.trained import load_task, read_trained
from seg_models.losses import IGNORE
from seg_models.prediction import Prediction
from seg_models.training.anchor import BackboneAnchor, anchor_of
from seg_models.training.distillation import Distillation, ModelTeacher, divergence
from seg_models.training.recipe import DistillationRecipe, Recipe, RecipeError, recipe_from_dict
from seg_models.training.task import network_input
from test.seg_models.tiny_models import tiny_model
from test.seg_models.training.tiny_run import write_recipe

NAMES = ("floor", "wall", "door", "chair")


def pictures(batch: int = 2, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    """A uint8 batch."""
    return torch.randint(0, 256, (batch, 3, *size), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def masks(batch: int = 2, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    """Labels of four classes, the upper rows unlabelled."""
    labels = torch.randint(0, 4, (batch, *size), generator=torch.Generator().manual_seed(4))
    labels[:, :8] = IGNORE
    return labels


def scores(seed: int, batch: int = 2, size: tuple[int, int] = (6, 5)) -> torch.Tensor:
    return 3 * torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_that_of_the_equations_in_plain_loops(temperature):
    student, teacher = scores(1), scores(2)
    by_pixel, by_channel = 0.0, 0.0
    for b in range(2):
        for y in range(6):
            for x in range(5):
                p = F.softmax(teacher[b, :, y, x].double() / temperature, 0)
                q = F.softmax(student[b, :, y, x].double() / temperature, 0)
                by_pixel += float((p * (p / q).log()).sum()) * temperature**2 / (2 * 6 * 5)
        for k in range(4):
            p = F.softmax(teacher[b, k].flatten().double() / temperature, 0)
            q = F.softmax(student[b, k].flatten().double() / temperature, 0)
            by_channel += float((p * (p / q).log()).sum()) * temperature**2 / (2 * 4)
    # float32 against double: sums of some dozens of terms of size 1
    assert float(divergence(student, teacher, temperature)) == pytest.approx(by_pixel, rel=1e-5)
    assert float(divergence(student, teacher, temperature, "channels")) == pytest.approx(by_channel, rel=1e-5)


@pytest.mark.parametrize("over", ["pixels", "channels"])
def test_pixels_that_do_not_count_change_nothing(over):
    student, teacher = scores(1), scores(2)
    counted = torch.ones(2, 6, 5, dtype=torch.bool)
    counted[:, :2] = False
    expected = divergence(student[:, :, 2:], teacher[:, :, 2:], 2.0, over)
    torch.testing.assert_close(divergence(student, teacher, 2.0, over, counted), expected)
    broken = student.clone().requires_grad_()
    loss = divergence(broken, teacher, 2.0, over, torch.zeros_like(counted))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(broken.grad.abs().max()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_teacher_that_is_the_student_has_nothing_to_say(name):
    """Of every architecture: the same scores, so no divergence; and none of it moves the teacher."""
    model = tiny_model(name).eval()
    teacher = ModelTeacher(copy.deepcopy(model), NAMES)
    guide = Distillation(teacher, NAMES, DistillationRecipe(teacher="x"))
    prediction = model(network_input(pictures(), model.normalization))
    loss = guide.terms(pictures(), masks(), prediction, model)["distillation"]
    # The student's input is channels last, so its convolutions sum in another order.
    assert float(loss.detach()) == pytest.approx(0, abs=1e-5)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


@pytest.mark.parametrize("student_name", ["superpixel_transformer", "segvit", "linear"])
def test_any_model_learns_from_any_other_and_only_the_student_gets_gradients(student_name):
    student = tiny_model(student_name)
    for name in ("segmenter", "segvit", "superpixel_transformer"):
        teacher = ModelTeacher(tiny_model(name, image_size=(96, 96)), NAMES)
        before = copy.deepcopy(teacher.model.state_dict())
        guide = Distillation(teacher, NAMES, DistillationRecipe(teacher="x", weight=0.5, temperature=2.0))
        student.zero_grad()
        prediction = student(network_input(pictures(), student.normalization))
        loss = guide.terms(pictures(), masks(), prediction, student)["distillation"]
        loss.backward()
        assert loss > 0
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in student.backbone.parameters())
        assert all(parameter.grad is None for parameter in teacher.model.parameters())
        assert not teacher.model.training
        assert all(torch.equal(before[key], value) for key, value in teacher.model.state_dict().items())


def test_scores_of_a_sparse_student_are_compared_where_they_lie():
    """A student with one score in the middle of each square of four: the teacher's bilinear value there is their mean."""
    model = tiny_model("superpixel_transformer", loss_stride=2).eval()
    teacher = ModelTeacher(tiny_model("superpixel_transformer"), NAMES)
    guide = Distillation(teacher, NAMES, DistillationRecipe(teacher="x"))
    full = teacher.scores(pictures()).detach()
    coarse = F.avg_pool2d(full, 2)
    assert float(guide.terms(pictures(), masks(), Prediction(coarse), model)["distillation"]) == pytest.approx(
        0, abs=1e-6
    )


def test_classes_are_matched_by_name_and_a_class_the_teacher_lacks_is_refused():
    teacher = ModelTeacher(tiny_model("linear"), ("chair", "door", "wall", "floor"))
    guide = Distillation(teacher, ("floor", "wall"), DistillationRecipe(teacher="t.ckpt"))
    assert guide.classes == [3, 2]
    with pytest.raises(RecipeError, match=r"teacher t.ckpt does not know the class 'ceiling'; it knows chair, door"):
        Distillation(teacher, ("floor", "ceiling"), DistillationRecipe(teacher="t.ckpt"))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "regproxy_pilot"])
def test_a_backbone_at_its_start_has_no_distance_and_a_moved_one_has_that_of_the_equation(name):
    model = tiny_model(name).eval()
    anchor = BackboneAnchor(model.backbone, 0.5)

    def distance() -> torch.Tensor:
        with anchor.watching(model):
            prediction = model(network_input(pictures(), model.normalization))
        return anchor.terms(pictures(), masks(), prediction, model)["feature_distance"]

    assert float(distance().detach()) == 0.0
    distance().backward()
    grads = [p.grad for p in model.backbone.parameters() if p.grad is not None]
    assert all(torch.isfinite(grad).all() for grad in grads)  # the root's derivative at 0 is taken as 0
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(0.05)
    moved = distance()
    moved.backward()
    assert moved > 0
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.backbone.parameters())
    assert all(parameter.grad is None for parameter in anchor.start.parameters())


def test_the_feature_distance_counts_places_that_a_chosen_class_covers():
    """By the equation in loops, on maps of stride 32: of 2x3 places, those with more than 3/4 of class 2 or of class 3."""
    model = tiny_model("superpixel_transformer").eval()
    labels = torch.full((2, 64, 96), 1)
    labels[0, :32, :32] = 2
    labels[0, :32, 32:64] = 3
    labels[1, 32:, 64:] = 3
    labels[1, 32:42, 64:] = 0  # 22 of 32 rows are left: too few
    labels[1, :10, :32] = IGNORE
    labels[1, 8:32, :32] = 2  # 24 of 32 rows are exactly 3/4: not more
    anchor = BackboneAnchor(model.backbone, 2.0, (2, 3))
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.mul_(1.1)
        with anchor.watching(model):
            prediction = model(network_input(pictures(), model.normalization))
        loss = anchor.terms(pictures(), labels, prediction, model)["feature_distance"]
        image = network_input(pictures(), model.normalization)
        now, then = model.backbone(image)[-1], anchor.start(image)[-1]
    expected = [float((now - then)[0, :, 0, column].norm()) for column in (0, 1)]
    assert float(loss) == pytest.approx(2.0 * sum(expected) / 2, rel=1e-4)
    empty = torch.zeros_like(labels)
    with anchor.watching(model):
        prediction = model(network_input(pictures(), model.normalization))
    assert float(anchor.terms(pictures(), empty, prediction, model)["feature_distance"].detach()) == 0.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"optimizer": {"backbone_anchor_classes": ["wall"]}}, "needs optimizer.backbone_anchor above 0"),
        (
            {"optimizer": {"backbone_anchor": 0.005, "backbone_anchor_classes": ["sky"]}},
            "names 'sky'; the data's classes are floor, wall",
        ),
        ({"optimizer": {"backbone_anchor": 0.1}, "model": {"name": "regproxy_pilot"}}, "is not for regproxy_pilot"),
    ],
)
def test_an_anchor_that_cannot_be_is_refused(content, message):
    with pytest.raises(RecipeError, match=message):
        anchor_of(recipe_from_dict(content), tiny_model("linear"), NAMES)


def test_nothing_is_anchored_unasked():
    assert anchor_of(Recipe(), tiny_model("linear"), NAMES) is None


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of another architecture, trained for two steps, and its recipe."""
    root = tmp_path_factory.mktemp("teacher")
    recipe = write_recipe(root, keep_checkpoints=-1)
    assert train.main(["--config", str(recipe), "--out", str(root / "out"), "schedule.steps=2"]) == 0
    return {"recipe": recipe, "checkpoint": root / "out/last.ckpt"}


def test_a_student_is_distilled_anchored_resumed_and_loads_without_its_teacher(teacher, tmp_path, capsys):
    out = tmp_path / "whole"
    student = [
        *("--config", str(teacher["recipe"]), "model.name=superpixel_transformer", "model.backbone=test_efficientnet"),
        *("model.options={width: 32}", "model.image_size=[64, 96]", "schedule.steps=4", "optimizer.lr=1e-2"),
        *(f"distillation.teacher={teacher['checkpoint']}", "distillation.over=channels", "optimizer.average_decay=0.5"),
        "optimizer.backbone_anchor=0.005",
    ]
    assert train.main([*student, "--out", str(out)]) == 0
    weights = read_trained(out / "last.ckpt").weights
    assert load_task(out / "last.ckpt").recipe.distillation.teacher == str(teacher["checkpoint"])
    teacher_keys = set(read_trained(teacher["checkpoint"]).weights)
    assert not {key for key in weights if key.startswith("guides")}
    assert set(weights) != teacher_keys
    half = tmp_path / "half"
    half.mkdir()
    (half / "last.ckpt").write_bytes((out / "step2.ckpt").read_bytes())
    assert train.main([*student, "--out", str(half), "--resume"]) == 2
    assert "backbone_start.safetensors is missing" in capsys.readouterr().err
    (half / "backbone_start.safetensors").write_bytes((out / "backbone_start.safetensors").read_bytes())
    assert train.main([*student, "--out", str(half), "--resume"]) == 0
    for key, value in read_trained(half / "last.ckpt").weights.items():
        torch.testing.assert_close(value, weights[key], msg=key)


def test_the_teacher_alone_can_teach(teacher, tmp_path):
    """Without a weight on the labels a student of the teacher's kind comes nearer to what the teacher says."""
    student = [
        *("--config", str(teacher["recipe"]), "seed=5", "schedule.warmup_steps=0", "optimizer.backbone_lr_scale=1"),
        *("data.scale=[1, 1]", "optimizer.lr=3e-3", "trainer.validate_every_steps=40"),
        *(f"distillation.teacher={teacher['checkpoint']}", "distillation.label_weight=0", "distillation.temperature=2"),
    ]
    taught = load_task(teacher["checkpoint"]).model
    distances = {}
    for steps in (1, 40):
        out = tmp_path / str(steps)
        assert train.main([*student, "--out", str(out), f"schedule.steps={steps}"]) == 0
        model = load_task(out / "last.ckpt").model
        image = network_input(pictures(4, (32, 32)), model.normalization)
        with torch.no_grad():
            distances[steps] = float(divergence(model(image).logits, taught(image).logits, 1.0))
    assert distances[40] < 0.5 * distances[1]


def test_a_distillation_without_a_teacher_is_refused(teacher, tmp_path, capsys):
    arguments = ["--config", str(teacher["recipe"]), "--out", str(tmp_path / "out")]
    assert train.main([*arguments, "distillation.weight=2"]) == 2
    assert "expected distillation.teacher=CHECKPOINT" in capsys.readouterr().err
    assert train.main([*arguments, "distillation.teacher=/nowhere.ckpt"]) == 2
    assert "no checkpoint at /nowhere.ckpt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
