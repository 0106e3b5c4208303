"""What is installed: versions, files, commands and pins agree with each other."""

from __future__ import annotations

import ast
import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUP = (ROOT / "setup.py").read_text()


def setup_value(name: str) -> object:
    """A literal argument of setup(), or a literal assigned in setup.py."""
    for node in ast.walk(ast.parse(SETUP)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup":
            for keyword in node.keywords:
                if keyword.arg == name:
                    return ast.literal_eval(keyword.value)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py has no {name}")


def test_the_version_is_the_same_everywhere():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    versions = {str(setup_value("version")), package.findtext("version")}
    versions |= {importlib.import_module(name).__version__ for name in ("seg_models", "seg_perception")}
    assert len(versions) == 1, versions
    assert f"## {versions.pop()}" in (ROOT / "CHANGELOG.md").read_text()


def test_package_xml_is_format_3_and_ament_python():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.get("format") == "3"
    assert package.findtext("name") == "seg_perception"
    assert package.findtext("export/build_type") == "ament_python"
    assert {"rclpy", "cv_bridge", "launch_ros"} <= {e.text for e in package.findall("exec_depend")}


def test_commands_exist():
    scripts = setup_value("entry_points")
    assert isinstance(scripts, dict)
    for line in scripts["console_scripts"]:
        command, target = (part.strip() for part in line.split("="))
        module, function = target.split(":")
        if module.endswith("node"):
            pytest.importorskip("rclpy", reason="the node's command needs rclpy")
        assert callable(getattr(importlib.import_module(module), function)), command


def test_every_requirement_is_pinned():
    pins = {
        re.split(r"[=<>! ;]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    extras = setup_value("EXTRAS")
    assert isinstance(extras, dict)
    required = setup_value("install_requires")
    assert isinstance(required, list)
    wanted = [r for group in extras.values() for r in group] + required
    missing = [r for r in wanted if re.split(r"[=<>! ;]", r)[0].lower().replace("_", "-") not in pins]
    assert missing == []
