"""The thread of the points: what comes in is paired and published, what is bad is told, and it ends when told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from seg_perception.cdr_cloud import read_cloud
from seg_perception.labelled_points import DepthGeometry, PointMaker
from seg_perception.ros.point_worker import PointWorker
from test.seg_perception.test_labelled_points import camera_info, depth, header, masked
from test.seg_perception.waiting import wait_until

SOON_S = 60.0  # loops may have to be compiled first


class Listener:
    """Takes clouds and lines."""

    def __init__(self) -> None:
        self.clouds: list[bytes] = []
        self.lines: list[str] = []


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def worker(listener: Listener) -> Iterator[PointWorker]:
    geometry = DepthGeometry(keep_invalid=True)
    geometry.camera_info_came(camera_info())
    worker = PointWorker(PointMaker(geometry, 0.05), listener.clouds.append, listener.lines.append)
    worker.start()
    yield worker
    worker.close()
    assert worker.join(SOON_S)


def test_pairs_are_published_in_their_order(worker, listener):
    for ms in (10, 40, 70):
        worker.add(masked(ms))
        worker.add(depth(ms))
        wait_until(lambda ms=ms: len(listener.clouds) == ms // 30 + 1, SOON_S, f"the cloud at {ms} ms")
    assert [read_cloud(cloud).header for cloud in listener.clouds] == [header(ms, b"depth") for ms in (10, 40, 70)]
    assert (worker.published, worker.failed, listener.lines) == (3, 0, [])
    assert worker.last_ms > 0


def test_what_is_bad_is_told_and_the_rest_goes_on(worker, listener):
    worker.add(b"")
    worker.add(masked(10))
    worker.add(depth(10)[:-7])
    worker.add(depth(10).replace(b"16UC1", b"99UC9"))
    wait_until(lambda: worker.failed == 3, SOON_S, "three failures")
    worker.add(masked(40))
    worker.add(depth(40))
    wait_until(lambda: listener.clouds, SOON_S, "a cloud")
    assert len(listener.lines) == 3
    assert "depth image has encoding" in listener.lines[-1]


def test_nothing_is_published_once_it_is_closed(listener):
    geometry = DepthGeometry(keep_invalid=True)
    geometry.camera_info_came(camera_info())
    begun, go_on = threading.Event(), threading.Event()

    class Slow(PointMaker):
        def make(self) -> bytes | None:
            made = super().make()
            if made is not None:
                begun.set()
                go_on.wait(SOON_S)
            return made

    worker = PointWorker(Slow(geometry, 0.05), listener.clouds.append, listener.lines.append)
    worker.start()
    worker.add(masked(10))
    worker.add(depth(10))
    assert begun.wait(SOON_S)
    worker.close()
    assert not worker.join(0.05)
    go_on.set()
    assert worker.join(SOON_S)
    assert listener.clouds == []
