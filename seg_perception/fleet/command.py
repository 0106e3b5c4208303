"""The command `seg_perception evaluate-bags`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from seg_perception.engines.select import ENGINE_KINDS, PRECISION_CHOICES
from seg_perception.fleet.bag_scores import parse_scores, read_scores, write_scores
from seg_perception.fleet.compare import compare
from seg_perception.fleet.executor import Executor, Outcome
from seg_perception.fleet.jobs import Job, ScoringOptions, find_bags, job_key, model_digest
from seg_perception.fleet.local_executor import LocalExecutor
from seg_perception.fleet.ray_executor import RayExecutor
from seg_perception.fleet.report import Failure, FleetResult, write_fleet_report
from seg_perception.fleet.tally import Tally
from seg_perception.model.model_file import ModelInfo, read_model_info
from seg_perception.progress import Progress

SOME_FAILED = 1
TOLD_FAILURES = 20  # in the terminal; the reports have more
THREADS_ON_RAY = 2  # an engine gains little from more, and one recording more at a time gains all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of evaluate-bags."""
    parser.add_argument("bags", type=Path, help="a folder with recordings, or a text file with a path a line")
    parser.add_argument("--model", type=Path, required=True, help="the deployment model (.onnx)")
    parser.add_argument("--compare", type=Path, metavar="MODEL", help="a second model of the same classes")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and reports; it is made")
    parser.add_argument(
        "--workers", type=int, default=0, help="recordings at a time; 0: one for two CPU cores, on Ray all that fit"
    )
    parser.add_argument("--image-topic", help="camera images; may be left out where bags have only one image topic")
    parser.add_argument("--label-topic", help="true classes: mono8 or 8UC1, raw or PNG, 255 = not labelled")
    parser.add_argument("--engine", choices=ENGINE_KINDS, default="auto", help="default: %(default)s")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of a worker's engine; 0: its share of cores, 2 on Ray"
    )
    parser.add_argument("--precision", choices=PRECISION_CHOICES, default="f32", help="default: %(default)s")
    parser.add_argument("--max-frames", type=int, default=0, help="stop each recording after so many images; 0: all")
    parser.add_argument("--window", type=int, default=30, help="frames of a moment (default: %(default)s)")
    ray = parser.add_argument_group("Ray", "Needs pip install 'seg_perception[ray]'. One machine needs no Ray.")
    where = ray.add_mutually_exclusive_group()
    where.add_argument(
        "--ray-address", metavar="ADDRESS", help="spread over this cluster: auto, HOST:6379, ray://HOST:10001"
    )
    where.add_argument("--ray", action="store_true", help="start Ray on this machine")
    ray.add_argument(
        "--gpus-per-worker",
        type=float,
        help="GPUs that Ray keeps for a recording, such as 0.5 (default: 1 with --engine tensorrt, else 0)",
    )


def run(options: argparse.Namespace) -> int:
    """Score all recordings; 0 where all were scored, 1 where some could not be.

    Raises:
        ValueError, OSError, EngineError: a model, the folder, Ray or the options cannot be used.
    """
    on_ray = options.ray or options.ray_address is not None
    if (
        min(options.workers, options.threads, options.max_frames, options.gpus_per_worker or 0) < 0
        or options.window < 1
    ):
        raise ValueError(
            "--workers, --threads, --max-frames and --gpus-per-worker must be 0 or more, --window 1 or more"
        )
    if options.gpus_per_worker is not None and not on_ray:
        raise ValueError("--gpus-per-worker is of --ray and --ray-address; workers of one machine share its GPUs")
    models = [options.model.absolute()] + ([] if options.compare is None else [options.compare.absolute()])
    infos = [read_model_info(model) for model in models]
    if len(infos) > 1 and infos[0].class_names != infos[1].class_names:
        raise ValueError(f"{models[0]} and {models[1]} have different classes; models of the same classes compare")
    bags = find_bags(options.bags.absolute())  # workers on other machines stand in other folders
    executor, threads = _executor(options, on_ray)
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
    tallies = [Tally() for _ in models]
    jobs: list[tuple[Job, Tally]] = []
    for model, tally in zip(models, tallies, strict=True):
        digest = model_digest(model)
        for bag in bags:
            result = results / f"{job_key(bag, digest, scoring)}.json"
            jobs.append((Job(bag, model, digest, scoring, threads, result), tally))
    failures = _score(jobs, executor)
    comparison = compare(tallies[0].class_counts, tallies[1].class_counts) if len(models) > 1 else None
    result = FleetResult(infos[0], infos[1] if len(infos) > 1 else None, tallies[0], failures, comparison)
    json_path, page_path = write_fleet_report(options.out, result)
    _tell(result, infos, json_path, page_path)
    return SOME_FAILED if failures else 0


