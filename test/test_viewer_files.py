"""The files for RViz and Foxglove: panels, settings and topics that the programs know, and that the node has.

What the programs know is taken from their sources:
RViz: ros2/rviz, branch jazzy, commit 591594ee5ae37122fd27c48ca349f7c71c2ccf19.
Foxglove: the open-source line of the application, lichtblick-suite/lichtblick, commit
66adecb99ca4363b1028c750919c9046609f5c85.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
RVIZ = ROOT / "config/rviz/segmentation.rviz"
FOXGLOVE = ROOT / "config/foxglove/segmentation.json"
RVIZ_SEVERAL = ROOT / "config/rviz/multi_camera.rviz"
FOXGLOVE_SEVERAL = ROOT / "config/foxglove/multi_camera.json"
NODE, CAMERA = "/segmentation", "/camera/image_raw"
CAMERAS = ("front", "rear")  # of multi_camera.launch.py without arguments

# rviz_common/src/rviz_common/properties/qos_profile_property.cpp, 45-61 the policies and 69-101 the names; "Filter size" of
# displays with a message filter: rviz_common/include/rviz_common/message_filter_display.hpp, 68.
QOS = {
    "History Policy": {"System Default", "Keep Last", "Keep All"},
    "Reliability Policy": {"System Default", "Reliable", "Best Effort"},
    "Durability Policy": {"System Default", "Transient Local", "Volatile"},
}
EVERY_DISPLAY = {"Class", "Name", "Enabled", "Value"}
DISPLAYS: dict[str, tuple[str, set[str]]] = {
    # rviz_default_plugins/plugins_description.xml, 72; settings as in rviz_common/default.rviz
    "rviz_default_plugins/Grid": (
        "",
        {"Alpha", "Cell Size", "Color", "Line Style", "Normal Cell Count", "Offset", "Plane", "Plane Cell Count"}
        | {"Reference Frame"},
    ),
    # plugins_description.xml, 115 and 122; displays/image/image_display.cpp, 73-94
    "rviz_default_plugins/Image": (
        "sensor_msgs/Image",
        {"Topic", "Normalize Range", "Min Value", "Max Value", "Median window"},
    ),
    # plugins_description.xml, 169; displays/pointcloud/point_cloud_common.cpp, 101-155;
    # displays/pointcloud/transformers/intensity_pc_transformer.cpp, 141-179
    "rviz_default_plugins/PointCloud2": (
        "sensor_msgs/PointCloud2",
        {"Topic", "Selectable", "Style", "Size (m)", "Size (Pixels)", "Alpha", "Decay Time", "Position Transformer"}
        | {"Color Transformer", "Channel Name", "Use rainbow", "Invert Rainbow", "Min Color", "Max Color"}
        | {"Autocompute Intensity Bounds", "Min Intensity", "Max Intensity", "Use Fixed Frame"},
    ),
}
STYLES = {"Points", "Squares", "Flat Squares", "Spheres", "Boxes", "Tiles"}  # point_cloud_common.cpp, 109-114
# displays/image/ros_image_texture.cpp, 444-479
RVIZ_ENCODINGS = {"rgb8", "rgba8", "8UC4", "bgra8", "8UC3", "bgr8", "8UC1", "mono8", "16UC1", "mono16", "32FC1"}

# packages/suite-base/src/panels/index.ts, 38-206: panel types; settings of those that are used:
PANELS: dict[str, set[str]] = {
    "Image": {"cameraState", "imageMode"},
    # ThreeDeeRender/IRenderer.ts, 119-193
    "3D": {"cameraState", "followTf", "followMode", "scene", "publish", "transforms", "topics", "layers", "imageMode"},
    # Plot/utils/config.ts
    "Plot": {"paths", "minXValue", "maxXValue", "minYValue", "maxYValue", "showLegend", "legendDisplay", "isSynced"}
    | {"showPlotValuesInLegend", "showXAxisLabels", "showYAxisLabels", "xAxisVal"},
    "DiagnosticSummary": {"minLevel", "pinnedIds", "topicToRender", "hardwareIdFilter", "sortByLevel"},
}
TITLES = {"foxglovePanelTitle", "lichtblickPanelTitle"}  # util/layout.ts, 49, and Foxglove's own
# ThreeDeeRender/IRenderer.ts, 99-117, and renderables/colorMode.ts, 26-35
IMAGE_MODE = {"imageTopic", "calibrationTopic", "synchronize", "minValue", "maxValue", "colorMode", "colorMap"}
# renderables/Images/decodeImage.ts: one channel of 16 bits takes a gradient or a colour map (225-232)
POINT_SETTINGS = {"visible", "colorMode", "colorField", "colorMap", "minValue", "maxValue", "pointSize", "pointShape"}


def contract() -> dict[str, str]:
    """Topics of the node's outputs and what docs/node.md says of their type, by absolute name."""
    rows = re.findall(r"^\| `~/(\w+)` \| (.+?) \|", (ROOT / "docs/node.md").read_text(encoding="utf-8"), re.MULTILINE)
    topics = {f"{NODE}/{name}": kind for name, kind in rows}
    assert {f"{NODE}/{name}" for name in ("labels", "confidence", "superpixels", "overlay", "points")} <= topics.keys()
    return topics


