from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seg_models.data.rooms import generate
from seg_models.data.rooms.cli import build_parser, main
from seg_models.data.rooms.generate import ViewsConfig, open_output, room_numbers
from seg_models.data.rooms.job import RenderSettings, TrajectoryJob, ViewsJob, dump_job, load_job, write_json

RENDER = RenderSettings(320, 240, 6, True, 90)
ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    "job",
    [
        ViewsJob(7, "/x", "train", 8, True, RENDER, 2),
        TrajectoryJob(7, "/x", 60, 10.0, 72.0, 6, None, True, RENDER, 1),
    ],
)
def test_jobs_reach_the_worker_unchanged(job):
    assert load_job(dump_job(job)) == job


def test_split_depends_on_the_room_alone():
    config = ViewsConfig(10, 8, False, RENDER)
    assert [room for room in range(24) if config.split(room) == "val"] == [7, 15, 23]
    assert ViewsConfig(10, 0, False, RENDER).split(7) == "train"


def test_rich_rooms_depend_on_the_number_alone_and_reach_the_worker(tmp_path):
    config = ViewsConfig(10, 8, False, RENDER, rich_every=3, varied=True)
    assert [room for room in range(8) if config.job(room, tmp_path, 1).rich] == [0, 3, 6]
    assert config.job(1, tmp_path, 1).varied
    assert not ViewsConfig(10, 8, False, RENDER).job(0, tmp_path, 1).rich


def test_options_that_are_off_do_not_keep_an_older_folder_from_being_continued():
    assert ViewsConfig(10, 8, False, RENDER).settings().keys() == {"kind", "views", "val_every", "depth", "render"}
    assert ViewsConfig(10, 8, False, RENDER, 2, True).settings()["rich_every"] == 2


def test_output_folder_continues_only_its_own_configuration(tmp_path):
    out = tmp_path / "rooms"
    open_output(out, {"kind": "views", "views": 10})
    open_output(out, {"kind": "views", "views": 10})
    with pytest.raises(ValueError, match=r"different configuration \(views 10 -> 12\)"):
        open_output(out, {"kind": "views", "views": 12})


def test_output_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("...")
    with pytest.raises(ValueError, match="not output of this generator"):
        open_output(tmp_path, {"kind": "views"})


def test_a_half_written_room_does_not_count_as_done(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "0001.json", {"bad": object()})
    assert not (tmp_path / "0001.json").exists()
    write_json(tmp_path / "0001.json", {"views": 3})
    assert json.loads((tmp_path / "0001.json").read_text()) == {"views": 3}


def test_room_numbers_fit_the_file_names():
    assert room_numbers(9998, 2) == [9998, 9999]
    with pytest.raises(ValueError, match=r"0\.\.9999"):
        room_numbers(9998, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["views", "--rooms", "0"], "--first-room and --rooms"),
        (["views", "--rooms", "2", "--views", "0"], "--views must be at least 1"),
        (["views", "--rooms", "2", "--size", "0", "240"], "image size 0x240 is too small"),
        (["views", "--rooms", "2", "--samples", "0"], "samples must be at least 1"),
        (["views", "--rooms", "2", "--workers", "0"], "--workers must be at least 1"),
        (["views", "--rooms", "2", "--jpeg-quality", "101"], "JPEG quality must be 1-100"),
        (["trajectory", "--room", "-1"], "--room must not be negative"),
        (["trajectory", "--room", "1", "--frames", "1"], "--frames >= 2"),
        (["trajectory", "--room", "1", "--walk", "-1"], "--walk must not be negative"),
        (["trajectory", "--room", "1", "--fov", "190"], "--fov must be 10-150"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, arguments, message):
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_a_renderer_one_line_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(generate.importlib.util, "find_spec", lambda name: None)
    assert main(["views", "--rooms", "1", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "make rooms-env" in error
    assert error.count("\n") == 1


def test_help_needs_neither_bpy_nor_torch():
    code = (
        "import sys; sys.modules.update({'bpy': None, 'infinigen': None, 'torch': None})\n"
        "from seg_models.data.rooms.cli import build_parser\n"
        "build_parser().parse_args(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trajectory" in done.stdout


def test_a_missing_output_folder_is_asked_for(capsys):
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args(["views", "--rooms", "1"])
    assert stop.value.code == 2
    assert "--out" in capsys.readouterr().err


FAILING_WORKER = "import sys; print('rooms| begun'); print('ValueError: no free path in this room'); sys.exit(3)"


def test_a_failed_worker_is_reported_with_its_last_error_and_log(tmp_path, monkeypatch):
    workers = generate.Workers(tmp_path / "logs")
    monkeypatch.setattr(generate, "worker_command", lambda job: [sys.executable, "-c", FAILING_WORKER])
    job = ViewsJob(12, str(tmp_path), "train", 1, False, RENDER, 1)
    with pytest.raises(RuntimeError, match=r"room 12: .*status 3 \(ValueError: no free path.*0012\.log"):
        workers.run(job, show=False)
    assert "rooms| begun" in (tmp_path / "logs" / "0012.log").read_text()
