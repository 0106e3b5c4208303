"""Quantisation-aware training: the int8 file has its ranges where `int8.py` has its pairs, and computes what was trained."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import yaml
from onnx import numpy_helper

from seg_models import train
from seg_models.build import model_from_recipe
from seg_models.checkpoints.trained import TrainedTask, load_task
from seg_models.export import command
from seg_models.export.checks import read_images, resized
from seg_models.export.deployment import deployment_model
from seg_models.export.graph import deployment_graph
from seg_models.export.int8 import quantized_nodes, to_int8
from seg_models.export.layers import quantized_layers
from seg_models.export.learned_int8 import module_of
from seg_models.quantization import (
    HIGHEST_WEIGHT,
    InputRange,
    QuantizationError,
    QuantizedLayer,
    calibrate,
    quantize,
    ranges,
    rounded,
)
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import read_recipe
from seg_models.training.run import start_from
from seg_models.training.task import SegmentationTask
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.build import BuildRequest, build
from seg_perception.engines.tensorrt.options import BuildOptions
from test.seg_models.data.test_folder import write_folder
from test.seg_models.tiny_models import tiny_model


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> dict[str, Path]:
    """A tiny Superpixel Transformer, trained for two steps, then fine-tuned in 8 bits for four, and its file."""
    root = tmp_path_factory.mktemp("int8")
    data = write_folder(root / "data", 6)
    write_folder(data, 3, "val")
    options = {"width": 32, "cross_attention_layers": 2, "self_attention_layers": 1}
    model = {"name": "superpixel_transformer", "backbone": "test_efficientnet", "image_size": [64, 96]}
    content = {
        "name": "tiny",
        "model": model | {"options": options},
        "data": {"roots": [str(data)], "batch_size": 2, "workers": 0},
        "optimizer": {"lr": 1e-3, "backbone_lr_scale": 1.0},
        "schedule": {"steps": 2, "warmup_steps": 0},
        "trainer": {"validate_every_steps": 2, "accelerator": "cpu", "keep_checkpoints": -1},
    }
    recipe = root / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    start = ["--config", str(recipe), "--out"]
    assert train.main([*start, str(root / "float")]) == 0
    tune = [*start, str(root / "int8"), "quantization.enabled=true", "schedule.steps=4", "optimizer.average_decay=0.5"]
    assert train.main([*tune, "--init-from", str(root / "float/last.ckpt")]) == 0
    out = {"recipe": recipe, "data": data, "float": root / "float", "int8": root / "int8", "file": root / "int8.onnx"}
    images = ["--images", str(data / "images/val")]
    checkpoint = ["--checkpoint", str(root / "int8/last.ckpt"), "--precision", "int8", *images]
    assert command.main([*checkpoint, "--out", str(out["file"])]) == 0
    return out


def pairs(graph: onnx.GraphProto) -> dict[str, dict[int, tuple[str, np.ndarray, int | None]]]:
    """Of each product's module and input the tensor behind its pair, its scales, and their axis for weights."""
    producer = {output: node for node in graph.node for output in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found: dict[str, dict[int, tuple[str, np.ndarray, int | None]]] = {}
    for node in graph.node:
        for i, name in enumerate(node.input):
            dequantize = producer.get(name)
            if dequantize is None or dequantize.op_type != "DequantizeLinear" or node.op_type == "QuantizeLinear":
                continue
            assert (values[dequantize.input[2]] == 0).all()  # symmetric
            assert values[dequantize.input[2]].dtype == np.int8
            quantize_ = producer.get(dequantize.input[0])
            source = quantize_.input[0] if quantize_ is not None else ""
            axis = None if quantize_ is not None else next(a.i for a in dequantize.attribute if a.name == "axis")
            found.setdefault(module_of(node), {})[i] = (source, values[dequantize.input[1]], axis)
    return found


def test_the_file_has_pairs_where_calibration_puts_them_and_the_trained_scales_in_them(run):
    task = load_task(run["int8"] / "last.ckpt")
    proto = onnx.load(str(run["file"]))
    deployment = deployment_model(task.model)
    plain = deployment_graph(deployment)
    images = resized(read_images(run["data"] / "images/val"), task.model.image_size)
    mine, calibrated = pairs(proto.graph), pairs(to_int8(plain, images, "percentile").graph)
    assert mine.keys() == calibrated.keys() == ranges(task.model).keys()
    chosen = {module_of(node) for node in plain.graph.node if node.name in quantized_nodes(plain.graph)}
    assert mine.keys() == chosen
    for path, of_inputs in mine.items():
        assert of_inputs.keys() == calibrated[path].keys() == {0, 1}  # what is read and weights; no bias
        (source, scale, _), (other_source, _, _) = of_inputs[0], calibrated[path][0]
        assert source == other_source
        assert scale == np.float32(float(ranges(task.model)[path].step().detach()))
        (_, steps, axis), (_, other_steps, other_axis) = of_inputs[1], calibrated[path][1]
        assert axis % 4 == other_axis % 4 or axis == other_axis
        # onnxruntime divides the doubled range by 128 where this divides it by 64
        np.testing.assert_allclose(steps, other_steps, rtol=1e-6)
    assert calibrated.keys() < {name for name, _ in task.model.named_modules()}
    assert not {"classifier", "backbone.network.conv_stem"} & mine.keys()  # last and first stay in float


def test_onnx_runtime_computes_what_was_trained(run):
    """With the pairs computed as they are written. Left to itself ONNX Runtime multiplies 8-bit numbers, which on processors
    without VNNI came out otherwise by more than rounding: that tells of the machine, not of the file.

    What is left are sums of float32 in another order, and values on the border of two steps, where such a sum's last bit
    decides: one such value moves all class scores of its image by some thousandths (of 0.12 in the mean, seen), the
    others' by 1e-7.
    """
    task = load_task(run["int8"] / "last.ckpt")
    deployment = deployment_model(task.model)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(run["file"]), options, providers=["CPUExecutionProvider"])
    batch = np.stack(resized(read_images(run["data"] / "images/val"), task.model.image_size))
    with torch.no_grad():
        expected = [output.numpy() for output in deployment(torch.from_numpy(batch))]
    outputs = session.run(list(deployment.outputs), {"image": batch})
    for mine, other in zip(outputs, expected, strict=True):
        inside = other > -1e3  # association: not the neighbours outside the grid
        assert np.abs(mine - other)[inside].mean() < 0.02 * np.abs(other[inside]).mean()
    with torch.no_grad():  # and without the rounding it is another model
        plain = deployment_model(quantize_none(task))(torch.from_numpy(batch))
    assert np.abs(plain[1].numpy() - expected[1]).mean() > 1e-3 * np.abs(expected[1]).mean()


