"""Reads what the machine says of itself now and then, in a thread of its own: a GPU that fell off its bus may never answer."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from seg_perception.device_state import DeviceState, read_device_state
from seg_perception.nvml import LIBRARY, Nvml

logger = logging.getLogger(__name__)

READ_EVERY_S = 5.0  # temperatures change within seconds


class MachineWatch:
    """Keeps the newest state.

    Args:
        root: see `read_device_state`.
        nvml: NVIDIA's library; see `Nvml`.
        every_s: between two readings.

    Attributes:
        state: the newest; empty before the first.
    """

    def __init__(self, root: Path = Path("/"), nvml: str = LIBRARY, every_s: float = READ_EVERY_S) -> None:
        self.state = DeviceState()
        self._root = root
        self._nvml_library = nvml
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, within the reading in hand; that is not waited for."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            nvml = Nvml(self._nvml_library)
        except (OSError, AttributeError) as error:  # no driver, or one of another world
            logger.debug("no NVIDIA GPU is read: %s", error)
            nvml = None
        while True:
            self.state = read_device_state(self._root, None if nvml is None else nvml.read())
            if self._stopped.wait(self._every_s):
                break
        if nvml is not None:
            nvml.close()