@pytest.fixture(scope="module", params=[RVIZ, RVIZ_SEVERAL], ids=lambda path: path.name)
def any_rviz(request: pytest.FixtureRequest) -> Any:
    return yaml.safe_load(request.param.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=[FOXGLOVE, FOXGLOVE_SEVERAL], ids=lambda path: path.name)
def any_layout(request: pytest.FixtureRequest) -> Any:
    return json.loads(request.param.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rviz() -> Any:
    return yaml.safe_load(RVIZ.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def layout() -> Any:
    return json.loads(FOXGLOVE.read_text(encoding="utf-8"))


def displays(rviz: Any) -> list[dict[str, Any]]:
    return rviz["Visualization Manager"]["Displays"]


def test_rviz_knows_every_display_and_each_of_its_settings(any_rviz: Any):
    assert displays(any_rviz)
    for display in displays(any_rviz):
        _, settings = DISPLAYS[display["Class"]]
        assert display.keys() <= settings | EVERY_DISPLAY, display["Name"]
        assert display["Enabled"] == display["Value"]
        if "Style" in display:
            assert display["Style"] in STYLES
    names = [display["Name"] for display in displays(any_rviz)]
    assert len(set(names)) == len(names)


def test_rviz_subscribes_so_that_drivers_and_the_node_match(any_rviz: Any):
    for display in displays(any_rviz):
        topic = display.get("Topic")
        if topic is None:
            continue
        assert topic.keys() == {"Value", "Depth", *QOS} | (
            {"Filter size"} if display["Class"].endswith("PointCloud2") else set()
        )
        for policy, known in QOS.items():
            assert topic[policy] in known
        # A best-effort, volatile subscription matches every publisher.
        assert (topic["Reliability Policy"], topic["Durability Policy"]) == ("Best Effort", "Volatile")


def test_rviz_shows_the_nodes_topics_as_what_they_are(rviz: Any):
    shown = {d["Topic"]["Value"]: DISPLAYS[d["Class"]][0] for d in displays(rviz) if "Topic" in d}
    assert shown.keys() == {
        CAMERA,
        *(f"{NODE}/{n}" for n in ("overlay", "labels", "superpixels", "confidence", "points")),
    }
    for topic, kind in shown.items():
        if topic == CAMERA:
            continue
        declared = contract()[topic]
        assert declared.startswith(kind), topic
        if kind == "sensor_msgs/Image":
            assert declared.split(", ")[1] in RVIZ_ENCODINGS


def test_rviz_shows_both_cameras_of_the_launch_file(any_rviz: Any):
    shown = {d["Topic"]["Value"]: DISPLAYS[d["Class"]][0] for d in displays(any_rviz) if "Topic" in d}
    if f"{NODE}/overlay" in shown:
        return  # of one camera; see above
    outputs = {f"{NODE}/{camera}/{output}" for camera in CAMERAS for output in ("overlay", "labels", "points")}
    assert shown.keys() == {f"/{camera}/image_raw" for camera in CAMERAS} | outputs
    for topic in outputs:
        assert contract()[f"{NODE}/{topic.rpartition('/')[2]}"].startswith(shown[topic])


def test_rviz_colours_points_by_a_field_that_the_cloud_has(any_rviz: Any):
    from seg_perception.cloud import FIELDS

    clouds = [display for display in displays(any_rviz) if display["Class"].endswith("PointCloud2")]
    assert clouds
    for points in clouds:
        assert points["Color Transformer"] == "Intensity"
        assert points["Channel Name"] in {name for name, _, _ in FIELDS}


def leaves(node: Any) -> list[str]:
    """Panel ids of a mosaic in its order: a node is an id, or two nodes beside or below each other."""
    if isinstance(node, str):
        return [node]
    assert node.keys() == {"first", "second", "direction", "splitPercentage"}
    assert node["direction"] in ("row", "column")
    assert 0 < node["splitPercentage"] < 100
    return leaves(node["first"]) + leaves(node["second"])


def test_foxglove_has_a_place_for_every_panel_and_knows_its_type_and_settings(any_layout: Any):
    # context/CurrentLayoutContext/actions.ts, 30-44
    assert any_layout.keys() == {"configById", "layout", "globalVariables", "playbackConfig", "userNodes"}
    assert sorted(leaves(any_layout["layout"])) == sorted(any_layout["configById"])
    for panel_id, config in any_layout["configById"].items():
        kind, _, name = panel_id.partition("!")
        assert name
        assert config.keys() <= PANELS[kind] | TITLES, panel_id


def test_foxglove_shows_the_nodes_topics(layout: Any):
    images = {
        config["imageMode"]["imageTopic"]: config["imageMode"]
        for panel, config in layout["configById"].items()
        if panel.startswith("Image!")
    }
    assert images.keys() == {CAMERA, *(f"{NODE}/{n}" for n in ("overlay", "labels", "superpixels", "confidence"))}
    for topic, mode in images.items():
        assert mode.keys() <= IMAGE_MODE
        assert topic == CAMERA or contract()[topic].startswith("sensor_msgs/Image")
        assert mode.get("calibrationTopic", f"{NODE}/camera_info") == f"{NODE}/camera_info"
    superpixels = images[f"{NODE}/superpixels"]
    assert (superpixels["colorMode"], superpixels["colorMap"]) == ("colormap", "rainbow")
    ((points, settings),) = layout["configById"]["3D!points"]["topics"].items()
    assert contract()[points] == "sensor_msgs/PointCloud2"
    assert settings.keys() <= POINT_SETTINGS
    assert settings["colorMap"] in ("turbo", "rainbow")


def test_foxglove_shows_both_cameras_of_the_launch_file():
    layout = json.loads(FOXGLOVE_SEVERAL.read_text(encoding="utf-8"))
    topics = {c["imageMode"]["imageTopic"] for p, c in layout["configById"].items() if p.startswith("Image!")}
    outputs = {f"{NODE}/{camera}/{output}" for camera in CAMERAS for output in ("overlay", "labels")}
    assert topics == {f"/{camera}/image_raw" for camera in CAMERAS} | outputs
    points = layout["configById"]["3D!points"]["topics"]
    assert points.keys() == {f"{NODE}/{camera}/points" for camera in CAMERAS}
    assert all(settings.keys() <= POINT_SETTINGS for settings in points.values())
    for camera in CAMERAS:  # each has a status of its own
        assert set(plotted_keys(layout, f"{NODE}: {camera}")) == {
            "latency_p95_ms",
            "age_ms",
            "input_rate_hz",
            "output_rate_hz",
        }


def test_foxglove_plots_values_of_the_nodes_diagnostics(layout: Any):
    assert len(plotted_keys(layout)) > 6  # that the node has them: test_consumers.py


def plotted_keys(layout: Any, status: str = NODE) -> list[str]:
    """Keys of a status of the node's diagnostics that the plots show; none where a path is no path at all."""
    # packages/message-path/src/grammar.ne: .field, [from:to], {field==value}
    path = re.compile(r'/diagnostics\.status\[:\]\{name=="([^"]+)"\}\.values\[:\]\{key=="(\w+)"\}\.value')
    matches = [path.fullmatch(p["value"]) for c in layout["configById"].values() for p in c.get("paths", [])]
    known = [match for match in matches if match is not None]
    return [match[2] for match in known if match[1] == status] if len(known) == len(matches) else []


def test_all_are_installed_with_the_package_and_shown_in_the_docs():
    page = (ROOT / "docs/viewing.md").read_text(encoding="utf-8")
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert '"config"' in setup.split("def data_files")[1].split("rglob")[0]  # every folder below it
    for file in (RVIZ, FOXGLOVE, RVIZ_SEVERAL, FOXGLOVE_SEVERAL):
        assert str(file.relative_to(ROOT)) in page
