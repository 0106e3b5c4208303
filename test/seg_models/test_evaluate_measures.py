"""`seg_models.evaluate` with every measure: the same from file and checkpoint, on several processes, and as a page."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml

from benchmarks.export_table import sharpen
from seg_models import evaluate
from seg_models.data.folder import FolderDataset
from seg_models.data.labels import read_label_table
from seg_models.evaluation.onnx_file import open_deployment_file
from seg_models.evaluation.predictors import protocol_predictor, squeezed, squeezed_predictor
from seg_models.evaluation.processes import DeviceError, Processes, device_named
from seg_models.evaluation.protocol import Protocol
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.segmentation_model import SegmentationModel
from test.seg_models.architectures.overfit import drawn_rooms
from test.seg_models.tiny_models import tiny_model

SIZE, IMAGES = (64, 96), 5  # over two processes and over four their shares are uneven
EXACT = ["--boundaries", "--object-sizes", "--calibration", "--superpixels"]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> Path:
    """Five drawn rooms, larger than a network's input by more than twice."""
    root = tmp_path_factory.mktemp("rooms")
    images, labels, classes = drawn_rooms(IMAGES, 150, 200)
    labels[:, :10, :10] = 255
    for kind, pictures in (("images", images[..., ::-1]), ("labels", labels.astype(np.uint8))):
        (root / kind / "val").mkdir(parents=True)
        for i, picture in enumerate(pictures):
            cv2.imwrite(str(root / kind / "val" / f"{i}.png"), np.ascontiguousarray(picture))
    table = [{"id": i, "name": f"class {i}", "color": [40 * i, 9 * i, i]} for i in range(classes)]
    (root / "classes.yaml").write_text(yaml.safe_dump({"ignore_index": 255, "classes": table}))
    return root


def sharp_model(name: str) -> SegmentationModel:
    model = tiny_model(name, 5, SIZE).eval()
    sharpen(model)
    return model


@pytest.fixture(scope="module")
def file(rooms, tmp_path_factory) -> Path:
    """A Superpixel Transformer's deployment file."""
    path = tmp_path_factory.mktemp("file") / "model.onnx"
    images = [FolderDataset([rooms], "val").read(i)[0] for i in range(2)]
    table = read_label_table(rooms / "classes.yaml")
    export_onnx(sharp_model("superpixel_transformer"), table, Origin("m", "spt", "drawn"), path, images)
    return path


