"""`seg_perception view` run for real without a window: what it records is read back with Rerun's own reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.view.choose import choose
from test.seg_perception.tiny_bag import TYPESTORE, header, image_message, write_bag
from test.seg_perception.tiny_model import CLASS_NAMES, INPUT_SIZE, PALETTE, grid_cells, tiny_labels, write_tiny_model
from test.seg_perception.view.recordings import arrays, class_colours, read_recording
from test.seg_perception.waiting import wait_until

ROOT = Path(__file__).parents[3]
HEADLESS = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}

needs_rerun = pytest.mark.usefixtures("rerun_sdk")


@pytest.fixture(scope="module")
def rerun_sdk() -> None:
    pytest.importorskip("rerun", reason="needs Rerun: pip install 'seg_perception[view]'")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "seg_perception.cli", "view", *map(str, arguments)]


def view(*arguments: object, environment: dict[str, str] = HEADLESS) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def shadowed(folder: Path) -> str:
    """A PYTHONPATH on which the modules of a folder come before the installed ones."""
    return os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def random_rgb(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)


@needs_rerun
def test_a_folder_is_shown_in_the_order_of_its_names_with_everything_the_model_gives(tmp_path: Path, model: Path):
    pictures = [random_rgb(seed) for seed in range(3)]
    for number, rgb in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    (tmp_path / "2b.png").write_bytes(b"no picture")
    file = tmp_path / "deep" / "run.rrd"
    done = view(tmp_path, "--model", model, "--record", file, "--jpeg", 0, "--engine", "onnxruntime")
    assert done.returncode == 0, done.stderr
    assert "shown       3 images, 1 dropped or damaged" in done.stdout
    assert "left out" in done.stderr
    assert "2b.png" in done.stderr
    seen = read_recording(file)
    for number, (rgb, labels) in enumerate(zip(pictures, arrays(seen["/camera/labels"]), strict=True)):
        np.testing.assert_array_equal(labels, tiny_labels(rgb))
        np.testing.assert_array_equal(arrays(seen["/camera/confidence"], "Image")[number], rgb[..., 2])
        np.testing.assert_array_equal(arrays(seen["/camera/superpixels"])[number], grid_cells(INPUT_SIZE))
        pixels = np.array(seen["/camera/image"].columns["Image:buffer"][number][0], np.uint8)
        np.testing.assert_array_equal(pixels.reshape(rgb.shape), rgb)
    assert seen["/camera/labels"].frames == [0, 1, 2]
    assert seen["/camera/labels"].stamps_ns == []  # pictures of a folder have no time
    colours = class_colours(seen["/camera/labels"])
    assert [colours[i] for i in range(len(CLASS_NAMES))] == list(zip(CLASS_NAMES, PALETTE, strict=True))
    assert colours[255][0] == "not labelled"
    stages = {path.removeprefix("/latency/") for path in seen if path.startswith("/latency/")}
    assert stages == {"preprocess_ms", "infer_ms", "paint_ms", "total_ms", "show_ms"}
    assert all(value[0] >= 0 for value in seen["/latency/total_ms"].columns["Scalars:scalars"])


@needs_rerun
def test_a_video_file_is_shown_with_its_own_times(tmp_path: Path, model: Path):
    file = tmp_path / "short.avi"
    # Grey levels on both sides of the tiny model's threshold, far enough from it for JPEG.
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    assert writer.isOpened()
    for level in (20, 230, 20, 230):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    done = view(file, "--model", model, "--record", tmp_path / "run.rrd", "--max-frames", 3)
    assert done.returncode == 0, done.stderr
    seen = read_recording(tmp_path / "run.rrd")
    assert [int(labels[0, 0]) for labels in arrays(seen["/camera/labels"])] == [0, 3, 0]
    assert seen["/camera/labels"].stamps_ns == [0, 100_000_000, 200_000_000]
    encoded = np.array(seen["/camera/image"].columns["EncodedImage:blob"][1][0], np.uint8)
    assert np.abs(cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(int) - 230).max() <= 4  # JPEG


@needs_rerun
def test_the_shipped_recording_and_model_are_shown_with_their_own_stamps_and_colours(tmp_path: Path):
    from seg_perception.model.model_file import read_model_info

    done = view("bags/rooms_demo.mcap", "--record", tmp_path / "run.rrd", "--max-frames", 2, "--threads", 1)
    assert done.returncode == 0, done.stderr
    seen = read_recording(tmp_path / "run.rrd")
    info = read_model_info(ROOT / "models/rooms_spt_lite0.onnx")
    colours = class_colours(seen["/camera/labels"])
    assert [name for name, _ in list(colours.values())[: info.num_classes]] == list(info.class_names)
    assert [list(c) for _, c in list(colours.values())[: info.num_classes]] == info.palette.tolist()
    assert arrays(seen["/camera/labels"])[0].shape == arrays(seen["/camera/superpixels"])[0].shape == (360, 480)
    first, second = seen["/camera/labels"].stamps_ns
    assert 0 < second - first < 10**9
    assert "/points" not in seen  # the recording has no depth


def camera_info(stamp_ns: int) -> Any:
    """Of an ideal pinhole camera of the tiny model's size."""
    types = TYPESTORE.types
    k = np.array([10.0, 0, 15.5, 0, 10.0, 11.5, 0, 0, 1])
    region = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types["sensor_msgs/msg/CameraInfo"](
        header=header(stamp_ns),
        height=INPUT_SIZE[0],
        width=INPUT_SIZE[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).reshape(-1),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


@needs_rerun
@pytest.mark.parametrize("order", ["depth first", "depth last"])
def test_a_recordings_depth_becomes_points_of_the_classes(tmp_path: Path, model: Path, order: str):
    rgb, messages = random_rgb(5), []
    metres = np.full(INPUT_SIZE, 2.0, np.float32)
    metres[0] = np.nan  # one row without depth
    for number in range(2):
        ns = 10**9 + number * 10**8
        pair = [("/image", ns, image_message(rgb, ns, "rgb8")), ("/depth", ns, image_message(metres, ns, "32FC1"))]
        messages += [("/info", ns, camera_info(ns)), *(pair[::-1] if order == "depth first" else pair)]
    bag = write_bag(tmp_path / "bag", messages)
    file = tmp_path / "run.rrd"
    done = view(bag, "--model", model, "--depth-topic", "/depth", "--record", file)
    assert done.returncode == 0, done.stderr
    points = read_recording(file)["/points"]
    assert points.stamps_ns == [10**9, 11 * 10**8]
    xyz, labels = np.array(points.columns["Points3D:positions"][0]), np.array(points.columns["Points3D:class_ids"][0])
    np.testing.assert_array_equal(labels, tiny_labels(rgb)[1:].reshape(-1))
    assert xyz.shape == (23 * 32, 3)
    np.testing.assert_allclose(xyz[0], [-15.5 / 10 * 2, -10.5 / 10 * 2, 2.0], rtol=1e-6)  # row 1, column 0


def test_what_cannot_be_shown_is_said_in_one_line(tmp_path: Path, model: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("nothing to see")
    (tmp_path / "broken.mp4").write_bytes(bytes(1000))
    grey = write_bag(
        tmp_path / "grey",
        [(f"/{name}", 1, image_message(np.zeros((4, 4), np.uint8), 1, "mono8")) for name in ("left", "right")],
    )
    record = ["--record", tmp_path / "run.rrd"]
    for arguments, expected in (
        (
            ["/no/such.mp4"],
            "'/no/such.mp4' does not exist; expected a folder of images, a video file, a rosbag2 folder",
        ),
        ([tmp_path / "notes.txt"], "is a .txt file; expected a folder of images"),
        (
            [tmp_path / "empty", *record],
            "holds no recording and no image; expected a rosbag2 folder or files ending in",
        ),
        (
            [tmp_path / "broken.mp4", *record],
            "broken.mp4 (1000 bytes) cannot be decoded; expected a format that OpenCV",
        ),
        (["webcam:77", *record], "webcam 77 cannot be opened: this machine has"),
        ([grey, *record], "has 2 image topics: /left, /right; say which with --image-topic"),
        ([grey, "--image-topic", "/nope", *record], "has no topic '/nope'; it has: /left"),
        ([grey, "--image-topic", "/left", "--depth-topic", "/right"], "0 topics of sensor_msgs/msg/CameraInfo: none"),
        (["bags/rooms_demo.mcap", "--jpeg", "101"], "--jpeg is 101, expected 0 to 100"),
    ):
        done = view(*arguments, "--model", model)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        errors = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARNING"))]
        assert len(errors) == 1, done.stderr
        assert expected in errors[0]


@needs_rerun
def test_without_a_display_it_says_what_else_there_is(model: Path):
    done = view("models/check_images", "--model", model)
    assert done.returncode == 2
    assert "error: no display" in done.stderr
    assert "--record FILE, --serve ADDRESS:PORT or --connect URL" in done.stderr


@needs_rerun
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--record", "run.mcap"], "--record is run.mcap, expected a name ending in .rrd"),
        (["--serve", "9876"], "--serve is '9876', expected ADDRESS:PORT such as 127.0.0.1:9876"),
    ],
)
def test_where_it_goes_is_checked(model: Path, options: list[str], expected: str):
    done = view("models/check_images", "--model", model, *options)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_without_rerun_the_line_that_installs_it_is_said(tmp_path: Path, model: Path):
    (tmp_path / "rerun.py").write_text("raise ImportError('No module named rerun')\n")
    environment = HEADLESS | {"PYTHONPATH": shadowed(tmp_path)}
    done = view("models/check_images", "--model", model, "--record", tmp_path / "a.rrd", environment=environment)
    assert done.returncode == 2
    assert "pip install 'seg_perception[view]'" in done.stderr
    assert "Traceback" not in done.stderr


