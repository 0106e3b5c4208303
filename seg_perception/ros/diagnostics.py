"""The node's state as diagnostic_msgs, for /diagnostics and the tools that watch it."""

from __future__ import annotations

from dataclasses import dataclass, field

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
        stale_after_s, late_after_ms: the parameters of those names.
        busy: what `configure` is doing, where that takes long.
        device_memory: free and all of the device that the engine holds memory of, bytes; None where it holds none.
        enabled: whether the camera is.
        trouble: why there are no masks although images come; empty where there are.
        why_silent: why no image can come; empty where that is not known.
        warnings: what should be looked at, in one line each; empty ones are none.
        health: further values: of the machine, the masks, the points.
    """

    lifecycle: str
    problem: str
    image_topic: str
    model: str
    engine: str
    stale_after_s: float
    late_after_ms: float
    busy: str = ""
    device_memory: tuple[int, int] | None = None
    enabled: bool = True
    trouble: str = ""
    why_silent: str = ""
    warnings: tuple[str, ...] = ()
    health: dict[str, str] = field(default_factory=dict)


def diagnostic_status(name: str, state: NodeState, summary: Summary | None) -> DiagnosticStatus:
    """One status.

    ERROR: not configured for a stated reason, no masks although images come, or images failed since the last message.
    STALE: no image for `stale_after_s`. WARN: latency above `late_after_ms`, or one of the `warnings`. OK otherwise, also
    while inactive on purpose.
    """
    level, message = _judged(state, summary)
    values = {
        "lifecycle": state.lifecycle,
        "enabled": str(state.enabled).lower(),
        "image_topic": state.image_topic,
        "model": state.model,
        "engine": state.engine,
        "holds_device": str(state.device_memory is not None).lower(),
        **_device(state.device_memory),
        **({} if summary is None else _measured(summary)),
        **state.health,
    }
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=state.model.split(" ")[0] if state.model else "",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _judged(state: NodeState, summary: Summary | None) -> tuple[bytes, str]:
    """Level and message."""
    warnings = [warning for warning in state.warnings if warning]
    if state.problem or state.trouble:
        return DiagnosticStatus.ERROR, state.problem or state.trouble
    if summary is not None:
        if summary.errors_recently:
            return DiagnosticStatus.ERROR, f"{summary.errors_recently} images failed: {summary.last_error}"
        if state.enabled and summary.silence_s > state.stale_after_s:
            reason = f": {state.why_silent}" if state.why_silent else ""
            return DiagnosticStatus.STALE, f"no image on {state.image_topic} for {summary.silence_s:.1f} s{reason}"
        late_ms = summary.latency_ms.get("p95", 0.0)
        if late_ms > state.late_after_ms:
            warnings.insert(0, f"latency p95 is {late_ms:.0f} ms, above {state.late_after_ms:.0f} ms")
    if warnings:
        return DiagnosticStatus.WARN, "; ".join(warnings)
    message = state.busy or state.lifecycle
    if not state.enabled:
        message += "; the camera is disabled"
    elif summary is not None and summary.drops[Drop.UNWANTED] and not summary.output_rate_hz:
        message = "active; nobody subscribes to an output"
    return DiagnosticStatus.OK, message


def _device(memory: tuple[int, int] | None) -> dict[str, str]:
    """Of what the engine holds memory of."""
    if memory is None:
        return {}
    free, total = memory
    return {"device_memory_free_mb": f"{free / 1e6:.0f}", "device_memory_mb": f"{total / 1e6:.0f}"}


def _measured(summary: Summary) -> dict[str, str]:
    """Of the frames since activation. Of stages and age the plain value is the median."""
    values = {
        "input_rate_hz": f"{summary.input_rate_hz:.1f}",
        "output_rate_hz": f"{summary.output_rate_hz:.1f}",
        "received": str(summary.received),
        "published": str(summary.published),
        "dropped": str(summary.drops[Drop.OVERTAKEN]),
        "dropped_by_rate_limit": str(summary.drops[Drop.RATE]),
        "dropped_while_disabled": str(summary.drops[Drop.DISABLED]),
        "dropped_while_set_aside": str(summary.drops[Drop.SET_ASIDE]),
        "failed": str(summary.failed),
        "nobody_listened": str(summary.drops[Drop.UNWANTED]),
        "silence_s": f"{summary.silence_s:.1f}",
        "last_error": summary.last_error,
    }
    values |= {f"latency_{p}_ms": f"{v:.1f}" for p, v in summary.latency_ms.items()}
    for stage, percentiles in summary.stages_ms.items():
        values |= _with_median(f"stage_{stage}", percentiles)
    return values | _with_median("age", summary.ages_ms)


def _with_median(name: str, percentiles: dict[str, float]) -> dict[str, str]:
    return {f"{name}{'' if p == 'p50' else f'_{p}'}_ms": f"{v:.1f}" for p, v in percentiles.items()}
