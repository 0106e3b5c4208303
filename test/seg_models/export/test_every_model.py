"""Every architecture exports by the contract, agrees with ONNX Runtime, and is understood and built by TensorRT.

The full-size table is docs/export.md; these are the same checks on tiny models.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from rosbags.highlevel import AnyReader
from torch import nn

from benchmarks.architectures import normalized
from benchmarks.export_table import settle, sharpen
from seg_models.data.labels import LabelTable
from seg_models.data.rooms.bag import IMAGE_TOPIC, STORE
from seg_models.export.checks import TOLERANCES
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.export.errors import ExportError
from seg_models.export.int8 import Int8Error, closeness, constant_outputs, last_products, quantized_nodes, to_int8
from seg_models.ops import neighbourhood as nb
from seg_onnx.half_precision import HalfPrecisionError, half_tensor, score_outputs, stem_outputs, to_half
from seg_perception.engines.tensorrt.agreement import masks
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.build import BuildRequest, build
from seg_perception.engines.tensorrt.options import BuildOptions
from seg_perception.model.model_file import read_model_info
from test.seg_models.architectures.overfit import drawn_rooms
from test.seg_models.tiny_models import ON_VIT, hybrid_options, tiny_model

ROOT = Path(__file__).parents[3]
SIZE = (60, 90)  # no multiple of any stride: the padding is exported, too


SHAPE = {"embed_dim": 32, "depth": 2, "num_heads": 2}


# One form of each architecture, and the backbones whose graphs differ in kind; other options are in the full-size table.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "superpixel_transformer": ("superpixel_transformer", {}),
    "superpixel_transformer, labels": ("superpixel_transformer", {}),
    # Blocks of cells, and self-attention among means.
    "superpixel_transformer, fine": ("superpixel_transformer", {"superpixel_stride": 16, "self_attention_pool": 2}),
    "linear, BEiT": ("linear", {"backbone": "beit_base_patch16_224"}),
    "segmenter": ("segmenter", {}),
    "regproxy, distilled": (
        "regproxy",
        {"backbone": "deit_tiny_distilled_patch16_224", "region_size": (4, 2), "multi_level": True},
    ),
    "regproxy, hybrid": ("regproxy", {"backbone": "vit_small_patch32_384", "patch_size": None}),
    "regproxy_pilot": ("regproxy_pilot", {"slic_iterations": 2}),
    "rsseg": ("rsseg", {}),
    "rsseg_pyramid": ("rsseg_pyramid", {}),
    "segvit": ("segvit", {}),
    "segvit_pyramid": ("segvit_pyramid", {}),
    "segvit_shrunk": ("segvit_shrunk", {}),
}


@pytest.fixture(scope="module", params=VARIANTS)
def exported(request, tmp_path_factory):
    """(path of the float32 file, figures of the export's own comparison) of each variant."""
    name, options = VARIANTS[request.param]
    if request.param == "regproxy, hybrid":
        options = options | {"timm_options": SHAPE | hybrid_options()}
    images, _, classes = drawn_rooms(3, *SIZE)
    model = tiny_model(name, classes, SIZE, **options).eval()
    sharpen(model)
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    form = "labels" if request.param.endswith("labels") else None
    return path, export_onnx(model, table(classes), Origin("m", name, "drawn"), path, list(images), form=form)


def file_masks(path: Path, model: str | bytes, images: np.ndarray) -> list[np.ndarray]:
    """Labels, confidence and, where there are any, superpixels of a file in ONNX Runtime.

    Args:
        path: the file as it was exported, which says what the model is.
        model: path or bytes of the same, or of a copy in another precision.
        images: uint8 [B, H, W, 3].
    """
    session = onnxruntime.InferenceSession(model)
    names = [output.name for output in session.get_outputs()]
    found = masks(dict(zip(names, session.run(names, {"image": images}), strict=True)), read_model_info(path))
    return [found[name] for name in ("labels", "confidence", "superpixels") if name in found]


def table(classes: int) -> LabelTable:
    return LabelTable(tuple(f"class {i}" for i in range(classes)), tuple((i, i, i) for i in range(classes)))


def test_file_agrees_with_the_model_and_with_its_half_precision_form(exported):
    path, figures = exported
    assert figures["label_agreement"] > 0.999
    assert figures["confidence_difference"] <= 2
    assert figures.get("superpixel_agreement", 1.0) > 0.999
    model = to_half(onnx.load(str(path)))
    assert_half_agrees(path, model)
    onnx.checker.check_model(model, full_check=True)
    assert all(value.type.tensor_type.elem_type != TensorProto.FLOAT16 for value in model.graph.output)
    # Operators that overflow in float16 read float32.
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    kept = [n for n in model.graph.node if n.op_type in ("Softmax", "LayerNormalization", "ReduceL2", "Exp")]
    assert all(types[node.input[0]] == TensorProto.FLOAT for node in kept)
    assert sum(types.get(n.output[0]) == TensorProto.FLOAT16 for n in model.graph.node) > len(model.graph.node) / 10


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_builds_the_file_for_one_image_and_for_one_to_four(exported, tmp_path, precision, batch):
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
    tensorrt = TensorRt.load("tensorrt_rtx")
    path, _ = exported
    request = BuildRequest(path, BuildOptions(precision, max_batch=batch), tensorrt.name, tmp_path / "engine")
    build(request, tensorrt, lambda phase, share: None)
    assert request.out.stat().st_size > 10_000


def test_eight_bits_stay_near_the_model_and_build_in_tensorrt(exported, tmp_path):
    path, _ = exported
    images, _, _ = drawn_rooms(8, *SIZE)
    model = to_int8(onnx.load(str(path)), list(images[3:]), "percentile")
    onnx.checker.check_model(model, full_check=True)
    assert_symmetric_and_without_quantised_biases(model)
    full = file_masks(path, str(path), images[:3])
    short = file_masks(path, model.SerializeToString(), images[:3])
    assert (full[0] == short[0]).mean() > 0.5  # chance is a quarter; how much it costs is measured on a trained model
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
    onnx.helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | {"precision": "int8"})
    onnx.save(model, str(tmp_path / "int8.onnx"))
    tensorrt = TensorRt.load("tensorrt_rtx")
    for batch in (1, 4):
        options = BuildOptions("int8", max_batch=batch)
        request = BuildRequest(tmp_path / "int8.onnx", options, tensorrt.name, tmp_path / "engine")
        build(request, tensorrt, lambda phase, share: None)
        assert request.out.stat().st_size > 10_000


