"""Real builds by TensorRT for RTX, which needs no GPU for that, and every way in which a build can end."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt import build as build_module
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.build import BuildRequest, half_model
from seg_perception.engines.tensorrt.build_process import BuildError, build_in_process
from seg_perception.engines.tensorrt.cache import EngineCache
from seg_perception.engines.tensorrt.module import TensorRtError
from seg_perception.engines.tensorrt.options import BuildOptions
from seg_perception.engines.tensorrt.prepare import Preparation
from seg_perception.engines.tensorrt.progress import BuildProgress
from test.seg_perception.engines.tensorrt.software_cuda import Described, NoDevice
from test.seg_perception.engines.tensorrt.test_api import AsTensorRt
from test.seg_perception.tiny_model import write_tiny_model
from test.seg_perception.waiting import wait_until

ROOT = Path(__file__).parents[4]
SHIPPED = ROOT / "models" / "rooms_spt_lite0.onnx"  # takes some seconds to build: time enough to be killed in


def request(model: Path, out: Path, **options) -> BuildRequest:
    return BuildRequest(model, BuildOptions(**options), "tensorrt_rtx", out)


def ignore(progress: BuildProgress) -> None:
    pass


def children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("precision", "batch"), [("fp32", 1), ("fp16", 4), ("best", 2)])
def test_an_engine_is_built_and_its_progress_told(
    tensorrt: TensorRt, model: Path, tmp_path: Path, precision: str, batch: int
) -> None:
    told: list[BuildProgress] = []
    out = tmp_path / "engine"
    build_in_process(request(model, out, precision=precision, max_batch=batch, workspace_mb=64), told.append)
    assert out.read_bytes()[1:4] == b"trt"  # TensorRT's own mark
    assert told[0].phase == "reading the model"
    assert "Building engine" in {progress.phase for progress in told}
    assert [p.share for p in told] == sorted(p.share for p in told)
    assert told[-1].share == 1.0
    assert all(a.elapsed_s <= b.elapsed_s for a, b in itertools.pairwise(told))


def test_relative_paths_are_those_of_the_caller_and_code_in_its_folder_is_not_run(
    tensorrt: TensorRt, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(model.read_bytes())
    Path("tensorrt_rtx.py").write_text("raise SystemExit('somebody else wrote this')")
    build_in_process(request(Path("m.onnx"), Path("engine")), ignore)
    assert Path("engine").stat().st_size > 1000


def test_inner_tensors_become_outputs_where_the_network_has_them(
    tensorrt: TensorRt, model: Path, tmp_path: Path
) -> None:
    wanted = BuildRequest(
        model, BuildOptions(), "tensorrt_rtx", tmp_path / "engine", outputs=("weighted", "labels", "no such tensor")
    )
    assert build_in_process(wanted, ignore) == ["weighted"]


def test_half_floats_come_from_a_float32_file_or_an_exported_one(tmp_path: Path) -> None:
    half = onnx.load_from_string(half_model(SHIPPED))
    onnx.checker.check_model(half)
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in half.graph.initializer)
    with pytest.raises(ValueError, match="no node makes nothing_like_it, which should stay float32"):
        half_model(SHIPPED, ["nothing_like_it"])
    exported = write_tiny_model(tmp_path / "m.onnx", changes={"precision": "float16"})
    assert build_module.typed_model(exported, BuildOptions("fp16"), lambda phase, share: None) == exported
    assert build_module.typed_model(exported, BuildOptions("best"), lambda phase, share: None) == exported
    with pytest.raises(ValueError, match="is float16 already; tensors can be kept in fp32 only where a float32 file"):
        build_module.typed_model(exported, BuildOptions("fp16", keep_fp32=("weighted",)), lambda phase, share: None)


def test_without_the_onnx_package_the_way_to_half_floats_is_said(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError, match=r"pip install onnx.*--precision float16"):
        half_model(model)


@pytest.mark.parametrize(
    ("file", "asked", "said"),
    [
        ("float16", "fp32", "computes in float16, asked for fp32; build it with --precision fp16 or best"),
        ("float32", "int8", "export it with `python -m seg_models.export --precision int8 --calibration DIR`"),
        ("int8", "fp16", "computes in int8, asked for fp16"),
    ],
)
def test_a_precision_that_the_file_cannot_give_is_refused(tmp_path: Path, file: str, asked: str, said: str) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", changes={"precision": file})
    with pytest.raises(ValueError, match=said):
        build_module.typed_model(path, BuildOptions(asked), lambda phase, share: None)


def test_a_model_that_tensorrt_cannot_read_gives_one_line_that_names_the_node(
    tensorrt: TensorRt, tmp_path: Path, model: Path
) -> None:
    proto = onnx.load(str(model))
    node = next(node for node in proto.graph.node if node.op_type == "Mul")
    node.op_type, node.name, node.domain = "Unheard", "the_odd_one", "elsewhere"
    proto.opset_import.append(helper.make_opsetid("elsewhere", 1))
    odd = tmp_path / "odd.onnx"
    onnx.save(proto, odd)
    with pytest.raises(BuildError, match="the_odd_one") as caught:
        build_in_process(request(odd, tmp_path / "engine"), ignore)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"dla_core": 0}, BuildError, "DLA core 0 was asked for, tensorrt_rtx .* finds 0 on this machine"),
        ({"compute_capability": (8, 7)}, BuildError, r"compute capability is 8\.7, .* builds for: .*8\.9"),
        ({"max_batch": 3}, ValueError, "is fixed to a batch of 1, asked for 1 to 3"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    tensorrt: TensorRt, tmp_path: Path, options: dict, kind: type[Exception], said: str
) -> None:
    fixed = write_tiny_model(tmp_path / "m.onnx", batch=1)
    with pytest.raises(kind, match=said):
        build_in_process(request(fixed, tmp_path / "engine", **options), ignore)


def test_an_engine_for_another_gpu(tensorrt: TensorRt, tmp_path: Path, model: Path) -> None:
    build_in_process(request(model, tmp_path / "engine", compute_capability=(8, 9)), ignore)
    assert (tmp_path / "engine").stat().st_size > 1000


def test_a_builder_that_is_killed_for_memory_is_one_line(tensorrt: TensorRt, tmp_path: Path) -> None:
    def kill(progress: BuildProgress) -> None:
        for child in children(os.getpid()):
            if b"build_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                assert Path(f"/proc/{child}/oom_score_adj").read_text().strip() == "800"  # the kernel's first choice
                os.kill(child, signal.SIGKILL)

    with pytest.raises(BuildError, match=r"the builder was killed after .* s, as the system does when memory runs out"):
        build_in_process(request(SHIPPED, tmp_path / "engine"), kill)
    assert not (tmp_path / "engine").exists()


def test_a_builder_that_crashes_is_one_line(tensorrt: TensorRt, tmp_path: Path, model: Path) -> None:
    def crash(progress: BuildProgress) -> None:
        for child in children(os.getpid()):
            os.kill(child, signal.SIGSEGV)

    with pytest.raises(BuildError, match=r"the builder crashed after \d+ s .SIGSEGV"):
        build_in_process(request(model, tmp_path / "engine"), crash)


def test_a_builder_that_does_not_start_says_why(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('this Python is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        BuildError, match=r"ended after \d+ s with exit code 1; the last it said: .*this Python is broken"
    ):
        build_in_process(request(model, tmp_path / "engine"), ignore)


def test_a_build_has_a_time_limit_and_can_be_stopped(tensorrt: TensorRt, tmp_path: Path) -> None:
    told: list[BuildProgress] = []
    before = children(os.getpid())  # of earlier tests: servers of multiprocessing
    with pytest.raises(BuildError, match=r"was ended after \d+ s, its time limit"):
        build_in_process(request(SHIPPED, tmp_path / "engine", timeout_s=0.3), told.append)
    with pytest.raises(BuildError, match="was stopped"):
        build_in_process(request(SHIPPED, tmp_path / "engine"), told.append, stopped=lambda: True)
    assert not (tmp_path / "engine").exists()  # it was not waited for
    assert set(children(os.getpid())) <= set(before)


PREPARE = """
import sys, logging
from pathlib import Path
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cache import EngineCache
from seg_perception.engines.tensorrt.options import BuildOptions
from seg_perception.engines.tensorrt.prepare import Preparation
from test.seg_perception.engines.tensorrt.software_cuda import Described, NoDevice
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
tell = lambda progress: print("progress", flush=True)
preparation = Preparation(EngineCache(Path(sys.argv[1])), TensorRt.load("tensorrt_rtx"), NoDevice(), tell)
engine = preparation.engine(Path(sys.argv[2]), BuildOptions(precision=sys.argv[3]))
print("built" if engine.built else "found", engine.manifest["sha256"], flush=True)
"""


def preparing_process(cache: EngineCache, model: Path, precision: str = "fp32") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, str(cache.folder), str(model), precision]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_build_once(tensorrt: TensorRt, cache: EngineCache, model: Path) -> None:
    first, second = (preparing_process(cache, model) for _ in range(2))
    texts = [process.communicate(timeout=60)[0] for process in (first, second)]
    last = sorted(text.strip().splitlines()[-1] for text in texts)
    assert [line.split()[0] for line in last] == ["built", "found"]
    assert last[0].split()[1] == last[1].split()[1]
    waiter = next(text for text in texts if "found" in text)
    assert "waiting for process" in waiter or "comes from the cache" in waiter
    assert cache.problems() == {}


def test_a_process_killed_in_mid_build_leaves_no_engine_no_child_and_no_lock(
    tensorrt: TensorRt, cache: EngineCache, model: Path
) -> None:
    process = preparing_process(cache, SHIPPED)
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "progress\n":
        assert line, "it ended before it built"
    (builder,) = children(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: state(builder) == "Z", 30, "the end of the builder")
    assert cache.entries() == []
    assert not list(cache.folder.glob("*.engine"))
    # The next one builds at once, the lock being free, and clears up.
    preparation = Preparation(cache, tensorrt, NoDevice(), ignore)
    engine = preparation.engine(model, BuildOptions())
    assert engine.built
    again = preparation.engine(model, BuildOptions())
    assert not again.built
    assert again.plan == engine.plan


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_damaged_engine_is_built_again_by_itself(
    tensorrt: TensorRt, cache: EngineCache, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    preparation = Preparation(cache, tensorrt, NoDevice(), ignore)
    engine = preparation.engine(model, BuildOptions())
    path = cache.folder / f"{engine.name}.engine"
    path.write_bytes(engine.plan[:-10] + b"\0" * 10)
    again = preparation.engine(model, BuildOptions())
    assert again.built
    assert "digest differs" in caplog.text
    assert cache.problems() == {}
    assert json.loads((cache.folder / f"{engine.name}.json").read_text())["model"] == "tiny.onnx"


def test_a_cache_that_cannot_be_written_is_one_line(
    tensorrt: TensorRt, cache: EngineCache, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(cache.folder))

    monkeypatch.setattr("seg_perception.engines.tensorrt.cache.os.replace", full)
    with pytest.raises(TensorRtError, match=r"cannot be made in .*engines: .*No space left on device.*; see to that"):
        Preparation(cache, tensorrt, NoDevice(), ignore).engine(model, BuildOptions())
    assert not list(cache.folder.glob(".*.partial"))
    assert cache.entries() == []
    with pytest.raises(BuildError, match=r"the engine cannot be written: .*Is a directory"):
        build_in_process(request(model, cache.folder), ignore)


def test_full_tensorrt_without_a_gpu_says_what_is_missing(cache: EngineCache, model: Path) -> None:
    class Module:
        """The name and version of JetPack 6's TensorRT; nothing else of it is asked for before the device."""

        __name__ = "tensorrt"
        __version__ = "10.3.0"

        class ILogger:
            def __init__(self) -> None:
                pass

    preparation = Preparation(cache, TensorRt(Module, "tensorrt"), NoDevice(), ignore)
    with pytest.raises(TensorRtError, match="tensorrt needs a GPU to build for: no NVIDIA driver is loaded"):
        preparation.engine(model, BuildOptions())


FULL_TENSORRT = """
import sys
from tensorrt_rtx import *
__version__ = "10.13.0.35"
print("timing cache in use", file=sys.stderr)
"""


def test_what_one_build_measured_is_kept_for_the_next(
    tensorrt: TensorRt, cache: EngineCache, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of `tensorrt`, whose timing cache TensorRT for RTX has for its calls alone, in the builder's process."""
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text(FULL_TENSORRT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    full = TensorRt(AsTensorRt(), "tensorrt")
    preparation = Preparation(cache, full, Described(), ignore)
    assert preparation.engine(model, BuildOptions()).built
    (timing,) = cache.folder.glob("timing-*.cache")
    kept = cache.kept(timing.name)
    assert kept
    given: list[bytes] = []

    def noted(request: BuildRequest, *arguments: Any) -> list[str]:
        assert request.timing_in is not None
        given.append(request.timing_in.read_bytes())
        return build_in_process(request, *arguments)

    monkeypatch.setattr("seg_perception.engines.tensorrt.prepare.build_in_process", noted)
    assert preparation.engine(model, BuildOptions(max_batch=2)).built  # another engine of the same machine
    assert given == [kept]
    assert not list(cache.folder.glob(".*.partial"))
