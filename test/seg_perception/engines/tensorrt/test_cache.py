from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from seg_perception.engines.tensorrt.cache import EngineCache, default_folder
from seg_perception.engines.tensorrt.key import EngineKey, driver_description
from seg_perception.engines.tensorrt.options import BuildOptions
from seg_perception.engines.tensorrt.private_files import UntrustedFileError
from test.seg_perception.engines.tensorrt.software_cuda import Described, NoDevice

KEY = EngineKey("aa" * 32, "tensorrt", "10.3.0", "Orin", "8.7", "CUDA 12.6", BuildOptions().key_fields())
PLAN = b"engine" * 1000
NAME = KEY.name(Path("rooms.onnx"))


def stored(cache: EngineCache, key: EngineKey = KEY, plan: bytes = PLAN) -> str:
    name = key.name(Path("rooms.onnx"))
    partial = cache.partial(name)
    partial.write_bytes(plan)
    cache.store(name, key, partial, {"model": "rooms.onnx", "build_s": 1.0})
    return name


def test_what_was_stored_is_found_whole(cache: EngineCache) -> None:
    assert cache.find(NAME, KEY).reason == "there is none yet"
    assert stored(cache) == NAME
    found = cache.find(NAME, KEY)
    assert found.plan == PLAN
    assert found.manifest["model"] == "rooms.onnx"
    assert cache.problems() == {}
    assert oct(cache.folder.stat().st_mode & 0o777) == "0o700"
    assert {oct(path.stat().st_mode & 0o777) for path in cache.folder.iterdir()} == {"0o600"}


@pytest.mark.parametrize("where", [0, len(PLAN) // 2, len(PLAN) - 1])
def test_one_changed_bit_is_not_run(cache: EngineCache, where: int) -> None:
    path = cache.folder / f"{stored(cache)}.engine"
    changed = bytearray(PLAN)
    changed[where] ^= 1
    path.write_bytes(changed)
    found = cache.find(NAME, KEY)
    assert found.plan is None
    assert "digest differs" in found.reason
    assert "digest differs" in cache.problems()[path.name]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda plan, manifest: plan.write_bytes(PLAN[:-1]), "it has 5999 bytes, its manifest says 6000"),
        (lambda plan, manifest: plan.write_bytes(b""), "it has 0 bytes"),
        (lambda plan, manifest: plan.unlink(), "there is none yet"),
        (lambda plan, manifest: manifest.unlink(), "there is none yet"),
        (lambda plan, manifest: manifest.write_bytes(b""), "is damaged"),
        (lambda plan, manifest: manifest.write_text("{}"), "is not of format 1"),
        (lambda plan, manifest: manifest.write_text('{"format": 1}'), "has no key"),
        (lambda plan, manifest: manifest.write_bytes(b"\xff\xfe"), "is damaged"),
        (lambda plan, manifest: plan.chmod(0o660), "other users can write"),
        (lambda plan, manifest: manifest.chmod(0o602), "other users can write"),
        (lambda plan, manifest: (plan.unlink(), plan.symlink_to(manifest)), "is a link"),
        (lambda plan, manifest: (plan.unlink(), os.mkfifo(plan)), "is no plain file"),
    ],
)
def test_a_damaged_or_foreign_file_is_not_used_and_the_reason_is_said(cache: EngineCache, damage, reason: str) -> None:
    name = stored(cache)
    damage(cache.folder / f"{name}.engine", cache.folder / f"{name}.json")
    found = cache.find(NAME, KEY)
    assert found.plan is None
    assert reason in found.reason
    stored(cache)  # built again, it is good again
    assert cache.find(NAME, KEY).plan == PLAN


def test_a_manifest_of_another_key_under_this_name_is_not_believed(cache: EngineCache) -> None:
    path = cache.folder / f"{stored(cache)}.json"
    manifest = json.loads(path.read_text())
    manifest["key"]["gpu"] = "Thor"
    path.write_text(json.dumps(manifest))
    assert "for another key" in cache.find(NAME, KEY).reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_another_users_files_are_not_used(cache: EngineCache) -> None:
    path = cache.folder / f"{stored(cache)}.engine"
    os.chown(path, 12345, -1)
    assert "belongs to user 12345" in cache.find(NAME, KEY).reason
    os.chown(cache.folder, 12345, -1)
    with pytest.raises(UntrustedFileError, match="belongs to user 12345"):
        EngineCache(cache.folder)


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UntrustedFileError, match="other users can write"):
        EngineCache(folder)
    with pytest.raises(UntrustedFileError, match=r"everyone can write .*shared, and so replace"):
        EngineCache(folder / "engines")
    folder.chmod(0o1777)  # as /tmp: others cannot rename what is not theirs
    EngineCache(folder / "engines")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"onnx_sha256": "bb" * 32}, "another model file"),
        ({"version": "10.13.0"}, "version 10.13.0 instead of 10.3.0"),
        ({"module": "tensorrt_rtx"}, "module tensorrt_rtx instead of tensorrt"),
        ({"gpu": "Thor", "compute_capability": "11.0"}, "gpu Thor instead of Orin"),
        ({"driver": "CUDA 13.0"}, "driver CUDA 13.0 instead of CUDA 12.6"),
        ({"options": BuildOptions(max_batch=4).key_fields()}, "max_batch 4 instead of 1"),
        ({"options": BuildOptions(workspace_mb=256).key_fields()}, "workspace_mb 256 instead of 0"),
        ({"outputs": ("x",)}, "other outputs"),
    ],
)
def test_another_key_is_another_engine_and_the_log_says_what_differs(cache: EngineCache, change, said: str) -> None:
    stored(cache)
    other = replace(KEY, **change)
    assert other.digest != KEY.digest
    found = cache.find(other.name(Path("rooms.onnx")), other)
    assert found.plan is None
    assert said in found.reason


