"""The node's parameters, each declared once: name, default, range, description.

From this table come the declaration in ROS and the checks (`parameter_values.py`), docs/parameters.md and
config/segmentation.yaml (`parameter_documents.py`); `python -m seg_perception.ros.parameters` prints them. No ROS is needed.
"""

from __future__ import annotations

import argparse

from seg_perception.engines.changeover import WHILE_BUILDING
from seg_perception.engines.select import ENGINE_KINDS, PRECISION_CHOICES
from seg_perception.engines.tensorrt.options import PRECISIONS as TENSORRT_PRECISIONS
from seg_perception.image_size import MAX_PIXELS
from seg_perception.ros.parameter import CAMERA_NAME, TOPIC, Parameter

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("model", "", "Deployment model (.onnx); empty: the model that comes with the package.", loadable=True),
    Parameter(
        "cameras",
        [],
        "Names of several cameras, each with topics ~/<camera>/... and parameters <camera>.<parameter>; empty: one camera "
        "without a name.",
        syntax=CAMERA_NAME,
    ),
    Parameter(
        "classes",
        "",
        "YAML file that makes the robot's classes out of the model's (docs/classes.md); empty: the model's own.",
        loadable=True,
    ),
    Parameter(
        "foreground",
        [],
        "Names of the classes that ~/foreground shows, where the classes file says nothing of them; empty: no such topic.",
        loadable=True,
    ),
    Parameter(
        "confidence_threshold",
        0.0,
        "Pixels less sure than this get no label (255), where the classes file does not say it; 0: all get one.",
        0.0,
        1.0,
        live=True,
    ),
    Parameter(
        "image",
        "image",
        "Topic of the camera images; of one among several cameras <camera>/image where not set.",
        syntax=TOPIC,
        per_camera=True,
        camera_default="{camera}/image",
    ),
    Parameter(
        "image_type",
        "auto",
        "Message type of the image topic: sensor_msgs/Image or CompressedImage; auto: compressed where the topic's "
        "name ends in /compressed.",
        choices=("auto", "raw", "compressed"),
        per_camera=True,
    ),
    Parameter(
        "camera_info",
        "",
        "Topic of the camera's calibration, passed on beside the mask; empty: none.",
        syntax=TOPIC,
        per_camera=True,
        camera_default="",
    ),
    Parameter(
        "depth",
        "",
        "Topic of depth images for ~/points, registered to the camera: 16UC1 in millimetres or 32FC1 in metres, of the camera "
        "image's size or a whole factor of it; empty: none.",
        syntax=TOPIC,
        per_camera=True,
        camera_default="",
    ),
    Parameter(
        "depth_camera_info",
        "",
        "Topic of the calibration that belongs to the depth images; empty: camera_info.",
        syntax=TOPIC,
        per_camera=True,
        camera_default="",
    ),
    Parameter(
        "cloud",
        "",
        "Topic of organised clouds for ~/points, in place of depth: a point for each pixel of the camera; empty: none.",
        syntax=TOPIC,
        per_camera=True,
        camera_default="",
    ),
    Parameter(
        "points_keep_invalid",
        False,
        "Whether ~/points stays organised, with NaN where there is no depth; false: such points are left out.",
        per_camera=True,
    ),
    Parameter(
        "points_max_gap_s",
        0.05,
        "Time between the stamps of an image and of the depth that belongs to it, at most.",
        0.0,
        10.0,
        per_camera=True,
    ),
    Parameter(
        "max_image_pixels",
        MAX_PIXELS,
        "Pixels of a compressed image that is still decoded; a few kilobytes may unpack to gigabytes.",
        1,
        2**30,
        per_camera=True,
    ),
    Parameter(
        "enabled",
        True,
        "Whether the camera is served; one that is not has no subscription and costs nothing. The service ~/enable, or "
        "~/<camera>/enable, sets it, too.",
        live=True,
        per_camera=True,
    ),
    Parameter(
        "max_rate_hz",
        0.0,
        "Images that come more often are left out, evenly; 0: no limit.",
        0.0,
        1000.0,
        live=True,
        per_camera=True,
    ),
    Parameter(
        "body_mask",
        "",
        "Image file of what the camera sees of the robot itself, not black there: such pixels get no label; empty: none.",
        per_camera=True,
        camera_default="",
    ),
    Parameter(
        "output_size",
        "camera",
        "Size of the masks: the camera's, the network's, or a fixed one such as 320x240; ~/camera_info "
        "is scaled to it.",
        is_output_size=True,
        live=True,
        per_camera=True,
    ),
    Parameter(
        "smoothing",
        0.0,
        "Weight of the frames before in the mean of the scores over time, against flicker where nothing moves; 0: off. Needs a "
        "model of the form association.",
        0.0,
        0.99,
        live=True,
        per_camera=True,
    ),
    Parameter(
        "engine", "auto", "Inference engine; auto chooses by what is installed.", choices=ENGINE_KINDS, loadable=True
    ),
    Parameter(
        "precision",
        "auto",
        "f32: 32-bit floats, results as in training; fast: whatever the device computes quickest; auto: fast where it is "
        "known to cost less than 0.3 points of mIoU (bfloat16 in OpenVINO, on processors that have it), f32 elsewhere.",
        choices=PRECISION_CHOICES,
        loadable=True,
    ),
    Parameter("threads", 0, "CPU threads of one inference; 0 leaves it to the engine.", 0, 256, loadable=True),
    Parameter(
        "while_building",
        "wait",
        "What the node does while TensorRT builds an engine, which takes minutes at the first start: wait: it is not "
        "configured before; fallback: it serves with another engine and changes over between two images.",
        choices=WHILE_BUILDING,
    ),
    Parameter(
        "tensorrt_precision",
        "auto",
        "What TensorRT computes in; auto: what the parameter precision says, half floats for fast.",
        choices=("auto", *TENSORRT_PRECISIONS),
    ),
    Parameter("tensorrt_workspace_mb", 0, "Device memory a layer may use while it runs; 0: no limit.", 0, 1_048_576),
    Parameter("tensorrt_optimization_level", 3, "0 builds quickest, 5 runs quickest.", 0, 5),
    Parameter("tensorrt_dla_core", -1, "A DLA core, with the GPU for what it cannot do; -1: the GPU alone.", -1, 7),
    Parameter(
        "tensorrt_keep_fp32", "", "With half floats: names of the model's tensors to keep in 32 bits, comma-separated."
    ),
    Parameter(
        "tensorrt_agreement_percent",
        99.0,
        "Least share of pixels on which a TensorRT engine must agree with the model to be used; 0: it is not asked.",
        0.0,
        100.0,
    ),
    Parameter("engine_cache", "", "Folder of built engines; empty: $SEG_PERCEPTION_CACHE, or in ~/.cache."),
    Parameter("autostart", True, "Configure and activate at start; false: wait for a lifecycle manager."),
    Parameter(
        "overlay_alpha", 0.5, "Weight of the class colours in the overlay.", 0.0, 1.0, live=True, per_camera=True
    ),
    Parameter(
        "stale_after_s",
        2.0,
        "Without an image for so long, diagnostics report the camera stale.",
        0.1,
        3600.0,
        live=True,
        per_camera=True,
    ),
    Parameter(
        "late_after_ms",
        500.0,
        "Diagnostics warn where the 95th percentile of the latency from an image's arrival to its mask is above this.",
        1.0,
        60_000.0,
        live=True,
        per_camera=True,
    ),
    Parameter(
        "hang_timeout_s",
        10.0,
        "An image that is in hand for longer is given up, with the thread and, where it is in the engine, the engine; both "
        "are started anew. Must be longer than the slowest image takes.",
        0.5,
        3600.0,
        live=True,
    ),
    Parameter(
        "hang_restarts",
        3,
        "So many threads that hang may be left behind; one more ends the process with code 3, for launch to start it again.",
        0,
        100,
        live=True,
    ),
    Parameter("diagnostics_period_s", 1.0, "Time between two messages on /diagnostics.", 0.1, 60.0, live=True),
    Parameter(
        "capture_mb",
        0,
        "Memory (1e6 bytes) for the last messages in and out, which ~/save_capture writes to a file; 0: nothing is kept.",
        0,
        65_536,
        live=True,
    ),
    Parameter("capture_s", 10.0, "Age of the oldest message that is kept for a capture.", 0.1, 3600.0, live=True),
    Parameter(
        "capture_folder", "", "Where captures are written; empty: captures in $ROS_HOME or in ~/.ros.", live=True
    ),
    Parameter(
        "capture_on_error",
        True,
        "Save a capture also when diagnostics turn to error (with capture_mb above 0).",
        live=True,
    ),
    Parameter("capture_pause_s", 600.0, "Least time between two captures made by errors.", 1.0, 86_400.0, live=True),
    Parameter("capture_files", 10, "So many captures made by errors are kept, the newest ones.", 1, 1000, live=True),
)


def main() -> int:
    """Print the documentation, or with --yaml the parameter file, that belong to the declarations."""
    from seg_perception.ros.parameter_documents import markdown, yaml_file

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--yaml", action="store_true", help="print config/segmentation.yaml, not docs/parameters.md")
    print(yaml_file(PARAMETERS) if parser.parse_args().yaml else markdown(PARAMETERS), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
