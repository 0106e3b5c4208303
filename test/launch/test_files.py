"""The launch files as Python: arguments, executables and files that they name; and what `--show-args` makes of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_perception.ros.parameters import PARAMETERS
from test.launch.launching import Launched

ROOT = Path(__file__).parents[2]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def test_the_launch_files_are_there() -> None:
    assert {path.name.partition(".")[0] for path in LAUNCH_FILES} >= {
        "demo",
        "evaluate",
        "multi_camera",
        "segmentation",
    }


@pytest.fixture(params=LAUNCH_FILES, ids=lambda path: path.name)
def tree(request: pytest.FixtureRequest) -> ast.Module:
    text = request.param.read_text(encoding="utf-8")
    compile(text, request.param, "exec")
    return ast.parse(text)


def calls(tree: ast.Module, *names: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def test_every_argument_is_described_and_has_a_default(tree: ast.Module) -> None:
    declared = calls(tree, "DeclareLaunchArgument")
    assert declared
    for call in declared:
        assert keyword(call, "default_value") is not None, ast.unparse(call)
        description = keyword(call, "description")
        assert description is not None, ast.unparse(call)
        assert len(ast.unparse(description)) > 15, ast.unparse(call)


def test_executables_are_those_that_the_package_installs(tree: ast.Module) -> None:
    scripts = set(re.findall(r'"(\w+) = [\w.]+:main"', (ROOT / "setup.py").read_text(encoding="utf-8")))
    nodes = calls(tree, "Node", "LifecycleNode", "ExecutableInPackage")
    assert nodes or calls(tree, "IncludeLaunchDescription")
    for call in nodes:
        package, executable = keyword(call, "package"), keyword(call, "executable")
        assert isinstance(package, ast.Constant)
        assert package.value == "seg_perception"
        assert isinstance(executable, ast.Constant)
        assert executable.value in scripts


def test_files_that_are_referred_to_exist(tree: ast.Module) -> None:
    paths = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"(launch|config|bags|models)/\S+", node.value)
    ]
    assert paths
    for path in paths:
        assert (ROOT / path).is_file(), path


def test_arguments_that_are_used_are_declared(tree: ast.Module) -> None:
    known = declared(tree)
    if calls(tree, "IncludeLaunchDescription"):
        included = (ROOT / "launch/segmentation.launch.py").read_text(encoding="utf-8")
        known |= declared(ast.parse(included))
    used = {ast.literal_eval(call.args[0]) for call in calls(tree, "LaunchConfiguration") if _is_text(call)}
    assert used <= known


def declared(tree: ast.Module) -> set[str]:
    """Names of a file's arguments; where some are declared in a loop, it is one over the node's parameters."""
    arguments = calls(tree, "DeclareLaunchArgument")
    names = {ast.literal_eval(call.args[0]) for call in arguments if _is_text(call)}
    return names if all(map(_is_text, arguments)) else names | {parameter.name for parameter in PARAMETERS}


def _is_text(call: ast.Call) -> bool:
    return isinstance(call.args[0], ast.Constant)


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda path: path.name)
def test_show_args_reads_well(launch: Callable[..., Launched], file: Path) -> None:
    run = launch(file.name, "--show-args")
    assert run.wait() == 0, run.output
    assert "Traceback" not in run.output
    described = re.findall(r"^    '(\w+)':\n        (.+)\n", run.output, re.MULTILINE)
    assert len(described) > 5
    for name, text in described:
        assert len(text) > 15, name
        assert "no description given" not in text, name
        assert "e+0" not in text, name  # a number that nobody reads
        assert len(text) < 500, name


def test_what_can_only_be_some_values_is_offered_as_choices(launch: Callable[..., Launched]) -> None:
    run = launch("segmentation.launch.py", "--show-args")
    assert run.wait() == 0, run.output
    texts = dict(re.findall(r"^    '(\w+)':\n        (.+)\n", run.output, re.MULTILINE))
    for parameter in PARAMETERS:
        choices = ["true", "false"] if isinstance(parameter.default, bool) else list(parameter.choices)
        assert (f"Valid choices are: {['', *choices]}" in texts[parameter.name]) == bool(choices), parameter.name


def test_a_value_that_is_no_choice_is_refused_before_anything_is_started(launch: Callable[..., Launched]) -> None:
    run = launch("segmentation.launch.py", "engine:=steam")
    assert run.wait() == 1
    assert '"steam"' in run.output
    assert "onnxruntime" in run.output
    assert "process started" not in run.output
