"""evaluate-bags on a real Ray on this machine: a head, and a node in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_perception.cli import main
from test.seg_perception.fleet.ray_cluster import (
    GENEROUS_S,
    RAY,
    ROOT,
    TOKEN,
    Cluster,
    answering,
    end,
    joined,
    kill_at_work,
    until,
    workers_at,
)
from test.seg_perception.fleet.test_evaluate_bags import arguments, fleet_json, worse_model, write_labelled_bag
from test.seg_perception.tiny_model import write_tiny_model

os.environ.update(TOKEN)  # before Ray is imported
pytest.importorskip("ray", reason="Ray is not installed: pip install 'seg_perception[ray]'")

LONG = 400  # frames of a recording whose worker can be met at work


@contextmanager
def started_head() -> Iterator[tuple[Cluster, subprocess.Popen[Any]]]:
    """A head of two CPU cores and its first process."""
    temporary = tempfile.mkdtemp(prefix="ray")  # short: its sockets' paths have to fit into 107 characters
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": temporary}
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block"),
            *("--object-store-memory=100000000", f"--temp-dir={temporary}"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Cluster(until(lambda: answering(port), "Ray's head"), environment), head
    finally:
        end(head)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started_head() as (started, _):
        yield started


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def without_times(out: Path) -> dict[str, Any]:
    content = fleet_json(out)
    for bag in content["bags"]:
        del bag["wall_s"]
    for failure in content["failures"]:
        failure["problem"] = failure["problem"].removesuffix(f" (on node {socket.gethostname()})")
    return content


def test_ray_gives_what_local_processes_give_and_goes_on_where_they_were(
    tmp_path: Path, model: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    bags, local, ray = tmp_path / "bags", tmp_path / "local", tmp_path / "ray"
    for seed in range(2):
        write_labelled_bag(bags / str(seed), seed, 0.2)
    (bags / "broken.mcap").write_bytes(b"no recording")
    compared = ("--compare", str(worse_model(model)))
    assert main(arguments(bags, model, local, "--workers", "2", *compared)) == 1
    assert main(arguments(bags, model, ray, *cluster.options(*compared))) == 1
    assert without_times(ray) == without_times(local)
    assert fleet_json(ray)["comparison"]["high"] < 0
    capsys.readouterr()
    (bags / "broken.mcap").unlink()
    assert main(arguments(bags, model, local, *cluster.options(*compared))) == 0  # needs no cluster: all is scored
    assert capsys.readouterr().out.startswith("resumed     4 scored before, 0 left")


def test_a_worker_killed_in_mid_bag_costs_nothing_the_first_time_and_its_recording_the_second(
    tmp_path: Path, model: Path, cluster: Cluster
) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    once = write_labelled_bag(bags / "once", 1, 0.3, LONG)
    write_labelled_bag(bags / "twice", 2, 0.3, LONG)
    killed: list[int] = []
    killed_too: list[int] = []
    hunters = [kill_at_work(bags / "once", 1, killed), kill_at_work(bags / "twice", 2, killed_too)]
    assert main(arguments(bags, model, out, *cluster.options())) == 1
    for hunter in hunters:
        hunter.join()
    assert (len(killed), len(killed_too)) == (1, 2)
    content = fleet_json(out)
    assert content["confusion"] == once.tolist()
    assert [(Path(one["bag"]).name, one["problem"]) for one in content["failures"]] == [
        ("twice", "its worker died 2 times, at last of a signal, lack of memory or a crash")
    ]


def test_a_killed_driver_leaves_no_worker_behind_and_the_next_goes_on(
    tmp_path: Path, model: Path, cluster: Cluster
) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    names = {"a": 4, "long": 10 * LONG}  # the driver may be seconds late to write, where it asks for the cluster's nodes
    counts = sum(
        write_labelled_bag(bags / name, seed, 0.3, frames) for seed, (name, frames) in enumerate(names.items())
    )
    given = arguments(bags, model, out, *cluster.options())
    with subprocess.Popen([sys.executable, "-m", "seg_perception.cli", *given], cwd=ROOT) as process:
        (done,) = until(lambda: list((out / "bags").glob("[!.]*.json")), "the first result")
        until(lambda: workers_at(bags), "a worker on the next recording")
        process.kill()
    assert not (out / "fleet.json").exists()
    before = done.stat().st_mtime_ns
    until(lambda: not workers_at(bags), "the end of the killed driver's workers")
    assert list((out / "bags").glob("[!.]*.json")) == [done]

    assert main(given) == 0
    assert fleet_json(out)["confusion"] == np.asarray(counts).tolist()
    assert done.stat().st_mtime_ns == before


def test_a_cluster_whose_head_dies_ends_the_driver_with_a_line(tmp_path: Path, model: Path) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    for seed in range(2):
        write_labelled_bag(bags / str(seed), seed, 0.3, 20 * LONG)
    program = (
        "import sys; from seg_perception.fleet import ray_executor; from seg_perception.cli import main; "
        "ray_executor.GONE_AFTER_S = ray_executor.LOOK_EVERY_S = 1.0; sys.exit(main(sys.argv[1:]))"
    )
    with started_head() as (started, head):
        given = [sys.executable, "-c", program, *arguments(bags, model, out, *started.options())]
        with subprocess.Popen(given, cwd=ROOT, stderr=subprocess.PIPE, text=True) as driver:
            until(lambda: workers_at(bags), "a worker")
            os.killpg(head.pid, signal.SIGKILL)
            error = driver.communicate(timeout=GENEROUS_S)[1]
    assert driver.returncode == 2, error
    assert "error: Ray's cluster is gone: its head does not answer: " in error.splitlines()[-1]


@pytest.fixture
def blind_node(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A second node, of three CPU cores, that sees nothing of the folder it gives."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a node that sees other files needs a mount namespace, which this machine refuses (unshare -rm)")
    script = f"mount -t tmpfs none '{hidden}' && exec '{RAY}' start --address={cluster.address} --num-cpus=3 --block"
    node = subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", script],
        env=cluster.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: joined(cluster, 2), "the second node")
        yield hidden
    finally:
        end(node)


def test_a_node_that_does_not_see_the_recordings_is_named_and_set_aside(
    tmp_path: Path, model: Path, cluster: Cluster, blind_node: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = sum(write_labelled_bag(blind_node / name, seed, 0.3) for seed, name in enumerate("abcd"))
    node = socket.gethostname()
    # Two cores a job: the head takes one job, the rest of the first four goes to the other node.
    assert main(arguments(blind_node, model, tmp_path / "out", *cluster.options("--threads", "2"))) == 0
    assert fleet_json(tmp_path / "out")["confusion"] == np.asarray(counts).tolist()
    error = capsys.readouterr().err
    assert (
        error.count(f"node {node} does not see recordings that others see and gets no more; mount their storage") == 1
    )

    # Three cores a job: the head has no room, so that none is left.
    assert main(arguments(blind_node, model, tmp_path / "none", *cluster.options("--threads", "3"))) == 1
    problems = [one["problem"] for one in fleet_json(tmp_path / "none")["failures"]]
    assert len(problems) == 4
    assert problems[0].startswith(
        f"nodes {node} do not see {blind_node}/a, and no other node is left: put recordings on"
    )

    # Its file system lacks the model as well, and has another one under the path: the driver's is sent.
    bags, hidden_model = tmp_path / "seen", blind_node / "tiny.onnx"
    counts = write_labelled_bag(bags / "e", 7, 0.3)
    shutil.copy(model, hidden_model)
    assert main(arguments(bags, hidden_model, tmp_path / "sent", *cluster.options("--threads", "3"))) == 0
    assert fleet_json(tmp_path / "sent")["confusion"] == counts.tolist()


def test_a_recording_that_is_nowhere_is_listed(tmp_path: Path, model: Path, cluster: Cluster) -> None:
    (tmp_path / "bags.txt").write_text("nowhere\nthere\n")
    counts = write_labelled_bag(tmp_path / "there", 1, 0.3)
    assert main(arguments(tmp_path / "bags.txt", model, tmp_path / "out", *cluster.options())) == 1
    content = fleet_json(tmp_path / "out")
    assert content["confusion"] == counts.tolist()
    (failure,) = content["failures"]
    assert failure["problem"].startswith(
        f"nodes {socket.gethostname()} do not see {tmp_path}/nowhere, nor does this machine"
    )


def test_a_ray_of_ones_own_writes_nothing_into_the_home_and_refuses_what_cannot_fit(
    tmp_path: Path, model: Path
) -> None:
    write_labelled_bag(tmp_path / "bags/a", 1, 0.3)
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(home / "cache")}
    for name in TOKEN:
        del environment[name]
    program = "import sys; from seg_perception.cli import main; print('code', main(sys.argv[1:]), main([*sys.argv[1:], *MORE]))"
    given = arguments(tmp_path / "bags", model, tmp_path / "out", "--ray", "--threads", "1")
    more = ["--max-frames", "1", "--threads", "1000"]
    done = subprocess.run(
        [sys.executable, "-c", program.replace("MORE", json.dumps(more)), *given],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=GENEROUS_S,
    )
    assert "code 0 2" in done.stdout, done.stderr
    assert "no node of Ray has the 1000 CPU cores and 0 GPUs that a job takes" in done.stderr
    assert not [str(file) for file in home.rglob("*") if file.is_file()]


def test_what_ray_lacks_is_one_line(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labelled_bag(tmp_path / "bags/a", 1, 0.3)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    nobody = ["--ray-address", f"127.0.0.1:{port}"]
    assert main(arguments(tmp_path / "bags", model, tmp_path / "out", *nobody)) == 2
    assert f"no Ray at 127.0.0.1:{port}: " in capsys.readouterr().err
    assert main(arguments(tmp_path / "bags", model, tmp_path / "out", "--gpus-per-worker", "1")) == 2
    assert "--gpus-per-worker is of --ray and --ray-address" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(arguments(tmp_path / "bags", model, tmp_path / "out", "--ray")) == 2
    error = capsys.readouterr().err
    assert "pip install 'seg_perception[ray]', or leave out --ray and --ray-address: one machine needs no Ray" in error
    assert len(error.splitlines()) == 1
