"""How much memory a deployment model takes in ONNX Runtime: while it loads, loaded, and at its first image.

    python -m benchmarks.load_memory model.onnx ... [--without-folding]

Each file is loaded in a process of its own, with the session's default optimisations. `--without-folding` loads it again with
constants left as they are in the file, which is the least that the weights take: a file whose constants grow when they are folded
shows in the ratio of the two. Nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


def load(path: Path, folding: bool) -> dict[str, float]:
    """Load a model here, run it once on a grey image; megabytes above what the process had before.

    Returns:
        peak_mb while loading, loaded_mb, peak_with_image_mb.
    """
    import numpy as np
    import onnxruntime

    before = memory_mb("VmRSS")
    disabled = None if folding else ["ConstantFolding"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"], disabled_optimizers=disabled)
    figures = {"peak_mb": memory_mb("VmHWM") - before, "loaded_mb": memory_mb("VmRSS") - before}
    height, width = session.get_inputs()[0].shape[1:3]
    session.run(None, {"image": np.full((1, height, width, 3), 127, np.uint8)})
    return figures | {"peak_with_image_mb": memory_mb("VmHWM") - before}


def memory_mb(field: str) -> float:
    """VmRSS (now) or VmHWM (the peak so far) of this process, in megabytes of 1e6 bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / 1e6


def measured(path: Path, folding: bool) -> dict[str, float]:
    """`load` in a fresh process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.load_memory",
        str(path),
        "--here",
        *([] if folding else ["--without-folding"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"error: {path}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'stopped'}")
    figures = json.loads(done.stdout)
    assert isinstance(figures, dict)
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load_memory", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("models", type=Path, nargs="+", help="files of seg_models.export")
    parser.add_argument(
        "--without-folding", action="store_true", help="load each file also with its constants as they are"
    )
    parser.add_argument("--here", action="store_true", help="measure one file in this process and print JSON")
    args = parser.parse_args(arguments)
    if args.here:
        print(json.dumps(load(args.models[0], not args.without_folding)))
        return 0
    print("| file | MB | folding | peak while loading MB | loaded MB | peak with an image MB | peak / file |")
    print("|---|---|---|---|---|---|---|")
    for path in args.models:
        size = path.stat().st_size / 1e6
        for folding in (True, False) if args.without_folding else (True,):
            figures = measured(path, folding)
            columns = " | ".join(f"{figures[key]:.0f}" for key in ("peak_mb", "loaded_mb", "peak_with_image_mb"))
            print(
                f"| {path.name} | {size:.0f} | {'yes' if folding else 'no'} | {columns} | {figures['peak_mb'] / size:.2f} |"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
