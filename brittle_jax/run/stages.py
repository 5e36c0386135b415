"""What each stage of a run takes: seconds, and memory at its highest."""

import contextlib
import math
import pathlib
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from brittle_jax import console, files
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import DamagedError, Interrupted
from brittle_jax.heap import give_back_freed_memory

_UNITS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere


def peak_memory_mib() -> int:
    """Returns the highest memory of the process since it began."""
    status = pathlib.Path("/proc/self/status")  # of Linux, whose ru_maxrss is the parent's, if that had more
    peaks = re.findall(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else []
    if peaks:
        return int(peaks[0]) // 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _UNITS_PER_MIB


class Stages:
    """Adds up the seconds of each stage, and keeps the highest memory that had been seen when it ended.

    Attributes:
        records: by stage, as results.json has them: `seconds`; `peak_memory_mib` of the process since it began;
            `peak_device_memory_mib` of the fullest accelerator, null on a CPU, where it is the process's.
    """

    def __init__(self, devices: DeviceGroup):
        self._devices = devices
        self._file: pathlib.Path | None = None
        self.records: dict[str, dict[str, Any]] = {}

    def keep_in(self, file: pathlib.Path, check: Callable[[], None] = lambda: None) -> None:
        """Adds what earlier processes of the same run took, as a file has it, and keeps that file up to date.

        Args:
            check: called before the file is written.
        """
        so_far, self.records = self.records, _read(file)
        for stage, record in so_far.items():
            self._add(stage, **record)
        self._file, self._check = file, check

    @contextlib.contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Counts the block as part of a stage; what memory it leaves free is given back at its end."""
        start = time.monotonic()
        try:
            yield
        except Interrupted:  # another process does the rest
            self._count(stage, start)
            raise
        self._count(stage, start)

    def _count(self, stage: str, start: float) -> None:
        give_back_freed_memory()
        self._add(
            stage,
            seconds=time.monotonic() - start,
            peak_memory_mib=peak_memory_mib(),
            peak_device_memory_mib=self._devices.peak_memory_mib(),
        )
        if self._file is not None:
            self._check()
            files.write_json(self._file, self.records)

    def _add(self, stage: str, seconds: float, **peaks: int | None) -> None:
        before = self.records.get(stage, {"seconds": 0.0})
        self.records[stage] = {"seconds": before["seconds"] + seconds} | {
            name: max((peak for peak in (before.get(name), now) if peak is not None), default=None)
            for name, now in peaks.items()
        }

    def column(self, name: str) -> dict[str, Any]:
        """Returns one figure of every stage, such as `seconds`, by stage."""
        return {stage: record[name] for stage, record in self.records.items()}


def _read(file: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Reads what earlier processes of a run took; nothing where there is no such file, or a damaged one."""
    if not file.is_file():
        return {}
    try:
        return {stage: _record(**record) for stage, record in files.read_json(file).items()}
    except (DamagedError, AttributeError, TypeError, ValueError):
        console.warn(f"{file} is damaged: what the earlier part of the run took is not counted")
        return {}


def _record(seconds: float, **peaks: int | None) -> dict[str, Any]:
    """Returns a record of a stage; raises TypeError or ValueError where it is none."""
    if not math.isfinite(seconds) or not all(peak is None or isinstance(peak, int) for peak in peaks.values()):
        raise ValueError("not what a stage took")
    return {"seconds": seconds, **peaks}