def quantize_none(task: TrainedTask) -> SegmentationModel:
    """The model with its layers in float."""
    model = copy.deepcopy(task.model)
    for path in ranges(model):
        parent, _, name = path.rpartition(".")
        owner = model.get_submodule(parent)
        owner.register_module(name, owner.get_submodule(name).layer)
    return model


def test_the_file_is_parsed_and_built_by_tensorrt(run, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
    tensorrt = TensorRt.load("tensorrt_rtx")
    request = BuildRequest(run["file"], BuildOptions("int8", max_batch=4), tensorrt.name, tmp_path / "engine")
    build(request, tensorrt, lambda phase, share: None)
    assert request.out.stat().st_size > 10_000


def test_a_training_in_8_bits_is_resumed_and_has_no_other_file(run, tmp_path, capsys):
    half = tmp_path / "half"
    half.mkdir()
    (half / "last.ckpt").write_bytes((run["int8"] / "step2.ckpt").read_bytes())
    tune = [
        "--config",
        str(run["recipe"]),
        "--out",
        str(half),
        "quantization.enabled=true",
        "optimizer.average_decay=0.5",
    ]
    assert train.main([*tune, "schedule.steps=4", "--resume"]) == 0
    halfway, whole, resumed = (
        ranges(load_task(path).model)
        for path in (run["int8"] / "step2.ckpt", run["int8"] / "last.ckpt", half / "last.ckpt")
    )
    assert all(float(whole[path].step().detach()) == float(resumed[path].step().detach()) for path in whole)
    assert any(
        float(whole[path].step().detach()) != float(halfway[path].step().detach()) for path in whole
    )  # they go on learning
    arguments = ["--checkpoint", str(half / "last.ckpt"), "--images", str(run["data"] / "images/val")]
    assert command.main([*arguments, "--out", str(tmp_path / "float.onnx")]) == 2
    assert "was trained in 8 bits; export it with --precision int8" in capsys.readouterr().err
    assert not (tmp_path / "float.onnx").exists()


def test_fine_tuning_starts_from_coarser_superpixels_too(run):
    finer = ["model.options.superpixel_stride=16", "quantization.enabled=true"]
    layers = f"quantization.layers=[[{next(iter(ranges(load_task(run['int8'] / 'last.ckpt').model)))}]]"
    coarse = load_task(run["float"] / "last.ckpt")
    task = SegmentationTask(asdict(read_recipe(run["recipe"], [*finer, layers])), asdict(coarse.table))
    start_from(task, run["float"] / "last.ckpt")
    queries = F.interpolate(coarse.model.state_dict()["queries"], scale_factor=2, mode="bilinear")
    torch.testing.assert_close(task.model.state_dict()["queries"], queries.flatten(2).mT)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "quantization fine-tunes a trained model; name its checkpoint with --init-from"),
        (["data.crop=[32, 64]"], "takes model.image_size, [64, 96], alone"),
        (["quantization.enabled=false", "quantization.layers=[[a]]"], "quantization.layers are filled in for"),
    ],
)
def test_fine_tuning_that_cannot_be_is_refused(run, tmp_path, capsys, overrides, message):
    arguments = [
        "--config",
        str(run["recipe"]),
        "--out",
        str(tmp_path / "out"),
        "quantization.enabled=true",
        *overrides,
    ]
    start = ["--init-from", str(run["float"] / "last.ckpt")] if overrides else []
    assert train.main([*arguments, *start]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_calibration_images_for_a_model_with_learnt_ranges_are_refused(run, tmp_path, capsys):
    images = str(run["data"] / "images/val")
    arguments = ["--checkpoint", str(run["int8"] / "last.ckpt"), "--precision", "int8", "--calibration", images]
    assert command.main([*arguments, "--images", images, "--out", str(tmp_path / "x.onnx")]) == 2
    assert "has its ranges; leave --calibration out" in capsys.readouterr().err


def test_ranges_have_the_gradients_of_learned_step_sizes():
    """By the paper's formula: round(r) - r inside, the bound outside, over sqrt(127 N); x's own gradient inside alone."""
    each = InputRange()
    with torch.no_grad():
        each.scale.fill_(0.1)
    x = torch.tensor([0.04, -0.26, 5.0, 12.66, 12.8, -12.7, -13.0], requires_grad=True)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    y = each(x)
    (y * weight).sum().backward()
    torch.testing.assert_close(y.detach(), torch.tensor([0.0, -0.3, 5.0, 12.7, 12.7, -12.7, -12.8]))
    assert x.grad.tolist() == [1.0, 2.0, 3.0, 4.0, 0.0, 6.0, 0.0]
    ratio = x.detach() / 0.1
    inside = torch.where((ratio >= -128) & (ratio <= 127), ratio.round() - ratio, ratio.clamp(-128, 127))
    expected = float((inside * weight).sum()) / (127 * 7) ** 0.5
    assert float(each.scale.grad[0]) == pytest.approx(expected, rel=1e-4)


def test_a_calibrated_model_is_near_the_float_one_and_its_weights_lie_on_the_grid():
    model = tiny_model("superpixel_transformer").eval()
    images = [torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    with torch.no_grad():
        expected = model(images[0]).logits
    quantized = quantize(model, quantized_layers(model))
    calibrate(quantized, images)
    with torch.no_grad():
        came = quantized.eval()(images[0]).logits
    assert 0 < float((came - expected).abs().mean()) < 0.1 * float(expected.abs().mean())
    layer = next(part for part in quantized.modules() if isinstance(part, QuantizedLayer))
    on_grid = rounded(layer.layer.weight).flatten(1)
    steps = on_grid / (layer.layer.weight.flatten(1).abs().amax(1, keepdim=True) / HIGHEST_WEIGHT)
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)


def test_a_path_to_no_layer_is_refused():
    for path in ("backbone.nothing", "nowhere.at.all", "hypercolumn"):
        with pytest.raises(QuantizationError, match="to quantise"):
            quantize(tiny_model("superpixel_transformer"), [[path]])


@pytest.mark.parametrize("name", ["linear", "rsseg_pyramid", "segvit_shrunk"])
def test_other_architectures_have_layers_to_train_in_8_bits_too(name):
    model = tiny_model(name)
    groups = quantized_layers(model)
    assert sum(map(len, groups)) > 3
    quantized = quantize(model, groups)
    calibrate(quantized, [torch.randn(1, 3, 64, 96)])
    quantized.train()
    quantized(torch.randn(2, 3, 64, 96)).logits.mean().backward()
    assert all(each.scale.grad is not None for each in ranges(quantized).values())


def test_the_recipe_in_a_checkpoint_makes_the_model(run):
    recipe = load_task(run["int8"] / "last.ckpt").recipe
    assert ranges(model_from_recipe(recipe, 2)).keys() == {
        path for group in recipe.quantization.layers for path in group
    }
