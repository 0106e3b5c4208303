"""The benchmark scripts: what they compare can be built, and what they write is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml

from benchmarks import architectures, export_table, load_memory, orin_estimate, painting, precision, profile
from seg_models.build import ARCHITECTURES
from seg_models.export.deployment import deployment_model
from seg_models.export.graph import deployment_graph
from seg_models.papers.configurations import CONFIGURATIONS
from seg_models.summary import multiply_accumulates
from seg_perception.painting import Painter
from seg_perception.painting_geometry import PaintingGeometry
from test.seg_models.tiny_models import tiny_model


@pytest.mark.parametrize("scale", architectures.SCALES.values(), ids=architectures.SCALES)
def test_every_architecture_is_compared_at_similar_cost(scale):
    assert {c.architecture for c in scale.contestants} == set(ARCHITECTURES)
    with torch.device("meta"):
        macs = [multiply_accumulates(architectures.build(c, 16, scale), scale.size) for c in scale.contestants]
    assert max(macs) < 5 * min(macs)


@pytest.fixture
def rooms(tmp_path):
    """A folder data set of four images whose left half is one class and whose right half another."""
    root = tmp_path / "rooms"
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(4):
            labels = np.zeros((48, 64), np.uint8)
            labels[:, 32:] = 1
            cv2.imwrite(str(root / "labels" / split / f"{i}.png"), labels)
            cv2.imwrite(str(root / "images" / split / f"{i}.png"), np.repeat(labels[..., None] * 200 + i, 3, axis=2))
    classes = [{"id": i, "name": f"class {i}", "color": [i, i, i]} for i in range(2)]
    (root / "classes.yaml").write_text(yaml.safe_dump({"ignore_index": 255, "classes": classes}))
    return root


def test_a_run_is_scored_on_the_other_split_once_and_not_repeated(rooms, tmp_path, monkeypatch, capsys):
    small = architectures.Contestant(
        "linear", "linear", "vit_tiny_patch16_384", {"timm_options": {"embed_dim": 16, "depth": 1, "num_heads": 1}}
    )
    scale = architectures.Scale((48, 64), steps=3, batch_size=4, lr=1e-3, contestants=(small,))
    monkeypatch.setitem(architectures.SCALES, "tiny", scale)
    arguments = ["--data", str(rooms), "--out", str(tmp_path / "out"), "--seeds", "2", "--device", "cpu"]
    assert architectures.main(arguments) == 0
    log = tmp_path / "out" / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(r["name"], r["seed"], r["steps"], r["images"]) for r in runs] == [("linear", 0, 3, 4), ("linear", 1, 3, 4)]
    assert all(0 <= r["miou"] <= 1 for r in runs)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "| linear |" in table
    assert "1.00 (1.00-1.00)" in table  # its times over its own
    before = log.read_text()
    assert architectures.main(arguments) == 0
    assert log.read_text() == before


def test_the_export_table_leaves_out_models_that_two_tables_name():
    names = [c.name for c in export_table.distinct()]
    assert "Linear ViT-B/16, ADE20K" in names
    assert "Linear ViT-B/16, ADE20K (RSSeg)" not in names
    assert len(set(names)) == len(names) < len(CONFIGURATIONS)


def test_the_export_table_shows_figures_and_problems():
    built = {"ok": True, "seconds": 3.2, "problem": ""}
    refused = {"ok": False, "seconds": 0.0, "problem": "parser: no such operator"}
    name = "RegProxy-Ti/16, ADE20K"
    result = {"name": name, "size": [512, 512], "problem": "", "label_agreement": 0.99996, "superpixel_agreement": 1.0}
    result |= {"confidence_difference": 1, "file_mb": 23.2, "float32": built, "float16": refused}
    result["half"] = {"label_agreement": 0.9987, "superpixel_agreement": 0.998, "confidence_difference": 3}
    other = {"name": "SegViT-B, ADE20K", "size": [512, 512], "problem": "stopped: killed"}
    lines = export_table.table([other, result]).splitlines()
    figures = "23 | 99.996 | 100.000 | 1 | 99.870 | 99.800 | 3"
    assert lines[2] == f"| {name} | 512x512 | {figures} | built, 3 s | parser: no such operator |"
    assert {line.count("|") for line in lines} == {12}
    assert lines[3].startswith("| SegViT-B, ADE20K | 512x512 | stopped: killed |")


def test_the_precision_benchmark_scores_both_and_judges(rooms, tmp_path, capsys):
    model = str(Path(__file__).parents[1] / "models/rooms_spt_lite0.onnx")
    assert precision.main([model, "--data", str(rooms), "--engine", "onnxruntime"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("onnxruntime") == 2
    assert "Equal labels on 100.000 % of the labelled pixels; fast loses 0.00 points of mIoU, within" in printed
    assert precision.main([model, "--data", str(tmp_path)]) == 2
    assert "expected a data set of images/SPLIT and labels/SPLIT" in capsys.readouterr().err


def test_the_memory_of_a_loading_model_is_measured_in_a_process_of_its_own(capsys):
    shipped = Path(__file__).parents[1] / "models/rooms_spt_lite0.onnx"
    assert load_memory.main([str(shipped), "--without-folding"]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2] for row in rows] == ["yes", "no"]
    for row in rows:
        size, peak, loaded, with_image = (float(row[i]) for i in (1, 3, 4, 5))
        assert size == pytest.approx(shipped.stat().st_size / 1e6, abs=0.5)
        assert size / 2 < loaded <= peak <= with_image < 1000


@pytest.fixture(scope="module")
def named_model(tmp_path_factory):
    """The graph of a tiny Superpixel Transformer, its nodes named by the export."""
    path = tmp_path_factory.mktemp("profile") / "model.onnx"
    model = tiny_model("superpixel_transformer", image_size=(192, 256)).eval()
    onnx.save(deployment_graph(deployment_model(model.deployed(), "labels")), path)
    return path


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_profile_knows_every_part_of_an_exported_model(named_model, engine, capsys):
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    assert profile.main([str(named_model), "--engine", engine, "--precision", "f32", "--runs", "5"]) == 0
    rows = [line.split(" | ")[0].strip("| ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    parts = set(rows[: rows.index("kind")])
    assert {"backbone", "hypercolumn", "cross-attention", "self-attention", "association", "painting"} <= parts
    assert profile.UNNAMED not in parts


def test_layers_without_a_name_belong_to_the_part_before():
    layers = [
        profile.Layer("Cast_1", ("/_to_copy",), "Convert", 1.0),
        profile.Layer("Multiply_7", ("Multiply_7", "backbone.blocks.0/relu"), "Convolution", 2.0),
        profile.Layer("Multiply_9", ("Multiply_9",), "Convolution", 4.0),
        profile.Layer("Softmax_3", ("/softmax",), "Softmax", 8.0),
    ]
    kinds, parts = profile.shares(layers)
    assert kinds == {"Softmax": 8.0, "Convolution": 6.0, "Convert": 1.0}
    assert parts == {"painting": 8.0, "backbone": 6.0, "input": 1.0}


def test_a_file_that_cannot_be_profiled_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "m.onnx").write_text("no model")
    assert profile.main([str(tmp_path / "m.onnx")]) == 2
    assert "not an ONNX file" in capsys.readouterr().err
    assert profile.main([str(tmp_path / "none.onnx")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_the_standard_operations_that_painting_replaces_give_the_same_masks(tmp_path):
    geometry = PaintingGeometry((64, 96), (2, 3), (32, 32), (4, 4))
    (association, class_logits), *_ = painting.random_maps(geometry, 5, 1)
    painted = Painter(geometry).paint(association, class_logits, (64, 96))
    for engine in ("OpenVINO f32", "ONNX Runtime"):
        labels, confidence, superpixels = painting.in_graph(geometry, 5, engine, tmp_path, 1)(association, class_logits)
        assert (labels[0] != painted.labels).mean() <= 1e-3  # ties in the last bit
        assert (superpixels[0] != painted.superpixels).mean() <= 1e-3
        assert np.abs(confidence[0].astype(int) - painted.confidence).max() <= 1


def test_the_estimate_counts_operations_and_bytes_of_each_layer(tmp_path, capsys):
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = [
        onnx.numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "w"),
        onnx.numpy_helper.from_array(np.zeros((8, 1, 1, 1), np.float32), "depthwise"),
        onnx.numpy_helper.from_array(np.zeros((16, 5), np.float32), "m"),
        onnx.numpy_helper.from_array(np.zeros((3, 1, 1), np.float32), "offset"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=floats),
        helper.make_node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Add", ["planes", "offset"], ["moved"]),
        helper.make_node("Conv", ["moved", "w"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["conv", "depthwise"], ["each"], group=8),
        helper.make_node("MatMul", ["each", "m"], ["out"]),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["B", 8, 16, 3])
    out = helper.make_tensor_value_info("out", floats, ["B", 8, 8, 5])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], [out], weights),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "small.onnx")
    counted = {layer.kind: layer for layer in orin_estimate.layers(tmp_path / "small.onnx")}
    assert counted["Conv"].tensor == 2 * 8 * 128 * 27  # outputs x 3 x 3 x 3
    assert counted["Conv"].nbytes == 2 * (3 * 128 + 8 * 27 + 8 * 128)  # half floats: in, weights, out
    assert (counted["depthwise Conv"].tensor, counted["depthwise Conv"].cuda) == (0, 2 * 8 * 128)
    assert counted["MatMul"].tensor == 2 * 8 * 8 * 5 * 16
    assert counted["Cast"].nbytes == 384 * (1 + 2)  # bytes in, half floats out
    assert orin_estimate.main([str(tmp_path / "small.onnx")]) == 0
    assert "estimate at published rates" in capsys.readouterr().out
