"""Every call of TensorRT is one that TensorRT 10.13 has: mypy against its stubs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PACKAGE = ROOT / "seg_perception" / "engines" / "tensorrt"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stubs of `tensorrt`, where mypy finds them, with what is no Python in them left out."""
    try:
        found = files("tensorrt-stubs") or []
    except PackageNotFoundError:
        pytest.skip("needs `pip install --no-deps tensorrt-stubs==10.13.0.35.1`")
    folder = tmp_path_factory.mktemp("stubs")
    for file in found:
        if file.suffix == ".pyi":
            target = folder / str(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(valid_parts(Path(str(file.locate())).read_text()))
    return folder


def valid_parts(source: str) -> str:
    """The stubs' generator wrote C++ signatures and wrong orders of defaults into a few plug-in classes and methods."""
    kept = []
    for part in re.split(r"(?m)^(?=class |def )", source):
        if is_python(part):
            kept.append(part)
        else:
            methods = re.findall(r"(?m)(?:^    @.*\n)*^    def .*\n(?:^(?: {8}.*)?\n)*", part)
            kept += [part.splitlines()[0] + "\n", *(m for m in methods if is_python("class C:\n" + m)), "    ...\n"]
    return "".join(kept)


def is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def mypy(stubs: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy", reason="pip install mypy")
    configuration = stubs / "mypy.ini"
    configuration.write_text(
        f"[mypy]\nmypy_path = {stubs}:{ROOT}\nignore_missing_imports = true\ncheck_untyped_defs = true\n"
        f"follow_imports = silent\nfollow_imports_for_stubs = true\nstrict_optional = true\ncache_dir = {stubs}/cache\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(configuration), *map(str, files)]
    return subprocess.run(command, cwd=stubs, capture_output=True, text=True, check=False)


def test_every_call_is_one_that_tensorrt_has(stubs: Path, tmp_path: Path) -> None:
    done = mypy(stubs, *sorted(PACKAGE.glob("*.py")))
    assert done.returncode == 0, done.stdout
    # That this test can fail: the stubs are really used, and a call that does not exist is found.
    wrong = tmp_path / "wrong.py"
    text = (PACKAGE / "building_calls.py").read_text()
    wrong.write_text(text.replace("builder.build_serialized_network(", "builder.build_cuda_engine("))
    done = mypy(stubs, wrong)
    assert '"Builder" has no attribute "build_cuda_engine"' in done.stdout
