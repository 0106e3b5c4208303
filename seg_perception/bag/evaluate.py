"""Scores a deployment model on a recording, as fast as the engine goes: decoding, inference and scoring overlap."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from seg_perception.bag.evaluation import Evaluation
from seg_perception.bag.frames import Frame, FrameSource, find_image_topic, prefetch
from seg_perception.bag.label_names import ScoredClasses, scored_classes
from seg_perception.bag.metrics import LabelIdError
from seg_perception.bag.reader import BagError, open_bag
from seg_perception.bag.result import EvaluationResult
from seg_perception.bag.video import SegmentationVideo
from seg_perception.process.environment import describe_environment
from seg_perception.progress import Progress
from seg_perception.segmenter import Segmentation, Segmenter

logger = logging.getLogger(__name__)

LATENCY_MEANING = "from the recorded message to the masks: decode, resize, infer, paint"
_AHEAD = 4  # frames that wait before and behind the engine


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate_bag` takes.

    Attributes:
        bag: a rosbag2 folder, .mcap or .db3.
        model: the deployment model.
        image_topic: None where the recording has only one.
        label_topic: None for none.
        engine, threads, precision: see `Segmenter`.
        max_frames: 0 for all.
        video: where to write an MP4, or None.
        progress: say on stderr how far it is and how long is left.
        classes: a classes file; scores are of its classes. None: of the model's.
    """

    bag: Path
    model: Path
    image_topic: str | None = None
    label_topic: str | None = None
    engine: str = "auto"
    threads: int = 0
    precision: str = "f32"
    max_frames: int = 0
    video: Path | None = None
    progress: bool = False
    classes: Path | None = None


def evaluate_bag(options: EvaluateOptions) -> EvaluationResult:
    """Segment every image of a recording and score the masks where there are labels.

    Raises:
        ModelFileError, EngineError: the model cannot be used.
        ClassMapError: the classes file cannot.
        BagError: the recording cannot be read, lacks a topic, or its labels do not fit the images or the model.
    """
    with (
        Segmenter(options.model, options.engine, options.threads, options.precision) as segmenter,
        open_bag(options.bag) as bag,
    ):
        image_topic = options.image_topic
        if image_topic is None:
            image_topic = find_image_topic(bag, options.label_topic)
            logger.info("image topic: %s (the only one in the bag)", image_topic)
        source = FrameSource(bag, image_topic, options.label_topic, options.max_frames)
        classes = scored_classes(bag, options.label_topic, segmenter.info, options.classes)
        evaluation = Evaluation(classes.info, LATENCY_MEANING)
        video = None
        if options.video is not None:
            video = SegmentationVideo(options.video, classes.info, source.frames_per_second)
        segmenter.warm_up()
        start = perf_counter()
        try:
            _run(segmenter, source, classes, evaluation, video, options.progress)
        except LabelIdError as error:
            whose = f"label topic {options.label_topic}" if error.of_labels else f"model {segmenter.info.name}"
            raise BagError(f"{whose}: {error}") from error
        finally:
            video_problem = "" if video is None else video.close()
        wall_s = perf_counter() - start
        result = evaluation.result(
            engine=segmenter.engine_name,
            engine_description=segmenter.engine_description,
            frames_in=source.frames_in,
            drop_reasons=dict(source.drop_reasons),
            source={
                "bag": str(options.bag),
                "image topic": image_topic,
                "label topic": options.label_topic or "none",
                **({} if options.classes is None else {"classes": str(options.classes)}),
            },
            warnings=[
                warning
                for warning in (bag.damage and f"bag {options.bag}: {bag.damage}", *source.warnings, video_problem)
                if warning
            ],
            wall_s=wall_s,
            environment=describe_environment(),
            truncated=bag.truncated,
        )
        if video is not None and not video_problem:
            result.files["video"] = video.path.name
            result.video_frames_per_second = video.frames_per_second
        return result


def _run(
    segmenter: Segmenter,
    source: FrameSource,
    classes: ScoredClasses,
    evaluation: Evaluation,
    video: SegmentationVideo | None,
    progress: bool,
) -> None:
    def score(frame: Frame, segmentation: Segmentation) -> None:
        segmentation = classes.predicted(segmentation)
        evaluation.add(
            frame.rgb,
            segmentation,
            classes.truth(frame.labels),
            latency_ms=segmentation.total_ms,
            stamp_ns=frame.stamp_ns,
        )
        if video is not None:
            video.add(frame.rgb, segmentation)

    pending: deque[Future[None]] = deque()
    with (
        ThreadPoolExecutor(1, "score") as scorer,
        Progress("evaluate-bag", source.total, "frame", progress) as job,
    ):
        for frame in prefetch(iter(source), _AHEAD):
            segmentation = segmenter.segment(frame.rgb)
            segmentation.timings_ms = {"decode": frame.decode_ms, **segmentation.timings_ms}
            pending.append(scorer.submit(score, frame, segmentation))
            if len(pending) > _AHEAD:
                pending.popleft().result()
            job.step()
        for future in pending:
            future.result()