@pytest.fixture(scope="module")
def scored(rooms, file, tmp_path_factory) -> dict:
    """Figures of the file in one process."""
    path = tmp_path_factory.mktemp("scored") / "figures.json"
    assert evaluate.main(["--onnx", str(file), "--data", str(rooms), *EXACT, "--json", str(path)]) == 0
    return json.loads(path.read_text())


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_give_the_same_figures_to_the_last_bit(rooms, file, scored, tmp_path, count):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "seg_models.evaluate", "--onnx", str(file), "--data", str(rooms), *EXACT]
    path = tmp_path / "figures.json"
    running = [
        subprocess.Popen(
            [*words, "--json", str(path)],
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [process.communicate(timeout=600) for process in running]
    assert [process.returncode for process in running] == [0] * count, [errors for _, errors in said]
    assert [bool(out) for out, _ in said] == [True, *[False] * (count - 1)]  # the first one alone speaks
    found = json.loads(path.read_text())
    assert found["images"] == IMAGES
    assert found == scored


@pytest.mark.parametrize("name", ["superpixel_transformer", "linear", "segvit"])
def test_a_model_and_its_file_make_the_same_of_an_image(name, rooms, file, tmp_path):
    model = sharp_model(name)
    path = file
    data = FolderDataset([rooms], "val")
    if name != "superpixel_transformer":
        path = tmp_path / "model.onnx"
        images = [data.read(i)[0] for i in range(2)]
        export_onnx(model, read_label_table(rooms / "classes.yaml"), Origin("m", name, "drawn"), path, images)
    by_file, by_model = open_deployment_file(path).predict, squeezed_predictor(model)
    for index in range(2):
        image = data.read(index)[0]
        expected, found = by_model(image), by_file(image)
        assert found.labels.shape == (image.shape[:2] if name == "superpixel_transformer" else SIZE)
        assert (found.labels == expected.labels).mean() > 0.999  # the rest are ties
        assert np.abs(found.confidence.astype(int) - expected.confidence).max() <= 2
        assert found.grid == expected.grid
        if expected.superpixels is not None:
            assert found.superpixels.dtype == np.uint16
            assert (found.superpixels == expected.superpixels).mean() > 0.999


def test_an_image_of_more_than_twice_the_size_is_halved_first():
    stripes = np.zeros((128, 192, 3), np.uint8)
    stripes[:, ::2] = 200  # finer than the input can show
    assert np.ptp(squeezed(stripes, SIZE)) == 0
    assert squeezed(stripes, (100, 100)).shape == (100, 100, 3)
    assert squeezed(stripes, (128, 192)) is stripes


def test_one_pass_over_whole_images_has_superpixels_and_averages_have_none(rooms):
    model = sharp_model("superpixel_transformer")
    image = FolderDataset([rooms], "val").read(0)[0]
    once = protocol_predictor(model, Protocol("whole"))(image)
    assert once.superpixels.shape == image.shape[:2]
    assert once.grid == (5, 7)  # of cells of 32 over 150 x 200
    assert once.superpixels.max() < 35
    assert protocol_predictor(model, Protocol("whole", flip=True))(image).superpixels is None


def test_a_class_that_is_left_out_is_neither_predicted_nor_scored(rooms):
    model = sharp_model("linear")
    image = FolderDataset([rooms], "val").read(0)[0]
    whole = protocol_predictor(model, Protocol("whole"))(image)
    gone = int(np.bincount(whole.labels.ravel()).argmax())
    found = protocol_predictor(model, Protocol("whole", left_out=(gone,)))(image)
    assert not (found.labels == gone).any()
    others = whole.labels != gone
    assert np.array_equal(found.labels[others], whole.labels[others])
    assert (found.confidence[others] >= whole.confidence[others]).all()


class Links(HTMLParser):
    """Tags that are open, and what the page reads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.outside += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:image/jpeg;base64,")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1


def test_the_page_holds_everything_itself_and_the_figures_of_the_json(rooms, file, scored, tmp_path, capsys):
    out = tmp_path / "report"
    words = ["--onnx", str(file), "--data", str(rooms), "--report", str(out), "--worst", "2", "--cost", *EXACT]
    assert evaluate.main(words) == 0
    assert "multiply" not in capsys.readouterr().out  # they are not counted in a file
    found = json.loads((out / "report.json").read_text())
    assert {key: found[key] for key in scored if key != "model"} == {k: v for k, v in scored.items() if k != "model"}
    assert list(found["worst"].values()) == sorted(found["worst"].values())
    weights = onnx.load(str(file)).graph.initializer
    assert 0 < found["cost"]["parameters"] <= sum(int(np.prod(w.dims)) for w in weights)
    text = (out / "report.html").read_text()
    page = Links()
    page.feed(text)
    assert page.open == page.outside == []
    assert page.count["img"] == 2 * 5  # image, truth, prediction, errors, superpixels
    assert page.count["svg"] == 2  # near edges, calibration
    assert f"{found['miou']:.3f}" in text
    assert f"{found['calibration']['ece']:.4f}" in text
    assert f"{found['superpixels']['slic']['undersegmentation_error']:.3f}" in text


def test_corruptions_are_told_by_table_and_for_robots(rooms, file, tmp_path, monkeypatch):
    few = {"blur": ["gaussian_blur"]}
    for name in ("GROUPS", "ROBOT_GROUPS"):
        groups = getattr(evaluate, name)
        some = {g: {k: m[k] for k in few.get(g, list(m)[:1])} for g, m in groups.items() if g in ("blur", "robot")}
        monkeypatch.setattr(evaluate, name, some)
    out = tmp_path / "report"
    assert evaluate.main(["--onnx", str(file), "--data", str(rooms), "--report", str(out), "--corruptions"]) == 0
    found = json.loads((out / "report.json").read_text())
    assert set(found["robustness"]) == {"RSSeg, Table 15", "robots' cameras"}
    for one in found["robustness"].values():
        assert one["clean"] == found["miou"]
        assert one["retention"] == pytest.approx(one["corrupted"] / one["clean"])
    assert (out / "report.html").read_text().count("<svg") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda:99"], "--device cuda:99 cannot be used"),
        (["--device", "toaster"], "--device toaster cannot be used"),
        (["--group", "thin", "class 9"], "has 'class 9'; the data set's classes are class 0"),
        (["--leave-out", "class 9"], "no class 'class 9' to leave out"),
        (["--leave-out", "class 1"], "a deployment model has one input size"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_line(rooms, file, options, message, capsys):
    assert evaluate.main(["--onnx", str(file), "--data", str(rooms), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bands", "2"], "--bands is of --boundaries"),
        (["--boundaries", "--bands", "0"], "--bands has 0; expected distances in pixels"),
        (["--boundaries", "--tolerance", "2"], "--tolerance is 2; expected a share of the diagonal"),
        (["--worst", "-1"], "--worst is -1"),
    ],
)
def test_options_out_of_their_range_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--onnx", "model.onnx", *options])
    assert re.sub(r"\s+", " ", capsys.readouterr().err).count(message) == 1


def test_shares_of_processes_are_every_image_once():
    for total in (0, 1, 5, 8):
        for count in (1, 2, 4, 7):
            shares = [list(Processes(rank, count).share(total)) for rank in range(count)]
            assert sorted(index for share in shares for index in share) == list(range(total))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_device_is_named_or_refused():
    assert device_named("cpu").type == "cpu"
    with pytest.raises(DeviceError, match="here are cpu"):
        device_named("cuda:99", Processes(local_rank=1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here")
@pytest.mark.parametrize("name", ["superpixel_transformer", "regproxy", "segvit", "segmenter"])
def test_a_gpu_makes_the_same_of_an_image(name, rooms):
    image = FolderDataset([rooms], "val").read(0)[0]
    whole = Protocol("whole", scales=(0.5, 1.0), flip=True)
    for protocol in (Protocol(), Protocol("whole"), whole):
        on_cpu = protocol_predictor(sharp_model(name), protocol)(image)
        on_gpu = protocol_predictor(sharp_model(name), protocol, torch.device("cuda:0"))(image)
        # Convolutions may run in TF32, whose ten bits decide more ties than float32's.
        assert (on_gpu.labels == on_cpu.labels).mean() > 0.98
        assert np.abs(on_gpu.confidence.astype(int) - on_cpu.confidence).mean() < 3
