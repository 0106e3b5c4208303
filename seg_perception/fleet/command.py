"""The command `seg_perception evaluate-bags`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from seg_perception.engines.select import ENGINE_KINDS, PRECISION_CHOICES
from seg_perception.fleet.bag_scores import BagScores, read_scores
from seg_perception.fleet.compare import Comparison, compare
from seg_perception.fleet.jobs import Job, ScoringOptions, find_bags, job_key, model_digest
from seg_perception.fleet.report import Failure, FleetResult, write_fleet_report
from seg_perception.fleet.workers import run_jobs
from seg_perception.model.model_file import ModelInfo, read_model_info
from seg_perception.progress import Progress
from seg_perception.segmenter import Segmenter

SOME_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of evaluate-bags."""
    parser.add_argument("bags", type=Path, help="a folder with recordings, or a text file with a path a line")
    parser.add_argument("--model", type=Path, required=True, help="the deployment model (.onnx)")
    parser.add_argument("--compare", type=Path, metavar="MODEL", help="a second model of the same classes")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and reports; it is made")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one for two CPU cores")
    parser.add_argument("--image-topic", help="camera images; may be left out where bags have only one image topic")
    parser.add_argument("--label-topic", help="true classes: mono8 or 8UC1, raw or PNG, 255 = not labelled")
    parser.add_argument("--engine", choices=ENGINE_KINDS, default="auto", help="default: %(default)s")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of a worker's engine; 0: its share of cores"
    )
    parser.add_argument("--precision", choices=PRECISION_CHOICES, default="f32", help="default: %(default)s")
    parser.add_argument("--max-frames", type=int, default=0, help="stop each recording after so many images; 0: all")
    parser.add_argument("--window", type=int, default=30, help="frames of a moment (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Score all recordings; 0 where all were scored, 1 where some could not be.

    Raises:
        ValueError, OSError, EngineError: a model, the folder or the options cannot be used.
    """
    if min(options.workers, options.threads, options.max_frames) < 0 or options.window < 1:
        raise ValueError("--workers, --threads and --max-frames must be 0 or more, --window 1 or more")
    models = [options.model] if options.compare is None else [options.model, options.compare]
    infos = [read_model_info(model) for model in models]
    if len(infos) > 1 and infos[0].class_names != infos[1].class_names:
        raise ValueError(f"{models[0]} and {models[1]} have different classes; models of the same classes compare")
    bags = find_bags(options.bags)
    cores = len(os.sched_getaffinity(0))
    workers = options.workers or max(1, cores // 2)
    threads = options.threads or max(1, cores // workers)
    for model in models:  # what no worker could load shows now, not once a recording
        Segmenter(model, options.engine, threads, options.precision).close()
    results = options.out / "bags"
    results.mkdir(parents=True, exist_ok=True)
    scoring = ScoringOptions(
        options.image_topic,
        options.label_topic,
        options.engine,
        options.precision,
        options.max_frames,
        options.window,
    )
    jobs = []
    for model in models:
        digest = model_digest(model)
        jobs += [Job(bag, model, scoring, threads, results / f"{job_key(bag, digest, scoring)}.json") for bag in bags]
    scored, failures = _score(jobs, workers)
    first = [scored[job.result] for job in jobs[: len(bags)] if job.result in scored]
    comparison = _compared(jobs, scored, len(bags)) if len(models) > 1 else None
    result = FleetResult(infos[0], infos[1] if len(infos) > 1 else None, first, failures, comparison)
    json_path, page_path = write_fleet_report(options.out, result)
    _tell(result, infos, json_path, page_path)
    return SOME_FAILED if failures else 0


def _score(jobs: list[Job], workers: int) -> tuple[dict[Path, BagScores], list[Failure]]:
    scored: dict[Path, BagScores] = {}
    for job in jobs:
        if job.result.exists():
            scored[job.result] = read_scores(job.result)
    left = [job for job in {job.result: job for job in jobs}.values() if job.result not in scored]
    if scored:
        print(f"resumed     {len(scored)} scored before, {len(left)} left")
    failures = []
    with Progress("evaluate-bags", len(left), "bag") as progress:

        def finished(job: Job, problem: str) -> None:
            if problem:
                failures.append(Failure(str(job.bag), str(job.model), problem))
            else:
                scored[job.result] = read_scores(job.result)
            progress.step(job.bag.name)

        run_jobs(left, workers, finished)
    return scored, sorted(failures, key=lambda failure: (failure.bag, failure.model))


def _compared(jobs: list[Job], scored: dict[Path, BagScores], count: int) -> Comparison | None:
    pairs = []
    for mine, others in zip(jobs[:count], jobs[count:], strict=True):
        if mine.result in scored and others.result in scored:
            one, other = scored[mine.result].confusion, scored[others.result].confusion
            if one is not None and other is not None and one.any():
                pairs.append((one, other))
    return compare([one for one, _ in pairs], [other for _, other in pairs])


def _tell(result: FleetResult, infos: list[ModelInfo], json_path: Path, page_path: Path) -> None:
    content = result.to_dict()
    score = "none: no labels" if content["miou"] is None else f"mIoU {content['miou']:.4f}"
    print(f"scores      {score}, model {infos[0].name}")
    print(f"recordings  {len(result.bags)} scored, {len(result.failures)} not")
    for failure in result.failures:
        print(f"not scored  {failure.bag}: {failure.problem}")
    comparison = result.comparison
    if comparison is not None:
        interval = "" if comparison.low is None else f", 95 % interval {comparison.low:+.4f} to {comparison.high:+.4f}"
        print(f"compared    {infos[1].name}: mIoU {comparison.difference:+.4f}{interval}, {comparison.bags} recordings")
    print(f"report      {page_path}, {json_path}")