def _executor(options: argparse.Namespace, on_ray: bool) -> tuple[Executor, int]:
    """Where to run, and the threads of a job there."""
    cores = len(os.sched_getaffinity(0))
    if on_ray:
        gpus = options.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if options.engine == "tensorrt" else 0.0
        threads = options.threads or (THREADS_ON_RAY if options.ray_address is not None else min(THREADS_ON_RAY, cores))
        return RayExecutor(options.ray_address, options.workers, threads, gpus), threads
    workers = options.workers or max(1, cores // 2)
    return LocalExecutor(workers), options.threads or max(1, cores // workers)


def _score(jobs: list[tuple[Job, Tally]], executor: Executor) -> list[Failure]:
    """Fill the tallies with what was scored before and with what is scored now; what could not be, sorted."""
    left: dict[Path, Job] = {}
    tallies: dict[Path, list[Tally]] = {}  # two, where a model is compared with itself
    for job, tally in jobs:
        tallies.setdefault(job.result, []).append(tally)
        if not _resumed(job, tally):
            left[job.result] = job
    if len(left) < len(tallies):
        print(f"resumed     {len(tallies) - len(left)} scored before, {len(left)} left")
    if not left:
        return []
    failures = []
    with executor:
        for model in dict.fromkeys(job.model for job in left.values()):
            example = next(job for job in left.values() if job.model == model)
            executor.check(model, example.options, example.threads)
        print(f"runs on     {executor.describe()}", flush=True)
        with Progress("evaluate-bags", len(left), "bag") as progress:

            def finished(job: Job, outcome: Outcome) -> None:
                if outcome.scores is None:
                    failures.append(Failure(str(job.bag), str(job.model), outcome.problem))
                else:
                    write_scores(job.result, outcome.scores)
                    scores = parse_scores(outcome.scores, str(job.bag))
                    for tally in tallies[job.result]:
                        tally.add(scores)
                progress.step(job.bag.name)

            executor.run(list(left.values()), finished)
    return sorted(failures, key=lambda failure: (failure.bag, failure.model))


def _resumed(job: Job, tally: Tally) -> bool:
    try:
        tally.add(read_scores(job.result, str(job.bag)))
    except FileNotFoundError:
        return False
    except ValueError as error:  # such as a file that a full disk or a power cut left
        print(f"evaluate-bags: {job.result} is damaged ({error}); {job.bag} is scored again", file=sys.stderr)
        return False
    return True


def _tell(result: FleetResult, infos: list[ModelInfo], json_path: Path, page_path: Path) -> None:
    content = result.to_dict()
    score = "none: no labels" if content["miou"] is None else f"mIoU {content['miou']:.4f}"
    print(f"scores      {score}, model {infos[0].name}")
    print(f"recordings  {len(result.tally.rows)} scored, {len(result.failures)} not")
    for failure in result.failures[:TOLD_FAILURES]:
        print(f"not scored  {failure.bag}: {failure.problem}")
    if len(result.failures) > TOLD_FAILURES:
        print(f"not scored  {len(result.failures) - TOLD_FAILURES} more, in {json_path}")
    comparison = result.comparison
    if comparison is not None:
        interval = "" if comparison.low is None else f", 95 % interval {comparison.low:+.4f} to {comparison.high:+.4f}"
        print(f"compared    {infos[1].name}: mIoU {comparison.difference:+.4f}{interval}, {comparison.bags} recordings")
    print(f"report      {page_path}, {json_path}")