def test_an_agreement_goes_with_the_engine_that_it_is_of(cache: EngineCache) -> None:
    name = stored(cache)
    first = cache.find(name, KEY).manifest
    cache.note_agreement(name, first, {"labels": 1.0})
    assert cache.find(name, KEY).manifest["agreement"] == {"labels": 1.0}
    stored(cache, plan=b"another engine" * 100)  # built anew by another process
    cache.note_agreement(name, first, {"labels": 1.0})
    found = cache.find(name, KEY)
    assert (found.plan, found.manifest["agreement"]) == (b"another engine" * 100, None)
    cache.remove(name)
    cache.note_agreement(name, first, {"labels": 1.0})
    assert cache.entries() == []
    assert cache.problems() == {}


def test_the_key_holds_what_this_machine_is(tmp_path: Path, tensorrt) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"weights")
    key = EngineKey.of(model, tensorrt, Described(driver=12060), BuildOptions())
    assert key.onnx_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (key.module, key.version) == ("tensorrt_rtx", tensorrt.version)
    assert (key.gpu, key.compute_capability) == ("Orin", "8.7")
    assert EngineKey.of(model, tensorrt, NoDevice(), BuildOptions()).gpu == "none"
    assert EngineKey.of(model, tensorrt, Described(), BuildOptions(timeout_s=1)).digest == key.digest
    release = tmp_path / "version"
    release.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  560.35.03  Fri Aug 16 21:39:15 UTC 2024\n")
    assert driver_description(Described(), release) == "560.35.03, CUDA 12.6"
    assert driver_description(Described(), tmp_path / "none") == "CUDA 12.6"
    assert driver_description(NoDevice(), release) == "none"


def test_the_least_recently_used_engine_goes_first(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines", limit_mb=1)
    keys = [replace(KEY, driver=str(i)) for i in range(3)]
    names = []
    for i, key in enumerate(keys[:2]):
        names.append(stored(cache, key, bytes(400_000)))
        os.utime(cache.folder / f"{names[i]}.json", (i + 1, i + 1))
    assert cache.find(names[0], keys[0]).plan is not None  # used: now the second is the older
    names.append(stored(cache, keys[2], bytes(400_000)))
    assert {entry.name for entry in cache.entries()} == {names[0], names[2]}
    assert not (cache.folder / f"{names[1]}.engine").exists()
    large = stored(cache, KEY, bytes(2_000_000))  # larger than the limit: it stays, alone
    assert [entry.name for entry in cache.entries()] == [large]


def test_leftovers_of_a_killed_build_are_no_engine_and_go(cache: EngineCache) -> None:
    left = cache.folder / f".{NAME}.engine.4711.partial"
    left.write_bytes(PLAN)
    orphan = cache.folder / f"{NAME}.engine"  # killed between the two renames
    orphan.write_bytes(PLAN)
    assert cache.find(NAME, KEY).plan is None
    assert "left by a build" in cache.problems()[left.name]
    assert "no manifest" in cache.problems()[orphan.name]
    cache.partial(NAME)
    assert not left.exists()
    assert cache.clear() == 1
    assert list(cache.folder.iterdir()) == []


def test_clear_leaves_a_build_in_hand_alone(cache: EngineCache) -> None:
    with cache.lock(NAME, lambda holder: None):
        partial = cache.partial(NAME)
        partial.write_bytes(PLAN)
        cache.clear()
        cache.store(NAME, KEY, partial, {"model": "rooms.onnx", "build_s": 1.0})
    assert cache.find(NAME, KEY).plan == PLAN


def test_a_timing_cache_comes_back_unless_it_is_damaged(cache: EngineCache) -> None:
    assert cache.kept("timing-1.cache") == b""
    cache.keep("timing-1.cache", b"measured")
    assert cache.kept("timing-1.cache") == b"measured"
    path = cache.folder / "timing-1.cache"
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.kept("timing-1.cache") == b""
    path.write_bytes(b"")
    assert cache.kept("timing-1.cache") == b""


def test_the_agreement_is_kept_with_the_engine(cache: EngineCache) -> None:
    stored(cache)
    cache.note_agreement(NAME, cache.find(NAME, KEY).manifest, {"labels": 0.999})
    found = cache.find(NAME, KEY)
    assert found.plan == PLAN
    assert found.manifest["agreement"] == {"labels": 0.999}


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEG_PERCEPTION_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "seg_perception" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification: to be ignored
    assert default_folder() == Path.home() / ".cache" / "seg_perception" / "engines"
    monkeypatch.setenv("SEG_PERCEPTION_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
