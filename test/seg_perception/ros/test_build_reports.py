from __future__ import annotations

import threading

from seg_perception.engines.tensorrt.progress import BuildProgress
from seg_perception.ros.build_reports import BuildReports


def test_diagnostics_are_sent_by_the_thread_that_configures_and_no_other() -> None:
    lines: list[str] = []
    published: list[str] = []
    reports = BuildReports(lines.append, lambda: published.append(reports.state))
    reports(BuildProgress("Timing tactics", 0.4, 12.0))
    reports(BuildProgress("Timing tactics", 0.5, 12.1))
    assert published == ["building the TensorRT engine: 40 %, Timing tactics, 12 s"]  # once a second
    assert lines == published
    assert reports.state == "building the TensorRT engine: 50 %, Timing tactics, 12 s"
    reports = BuildReports(lines.append, lambda: published.append("from another thread"))
    thread = threading.Thread(target=reports, args=(BuildProgress("Timing tactics", 0.6, 13.0),))
    thread.start()
    thread.join()
    assert "from another thread" not in published
    assert lines[-1] == "building the TensorRT engine: 60 %, Timing tactics, 13 s"
