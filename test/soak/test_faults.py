"""The order of faults: drawn from a seed, every one in its turn, and nothing at the same time that would undo the other."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from seg_perception.images import ImageError
from seg_perception.ros.frame_decoder import FrameDecoder
from test.soak.camera import ENCODINGS
from test.soak.checks import MaskChecks
from test.soak.faults import TOGETHER, episodes
from test.soak.node_faults import FAULTS
from test.soak.pictures import tiny_album


def test_a_seed_says_it_all():
    first, again, other = (list(islice(episodes(seed, FAULTS), 100)) for seed in (7, 7, 8))
    assert first == again
    assert [e.name for e in first] != [e.name for e in other]


def test_every_fault_comes_once_before_any_comes_again():
    drawn = list(islice(episodes(1, FAULTS), 3 * len(FAULTS)))
    for begin in range(0, len(drawn), len(FAULTS)):
        assert Counter(e.faults[0].name for e in drawn[begin : begin + len(FAULTS)]) == {f.name: 1 for f in FAULTS}


def test_two_at_a_time_are_of_two_kinds_and_last_as_long_as_both_allow():
    drawn = list(islice(episodes(2, FAULTS), 1000))
    pairs = [e for e in drawn if len(e.faults) == 2]
    assert abs(len(pairs) / len(drawn) - TOGETHER) < 0.06  # 4 standard deviations
    for episode in drawn:
        assert len({fault.kind for fault in episode.faults}) == len(episode.faults)
        assert all(episode.seconds >= fault.seconds[0] for fault in episode.faults)
        assert 0.5 <= episode.calm_s <= 2.0


def test_names_are_told_apart():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 20


class Published(list):
    """A publisher, and the node that makes it."""

    def create_publisher(self, *_):
        return self

    def destroy_publisher(self, _):
        pass

    def publish(self, message):
        self.append(bytes(message))


@pytest.fixture
def camera(request, monkeypatch):
    """A camera that publishes only when told, and what it has published."""
    pytest.importorskip("rclpy", reason="needs rclpy's names of message types")
    from test.soak.camera import SimulatedCamera

    monkeypatch.setattr(SimulatedCamera, "_run", lambda self: None)
    published = Published()
    checks = MaskChecks("front", 0.95, print)
    camera = SimulatedCamera(published, request.param, tiny_album(0), checks, 30.0, "front_optical")
    yield camera, published, checks
    camera.close()


@pytest.mark.parametrize("camera", ["/front/image", "/front/image/compressed"], indirect=True)
def test_whole_images_are_what_the_checks_are_told_of_them(camera):
    simulated, published, checks = camera
    decoder = FrameDecoder(simulated.is_compressed)
    for size in simulated.album.sizes:
        for encoding in ENCODINGS[:1] if simulated.is_compressed else ENCODINGS:
            simulated.manner.size, simulated.manner.encoding = size, encoding
            simulated._publish()
            image = decoder.decode(published[-1])
            sent = checks._sent[image.header]
            assert image.rgb.shape[:2] == sent.size == size
            assert sent.usable
            if encoding != "mono8":  # the model's classes are those of the pixels' red and green
                classes = (image.rgb[..., 0] >= 128) + 2 * (image.rgb[..., 1] >= 128)
                np.testing.assert_array_equal(classes, sent.labels)


@pytest.mark.parametrize("camera", ["/front/image", "/front/image/compressed"], indirect=True)
def test_broken_images_are_broken_each_in_its_way(camera):
    simulated, published, checks = camera
    decoder = FrameDecoder(simulated.is_compressed)
    said = set()
    for way in simulated.broken_ways():
        simulated.manner.broken = way
        simulated._publish()
        with pytest.raises(ImageError) as refused:
            decoder.decode(published[-1])
        said.add(str(refused.value))
    assert len(said) == len(simulated.broken_ways())
    assert not any(sent.usable for sent in checks._sent.values())


@pytest.mark.parametrize("camera", ["/front/image"], indirect=True)
def test_every_image_has_a_header_of_its_own_also_without_stamps_and_after_a_restart(camera):
    simulated, published, checks = camera
    decoder = FrameDecoder(False)
    for changes in ({}, {"unstamped": True}, {"offset_ns": -(10**9)}, {"frame_id": ""}):
        for name, value in changes.items():
            setattr(simulated.manner, name, value)
        for _ in range(20):
            simulated._publish()
    simulated.disconnect()
    simulated.connect()
    simulated._publish()
    headers = [decoder.decode(message).header for message in published]
    assert len(set(headers)) == len(headers) == 81
    assert {sent.source for sent in checks._sent.values()} == {simulated._source - 1, simulated._source}
