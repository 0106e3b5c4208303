from __future__ import annotations

import threading

from seg_perception.engines.tensorrt.progress import BuildProgress, PhaseTree, ProgressBar, ProgressLog


def test_the_share_is_that_of_all_nested_phases() -> None:
    told: list[tuple[str, float]] = []
    tree = PhaseTree(lambda phase, share: told.append((phase, share)), resolution=0.0)
    tree.started("Building engine", "", 2)
    tree.started("Cloning", "Building engine", 4)
    tree.stepped("Cloning", 0)
    assert told[-1] == ("Cloning", 0.125)
    tree.finished("Cloning")
    assert told[-1] == ("Building engine", 0.5)
    tree.stepped("Building engine", 0)
    assert told[-1] == ("Building engine", 0.5)
    tree.started("Timing", "Building engine", 2)
    tree.started("Reformats", "Timing", 2)
    tree.stepped("Reformats", 0)
    assert told[-1] == ("Reformats", 0.625)
    tree.finished("Reformats")
    tree.stepped("Timing", 0)
    assert told[-1] == ("Timing", 0.75)
    tree.finished("Timing")  # before its last step, as TensorRT may
    tree.finished("Building engine")
    assert told[-1] == ("Building engine", 1.0)


def test_the_share_never_goes_back_and_unknown_phases_do_no_harm() -> None:
    shares: list[float] = []
    tree = PhaseTree(lambda phase, share: shares.append(share), resolution=0.0)
    tree.stepped("never started", 3)
    tree.finished("never started")
    tree.started("Building engine", "", 3)
    for name in ("a", "a", "a"):  # a name comes again once it has finished
        tree.started(name, "Building engine", 0)
        tree.finished(name)
        tree.finished(name)
    tree.started("lost", "no such parent", 2)
    tree.stepped("lost", 1)
    assert shares == sorted(shares)
    assert max(shares) < 1.0


def test_phases_may_come_from_many_threads() -> None:
    shares: list[float] = []
    tree = PhaseTree(lambda phase, share: shares.append(share))
    tree.started("Building engine", "", 8)

    def work(name: str) -> None:
        tree.started(name, "Building engine", 500)
        for i in range(500):
            tree.stepped(name, i)
        tree.finished(name)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shares == sorted(shares)


def test_log_lines_come_now_and_then_and_at_the_end() -> None:
    lines: list[str] = []
    now = [100.0]
    log = ProgressLog(lines.append, interval_s=5.0, clock=lambda: now[0])
    for second in range(12):
        now[0] = 100.0 + second
        log(BuildProgress("Timing tactics", second / 20, second))
    log(BuildProgress("Timing tactics", 1.0, 12))
    assert lines == [
        "building the TensorRT engine: 0 %, Timing tactics, 0 s",
        "building the TensorRT engine: 25 %, Timing tactics, 5 s",
        "building the TensorRT engine: 50 %, Timing tactics, 10 s",
        "building the TensorRT engine: 100 %, Timing tactics, 12 s",
    ]


def test_a_terminal_shows_a_bar(capsys) -> None:
    with ProgressBar("tensorrt 10.3") as bar:
        bar(BuildProgress("Timing tactics", 0.5, 3.0))
    assert "tensorrt 10.3:  50 %" in capsys.readouterr().err
