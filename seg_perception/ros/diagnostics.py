"""The node's state as diagnostic_msgs, for /diagnostics and the tools that watch it."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from seg_perception.ros.frame_statistics import Drop, Summary


@dataclass(frozen=True)
class NodeState:
    """What the status of a camera says beside the statistics.

    Attributes:
        lifecycle: "unconfigured", "inactive" or "active".
        problem: why the node could not be configured; empty if nothing is wrong.
        image_topic: resolved name.
        model, engine: description of both; empty while unconfigured.
        engine_problem: why another engine runs than was asked for; empty where that is not so.
        busy: what `configure` is doing, where that takes long.
        device_memory: free and all of the device that the engine holds memory of, bytes; None where it holds none.
        enabled: whether the camera is.
        stale_after_s, late_after_ms: the parameters of those names.
    """

    lifecycle: str
    problem: str
    image_topic: str
    model: str
    engine: str
    stale_after_s: float
    late_after_ms: float
    engine_problem: str = ""
    busy: str = ""
    device_memory: tuple[int, int] | None = None
    enabled: bool = True


def diagnostic_status(name: str, state: NodeState, summary: Summary | None) -> DiagnosticStatus:
    """One status.

    ERROR: not configured for a stated reason, or images failed since the last message. STALE: no image for
    `stale_after_s`. WARN: latency above `late_after_ms`, or another engine runs than was asked for. OK otherwise, also
    while inactive on purpose.
    """
    level, message = DiagnosticStatus.OK, state.busy or state.lifecycle
    if state.problem:
        level, message = DiagnosticStatus.ERROR, state.problem
    elif summary is not None and summary.errors_recently:
        level, message = DiagnosticStatus.ERROR, f"{summary.errors_recently} images failed: {summary.last_error}"
    elif not state.enabled:
        message = f"{message}; the camera is disabled"
    elif summary is not None and summary.silence_s > state.stale_after_s:
        level = DiagnosticStatus.STALE
        message = f"no image on {state.image_topic} for {summary.silence_s:.1f} s"
    elif summary is not None and summary.latency_ms.get("p95", 0.0) > state.late_after_ms:
        level = DiagnosticStatus.WARN
        message = f"latency p95 is {summary.latency_ms['p95']:.0f} ms, above {state.late_after_ms:.0f} ms"
    elif state.engine_problem:
        level, message = DiagnosticStatus.WARN, state.engine_problem
    elif summary is not None and summary.drops[Drop.UNWANTED] and not summary.output_rate_hz:
        message = "active; nobody subscribes to an output"
    values = {
        "lifecycle": state.lifecycle,
        "enabled": str(state.enabled).lower(),
        "image_topic": state.image_topic,
        "model": state.model,
        "engine": state.engine,
        "holds_device": str(state.device_memory is not None).lower(),
    }
    if state.device_memory is not None:
        free, total = state.device_memory
        values |= {"device_memory_free_mb": f"{free / 1e6:.0f}", "device_memory_mb": f"{total / 1e6:.0f}"}
    if summary is not None:
        values |= {
            "input_rate_hz": f"{summary.input_rate_hz:.1f}",
            "output_rate_hz": f"{summary.output_rate_hz:.1f}",
            "received": str(summary.received),
            "published": str(summary.published),
            "dropped": str(summary.drops[Drop.OVERTAKEN]),
            "dropped_by_rate_limit": str(summary.drops[Drop.RATE]),
            "dropped_while_disabled": str(summary.drops[Drop.DISABLED]),
            "failed": str(summary.failed),
            "nobody_listened": str(summary.drops[Drop.UNWANTED]),
            "silence_s": f"{summary.silence_s:.1f}",
            "last_error": summary.last_error,
        }
        values |= {f"latency_{p}_ms": f"{v:.1f}" for p, v in summary.latency_ms.items()}
        values |= {f"stage_{stage}_ms": f"{v:.1f}" for stage, v in summary.stages_ms.items()}
        if summary.age_ms is not None:
            values["age_ms"] = f"{summary.age_ms:.1f}"
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=state.model.split(" ")[0] if state.model else "",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
