"""What all tests share."""

from __future__ import annotations

import os
import signal

import pytest

# Workers of pytest-xdist take all cores between them: a second thread of PyTorch in each would only spin, waiting for the first
# one of another. Before anything imports PyTorch, and for the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell ignores SIGINT in what it starts with "&", nohup SIGHUP, and every process inherits that: they would end none of those
# that tests start, and the tests of that would fail.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The soak first: it takes as long as many other tests, which run beside it (pytest-xdist) only where it has begun."""
    items.sort(key=lambda item: "test_soak.py" not in item.nodeid)