@needs_rerun
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_stopping_it_leaves_a_whole_recording(tmp_path: Path, model: Path, how: signal.Signals):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), random_rgb(number))
    file = tmp_path / "run.rrd"
    # Served, so that it does not end by itself.
    arguments = command(tmp_path, "--model", model, "--record", file, "--serve", "127.0.0.1:19876")
    with subprocess.Popen(
        arguments, cwd=ROOT, env=HEADLESS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as p:
        try:
            assert p.stdout is not None
            lines = iter(p.stdout.readline, "")
            assert any("all shown; served until Ctrl-C at rerun+http://127.0.0.1:19876/proxy" in line for line in lines)
            p.send_signal(how)
            out, errors = p.communicate(timeout=30)
        finally:
            p.kill()
    assert p.returncode == 0, errors
    assert "Traceback" not in errors
    assert "shown       3 images" in out
    assert len(arrays(read_recording(file)["/camera/labels"])) == 3


@needs_rerun
def test_a_viewer_that_does_not_answer_ends_the_run(tmp_path: Path, model: Path):
    cv2.imwrite(str(tmp_path / "0.png"), random_rgb(0))
    done = view(tmp_path, "--model", model, "--connect", "rerun+http://127.0.0.1:19878/proxy")
    assert done.returncode == 2
    assert "nothing gets out to the viewer at rerun+http://127.0.0.1:19878/proxy any more" in done.stderr
    assert "Traceback" not in done.stderr


@needs_rerun
def test_a_disk_without_room_ends_the_run(tmp_path: Path, model: Path):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    for number in range(40):
        cv2.imwrite(str(tmp_path / f"{number:02}.bmp"), noise)
    file = tmp_path / "run.rrd"
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
    program += "from seg_perception.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["view", tmp_path, "--model", model, "--record", file, "--jpeg", 0]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env=HEADLESS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"nothing gets out to {file} any more" in done.stderr
    assert "Traceback" not in done.stderr
    assert file.stat().st_size <= 2_000_000


@needs_rerun
def test_a_viewer_elsewhere_gets_what_is_served(tmp_path: Path, model: Path):
    cv2.imwrite(str(tmp_path / "0.png"), random_rgb(0))
    address = "127.0.0.1:19877"
    arguments = command(tmp_path, "--model", model, "--serve", address)
    got = tmp_path / "got.rrd"
    with subprocess.Popen(arguments, cwd=ROOT, env=HEADLESS, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert any("all shown" in line for line in iter(server.stdout.readline, ""))
            viewer = subprocess.Popen(
                [sys.executable, "-m", "rerun", f"rerun+http://{address}/proxy", "--save", str(got)],
                env=HEADLESS,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_until(lambda: got.exists() and got.stat().st_size > 1000, 30, "the viewer's copy")
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)
            viewer.wait(timeout=30)
        finally:
            server.kill()
            viewer.kill()
    np.testing.assert_array_equal(
        arrays(read_recording(got)["/camera/labels"])[0], tiny_labels(cv2.cvtColor(random_rgb(0), cv2.COLOR_BGR2RGB))
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("webcam", "webcam"),
        ("webcam:3", "webcam"),
        ("/dev/video2", "webcam"),
        ("/dev/v4l/by-id/usb-046d_HD_Webcam-video-index0", "webcam"),
        ("/segmentation", "topic"),
        ("/camera/image_raw/compressed", "topic"),
        ("bags/rooms_demo.mcap", "bag"),
        ("models/check_images", "folder"),
        ("models/check_images/room_1.jpg", "folder"),
    ],
)
def test_kinds_of_sources_are_told_apart(text: str, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    chosen = choose(text)
    assert chosen.kind == kind
    assert chosen.device == {"webcam": 0, "webcam:3": 3}.get(text, text if kind == "webcam" else 0)


def test_a_webcam_hands_out_the_newest_picture_and_counts_the_others(tmp_path: Path):
    from seg_perception.view.webcam import WebcamSource

    # OpenCV takes a file where it takes a device: one that gives its pictures as fast as they are read.
    file = tmp_path / "device.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for level in range(20):
        writer.write(np.full((48, 64, 3), 10 * level, np.uint8))
    writer.release()
    source = WebcamSource(str(file))
    wait_until(lambda: source.dropped == 18, 10, "all but the first, which opening took, and the last to be overtaken")
    stream = iter(source)
    assert abs(int(next(stream).rgb.mean()) - 190) <= 3  # the last one; JPEG
    source.close()
    assert list(stream) == []
