"""How near evaluate-bag comes to the bare engine: frames a second of both on the same recording, in one run.

    python -m benchmarks.evaluate_bag BAG --model M.onnx --image-topic T [--label-topic L] [--repeats 5]

"Bare engine" calls the engine on one prepared image and does nothing else. "evaluate-bag" reads the recording,
decodes, resizes, infers, brings the masks to camera size and scores them. The two take turns, so that both meet the
same machine. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from seg_perception.bag.evaluate import EvaluateOptions, evaluate_bag
from seg_perception.engines.base import PRECISIONS
from seg_perception.engines.select import ENGINE_KINDS, choose_engine, create_engine
from seg_perception.model.model_file import read_model_info
from seg_perception.process.environment import describe_environment


def main() -> int:
    """Measure and print."""
    options = _parser().parse_args()
    kind = choose_engine()[0] if options.engine == "auto" else options.engine
    task = EvaluateOptions(
        options.bag,
        options.model,
        options.image_topic,
        options.label_topic,
        kind,
        options.threads,
        options.precision,
        options.max_frames,
    )
    bare: list[float] = []
    whole: list[float] = []
    for _ in range(options.repeats):
        result = evaluate_bag(task)
        assert result.frames_per_second is not None
        whole.append(result.frames_per_second)
        bare.append(_bare_engine_rate(task, result.frames_out))
    sizes = ", ".join(f"{width}x{height}" for width, height in result.image_sizes)
    machine = describe_environment()
    print(f"`{' '.join(['python -m benchmarks.evaluate_bag', *sys.argv[1:]])}`")
    print(f"\n{machine['processor']}, {machine['cores']}, {machine['date']}; {result.engine_description};")
    print(f"model {result.model.name}, {result.frames_out} frames of {sizes}, {options.repeats} repeats\n")
    print("| | frames/s, median | lowest | highest |\n|---|---|---|---|")
    for name, rates in (("bare engine", bare), ("evaluate-bag", whole)):
        print(f"| {name} | {statistics.median(rates):.1f} | {min(rates):.1f} | {max(rates):.1f} |")
    ratios = [rate / reference for rate, reference in zip(whole, bare, strict=True)]
    print(f"| ratio | {statistics.median(ratios):.3f} | {min(ratios):.3f} | {max(ratios):.3f} |")
    return 0


def _bare_engine_rate(task: EvaluateOptions, frames: int) -> float:
    info = read_model_info(task.model)
    image = np.random.default_rng(0).integers(0, 256, (1, *info.input_size, 3), np.uint8)
    with create_engine(task.engine, info, task.threads, task.precision) as engine:
        for _ in range(2):
            engine.infer(image)
        start = perf_counter()
        for _ in range(frames):
            engine.infer(image)
        return frames / (perf_counter() - start)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="evaluate-bag against the bare engine, in frames a second")
    parser.add_argument("bag", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--image-topic")
    parser.add_argument("--label-topic")
    parser.add_argument("--engine", choices=ENGINE_KINDS, default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", choices=PRECISIONS, default="f32")
    parser.add_argument("--max-frames", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    return parser


if __name__ == "__main__":
    sys.exit(main())
