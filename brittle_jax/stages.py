"""What each stage of a run takes: seconds, and memory at its highest."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator

from brittle_jax.parallel import DeviceGroup

_UNITS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere


class Stages:
    """Adds up seconds by stage, and keeps the highest memory that had been seen when it ended.

    Attributes:
        seconds: by stage.
        peak_memory_mib: of the process, by stage, since the process began: what a stage needs at most.
        peak_device_memory_mib: the same of the fullest accelerator; None on a CPU, where it is the process's.
    """

    def __init__(self, devices: DeviceGroup):
        self._devices = devices
        self.seconds: dict[str, float] = {}
        self.peak_memory_mib: dict[str, int] = {}
        self.peak_device_memory_mib: dict[str, int | None] = {}

    @contextlib.contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Counts the block as part of a stage."""
        start = time.monotonic()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start
        self.peak_memory_mib[stage] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _UNITS_PER_MIB
        self.peak_device_memory_mib[stage] = self._devices.peak_memory_mib()