def assert_symmetric_and_without_quantised_biases(model: onnx.ModelProto) -> None:
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero_point = values[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
    made = {node.output[0]: node.op_type for node in model.graph.node}
    quantised = [node for node in model.graph.node if made.get(node.input[0]) == "DequantizeLinear"]
    assert quantised
    for node in quantised:
        assert all(made.get(name) != "DequantizeLinear" for name in node.input[2:])  # biases
    # The first two convolutions and what makes the outputs stay as they are.
    kept = stem_outputs(model.graph) | last_products(model.graph)
    assert not any(
        made.get(name) == "DequantizeLinear" for n in model.graph.node if kept & set(n.output) for name in n.input
    )


def assert_half_agrees(path: Path, half: onnx.ModelProto) -> None:
    """The float16 file against the float32 one, which agrees with PyTorch, on the drawn images."""
    images, _, _ = drawn_rooms(3, *SIZE)
    full = file_masks(path, str(path), images)
    short = file_masks(path, half.SerializeToString(), images)
    tolerance = TOLERANCES["float16"]
    same = full[0] == short[0]
    assert same.mean() >= tolerance.agreement
    difference = np.abs(full[1].astype(int) - short[1].astype(int))
    assert difference[same].max() <= tolerance.confidence
    for owners, half_owners in zip(full[2:], short[2:], strict=True):
        assert (owners == half_owners).mean() >= tolerance.agreement


def test_exports_in_short_precisions_are_smaller_and_agrees_in_all_but_ties(tmp_path):
    images, _, classes = drawn_rooms(3, *SIZE)
    sizes = {}
    for precision, tolerance in TOLERANCES.items():
        model = tiny_model(
            "segmenter", classes, SIZE, **ON_VIT | {"timm_options": {"embed_dim": 96, "depth": 3}}
        ).eval()
        sharpen(model)
        path = tmp_path / f"{precision}.onnx"
        calibration = list(images) if precision == "int8" else None
        figures = export_onnx(
            model,
            table(classes),
            Origin("m", "segmenter", "drawn"),
            path,
            list(images),
            precision,
            calibration=calibration,
        )
        assert figures["label_agreement"] >= tolerance.agreement
        sizes[precision] = path.stat().st_size
        assert onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map["precision"] == precision
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < sizes["float16"]
    with pytest.raises(ExportError, match="precision is 'int4'; expected one of float32, float16, int8"):
        export_onnx(model, table(classes), Origin("m", "segmenter", "drawn"), path, list(images), "int4")


def test_attention_scores_too_large_for_half_precision_survive():
    """Scores of 1e6 with an exact softmax: in float16 they would be infinite, and the softmax not a number."""
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT),
        onnx.helper.make_node("MatMul", ["x", "weight"], ["scores"]),  # names of nodes are optional
        onnx.helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
        onnx.helper.make_node("Softmax", ["scaled"], ["weights"], axis=-1),
        onnx.helper.make_node("MatMul", ["weights", "values"], ["mixed"]),
        onnx.helper.make_node("Cast", ["mixed"], ["labels"], "out", to=TensorProto.UINT8),
    ]
    weights = {
        "weight": np.array([[4000.0, 0], [0, 4000]], np.float32),
        "scale": np.array(1e-3, np.float32),
        "values": np.array([[7.0], [9]], np.float32),
    }
    graph = onnx.helper.make_graph(
        nodes,
        "scores",
        [onnx.helper.make_tensor_value_info("image", TensorProto.UINT8, [2, 2])],
        [onnx.helper.make_tensor_value_info("labels", TensorProto.UINT8, [2, 1])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    assert score_outputs(model.graph) == {"scores", "scaled"}
    half = to_half(model)
    assert {t.name: t.data_type for t in half.graph.initializer}["values_half"] == TensorProto.FLOAT16
    session = onnxruntime.InferenceSession(half.SerializeToString())
    image = np.array([[255, 0], [0, 255]], np.uint8)
    assert session.run(None, {"image": image})[0].tolist() == [[7], [9]]


def test_first_two_convolutions_stay_in_float32():
    graph = onnx.parser.parse_graph("""
        net (uint8[1,3,8,8] image) => (int64[1] shape, float[1] out, float[1] mixed)
        <float[4,3,3,3] w, float[4,4,3,3] v> {
            shape = Shape(image)
            x = Cast<to = 1>(image)
            a = Conv(x, w)
            b = Relu(a)
            c = Conv(b, v)
            d = Add(b, c)
            out = Conv(d, v)
            mixed = MatMul(x, x)
            late = Relu(mixed)
        }
    """)
    assert stem_outputs(graph) == {"x", "a", "b", "c", "d"}


def test_what_follows_from_constants_is_no_layer_to_quantise():
    graph = onnx.parser.parse_graph("""
        net (float[1,4,2] x) => (float[1,4,2] out)
        <float[1,1,2] queries = {1, 2}, float[1,1,2] position = {3, 4}, float[2,2] w = {1, 2, 3, 4},
         float[2,2] v = {1, 2, 3, 4}> {
            sum = Add(queries, position)
            query = MatMul(sum, w)
            pixels = MatMul(x, v)
            turned = Transpose<perm = [0, 2, 1]>(query)
            scores = MatMul(pixels, turned)
            out = MatMul(scores, query)
        }
    """)
    for number, node in enumerate(graph.node):
        node.name = f"node {number}: {node.output[0]}"
    assert constant_outputs(graph) == {"sum", "query", "turned"}
    assert quantized_nodes(graph) == ["node 2: pixels"]


def test_product_under_a_norm_over_the_classes_stays_in_float32():
    graph = onnx.parser.parse_graph("""
        net (float[8,16] x) => (float[8,3] out)
        <float[16,3] w, float[3] scale> {
            scores = MatMul(x, w)
            normed = LayerNormalization(scores, scale)
            out = Softmax(normed)
        }
    """)
    assert score_outputs(graph) == {"scores", "normed"}


def test_shipped_model_in_half_precision_agrees_on_the_demo_recording():
    """Trained weights lose more than random ones: filters that subtract neighbouring pixels grow."""
    path = ROOT / "models" / "rooms_spt_lite0.onnx"
    full = onnxruntime.InferenceSession(str(path))
    half = onnxruntime.InferenceSession(to_half(onnx.load(str(path))).SerializeToString())
    with AnyReader([ROOT / "bags" / "rooms_demo.mcap"], default_typestore=STORE) as reader:
        cameras = [c for c in reader.connections if c.topic == IMAGE_TOPIC]
        messages = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(cameras)]
    _, height, width, _ = full.get_inputs()[0].shape
    pictures = [cv2.imdecode(message.data, cv2.IMREAD_COLOR)[..., ::-1] for message in messages[::30]]
    batch = np.stack([cv2.resize(picture, (width, height)) for picture in pictures])
    expected, actual = (painted_outputs(session.run(None, {"image": batch})) for session in (full, half))
    same = [(a == b).mean() for a, b in zip(expected, actual, strict=True)]
    # Seen: 0.9990, 0.9947 and 3.
    assert same[0] > 0.998
    assert same[2] > 0.99
    assert np.abs(expected[1] - actual[1]).max() <= 5


def painted_outputs(outputs: list[np.ndarray]) -> list[np.ndarray]:
    """Labels, confidence and superpixels of the shipped model's form `association`, by the reference."""
    scores, classes = (torch.from_numpy(output).float() for output in outputs)
    scores = nb.upsample_in_cells(scores, (2, 2), (16, 16))
    best = nb.paint(nb.association(scores), classes, (16, 16)).softmax(1).max(1)
    owners = nb.hard_superpixels(scores, (16, 16))
    return [best.indices.numpy(), (best.values * 255).round().numpy(), owners.numpy()]


def test_a_lone_tiny_number_stays_above_zero_in_half_precision():
    """1e-12 is what norms are kept above before something is divided by them."""

    def halved(*values: float) -> list[float]:
        tensor = onnx.numpy_helper.from_array(np.array(values, np.float32), "weights")
        return onnx.numpy_helper.to_array(half_tensor(tensor, "half")).tolist()

    assert halved(1e-12) == [np.finfo(np.float16).tiny]
    assert halved(1e-12, 1.0, 1e6, -np.inf) == [0.0, 1.0, 65504.0, -np.inf]


def test_a_file_with_floating_inputs_is_refused():
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    with pytest.raises(
        HalfPrecisionError, match="input x is floating; expected a deployment model, which takes integers"
    ):
        to_half(onnx.helper.make_model(graph))


def test_sharpened_scores_are_far_enough_apart_to_compare():
    images, _, classes = drawn_rooms(1, *SIZE)
    model = tiny_model("linear", classes, SIZE).eval()
    image = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    flat = model.decide(image).confidence.mean()
    sharpen(model)
    assert model.decide(image).confidence.mean() > flat + 0.3


def test_settled_batch_norms_bring_activations_to_unit_scale():
    images, _, classes = drawn_rooms(1, *SIZE)
    model = tiny_model("superpixel_transformer", classes, (192, 256)).eval()
    settle(model, list(images))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    seen = []
    for norm in norms:
        norm.register_forward_pre_hook(
            lambda norm, x: seen.append((x[0].std((0, 2, 3)) / norm.running_var.sqrt()).mean())
        )
    image = np.stack([cv2.resize(image, (256, 192)) for image in images])
    model(normalized(model, torch.from_numpy(image)))
    assert len(seen) == len(norms) > 3
    # But for the n - 1 of a running variance, of 48 pixels in the deepest layers.
    torch.testing.assert_close(torch.stack(seen), torch.ones(len(norms)), atol=0.05, rtol=0)
    assert not model.training


def test_export_in_eight_bits_takes_the_calibration_that_comes_closest(tmp_path, caplog):
    images, _, classes = drawn_rooms(8, *SIZE)
    model = tiny_model("linear", classes, SIZE, **ON_VIT).eval()
    sharpen(model)
    out = tmp_path / "model.onnx"
    arguments = (model, table(classes), Origin("m", "linear", "drawn"), out, list(images[:2]), "int8")
    with pytest.raises(Int8Error, match="no images to calibrate with; name a folder of real ones with --calibration"):
        export_onnx(*arguments)
    assert not out.exists()
    caplog.set_level("INFO")
    figures = export_onnx(*arguments, calibration=list(images[2:]))
    assert figures["label_agreement"] > 0.8
    assert re.search(r"closeness to float32 entropy 0\.\d+, percentile 0\.\d+", caplog.text)
    assert re.search(r"int8 calibrated by (entropy|percentile)", caplog.text)
    written = onnx.load(str(out))
    assert {p.key: p.value for p in written.metadata_props}["precision"] == "int8"
    assert_symmetric_and_without_quantised_biases(written)


def test_how_close_outputs_are():
    labels = np.array([1, 2, 3, 4])
    assert closeness([labels], [np.array([1, 2, 3, 0])]) == 0.75
    assert closeness([labels, np.array([2.0, -2.0])], [labels, np.array([2.0, -1.0])]) == 0.875
    association = np.array([2.0, nb.BORDER, -2.0, nb.BORDER])
    assert closeness([association], [np.array([0.0, nb.BORDER, 0.0, nb.BORDER])]) == 0.0
    assert closeness([np.zeros(2)], [np.zeros(2)]) == 1.0
