"""What a row would take on this machine: its run is rehearsed, with a few steps of each work; nothing is kept."""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections

from brittle_jax import console
from brittle_jax.config import completed, seeds_of
from brittle_jax.devices import DeviceGroup
from brittle_jax.loop import Loop, Work
from brittle_jax.rows import MOST_BYTES_IN_MEMORY, bytes_needed
from brittle_jax.run import disk, experiment, settings
from brittle_jax.run.row import Row
from brittle_jax.run.stages import peak_memory_mib

_MOST_CALLS = 20  # of a compiled function that is tried
_UPDATES = 16  # of a call, at most
_BATCHES = 4  # whose rows stand for those of all others
_NOT_TRIED = {"probe"}  # fitting it may take minutes


@dataclasses.dataclass(frozen=True)
class StageEstimate:
    """What one stage takes.

    Attributes:
        stage: as in results.json.
        count, unit: of what there is to do, such as updates.
        seconds_per_unit: once it is compiled.
        compile_seconds: what the first call took beyond a later one; with the compilation cache, next to nothing the
            next time.
    """

    stage: str
    count: int
    unit: str
    seconds_per_unit: float
    compile_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Of the whole stage."""
        return self.compile_seconds + self.count * self.seconds_per_unit


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a row takes.

    Attributes:
        stages: in the order of the run; one may come twice, for what it does of different kinds.
        memory_mib: of the process, at its highest.
        device_memory_mib: of the fullest accelerator, in what was tried; None on a CPU.
        num_networks: that are kept on disk, not counting those that are there already.
        disk_mib: that they and the detectors take; up to twice `evaluate.keep_errors_mib` per configuration
            come on top.
        temporary_disk_mib: that the run takes on top, at most, until it has finished: what it needs to go on if it is
            stopped, and representations and errors that memory cannot hold.
        num_seeds: over which the row is repeated; stages, networks and disk space are those of all of them.
    """

    stages: list[StageEstimate]
    memory_mib: float
    device_memory_mib: float | None
    num_networks: int
    disk_mib: float
    temporary_disk_mib: float
    num_seeds: int = 1

    @property
    def seconds(self) -> float:
        """Of the whole run, without reading the data set."""
        return sum(stage.seconds for stage in self.stages)


def table(estimate: Estimate) -> str:
    """Returns an estimate as people read it."""
    lines = [("stage", "work", "once compiled", "compiling", "time")]
    for stage in estimate.stages:
        rate = f"{_rate(stage)} {stage.unit}s/s"
        times = (console.duration(seconds) for seconds in (stage.compile_seconds, stage.seconds))
        lines.append((stage.stage, f"{stage.count:,} {stage.unit}{'s' * (stage.count != 1)}", rate, *times))
    lines.append(("in all", "", "", "", console.duration(estimate.seconds)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    memory = f"memory: {estimate.memory_mib:,.0f} MiB"
    if estimate.device_memory_mib is not None:
        memory += f", {estimate.device_memory_mib:,.0f} MiB of the device's own"
    disk = f"disk: {estimate.disk_mib:,.1f} MiB for {console.count(estimate.num_networks, 'network')}"
    disk += f", and up to {estimate.temporary_disk_mib:,.1f} MiB more until it has finished"
    about = "for the whole row from the start, except teachers that are in the store; nothing was trained"
    besides = "reading the data, fitting the probe, and pictures come on top"
    seeds = [f"for {estimate.num_seeds} seeds, that is {estimate.num_seeds} times the work of the first"]
    return "\n".join([*rows, memory, disk, *(seeds if estimate.num_seeds > 1 else []), about, besides])


def _rate(stage: StageEstimate) -> str:
    rate = 1 / max(stage.seconds_per_unit, 1e-9)
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def estimate(
    config: ml_collections.ConfigDict,
    folder: str,
    devices: DeviceGroup | None = None,
    *,
    least_seconds: float = 2.0,
    most_bytes_in_memory: int = MOST_BYTES_IN_MEMORY,
) -> Estimate:
    """Rehearses a row, and returns what the whole of it would take.

    The data sets are read as for a run, and made or prepared first where a run would do that. Of a row that is repeated
    over several seeds, the first is rehearsed, and each of the others takes as much work.

    Args:
        config: the settings, see `brittle_jax.config`.
        folder: of the results; a teacher that is in the store beside it already takes no time.
        devices: that share the work; None: all of this process.
        least_seconds: as in `Rehearsal`.
        most_bytes_in_memory: as in `Row`.

    Raises:
        UserError: for a setting or data set that cannot be used.
    """
    devices, config = devices or DeviceGroup(), completed(config)
    folder, seeds = pathlib.Path(folder).expanduser(), seeds_of(config)
    config, num_seeds = (settings.for_seed(config, seeds[0], folder), len(seeds)) if seeds else (config, 1)
    kind = experiment.check_settings(config, folder, devices, store_is_read_only=True)
    loop = Rehearsal(devices, config.evaluate.batch_size, least_seconds)
    row = experiment.read_row(config, kind, loop, loop.stage)
    row = dataclasses.replace(row, most_bytes_in_memory=most_bytes_in_memory)
    configurations = experiment.configurations_of(row)
    console.say(f"{config.row}: trying each stage on a few batches")
    reference = row.reference() if experiment.needs_reference(row) else None
    with console.silenced():
        for configuration in configurations:
            experiment.run_configuration(row, configuration)
            if reference is not None:
                experiment.run_configuration(reference, experiment.reference_of(configuration))
    num_references = 0 if reference is None else len(configurations)
    num_networks, disk_mib = disk.kept(
        row.network,
        row.dataset.images.shape,
        num_configurations=len(configurations),
        num_references=num_references,
        num_trained=loop.num_trainings("pretrain"),
        teacher_is_shared=row.teacher_is_shared,
    )
    images_mib = sum(dataset.images.cached_bytes for dataset in row.datasets) / 2**20
    return Estimate(
        [dataclasses.replace(stage, count=num_seeds * stage.count) for stage in loop.estimates()],
        peak_memory_mib() + images_mib,
        devices.peak_memory_mib(),
        num_seeds * num_networks,
        num_seeds * disk_mib,
        _temporary_bytes(row, most_bytes_in_memory, num_rows=1 if reference is None else 2) / 2**20,
        num_seeds,
    )


@dataclasses.dataclass
class _Tried:
    """Works of one kind in one stage: what was tried of the first, and how much there is of all."""

    unit: str
    seconds_per_step: float
    compile_seconds: float
    outputs: list[Any]
    num_works: int = 0
    num_steps: int = 0
    num_units: int = 0


class Rehearsal(Loop):
    """A loop that tries a few steps of each kind of work, and repeats what came out in place of all others.

    A training ends with the weights of a few updates, a pass over images with the rows of a few batches: wrong numbers,
    of the right shapes, with which the next stage can be tried.
    """

    def __init__(self, devices: DeviceGroup, batch_size: int, least_seconds: float = 2.0):
        """Tries each kind of work for `least_seconds`, or 20 calls, once it is compiled; see `Loop`."""
        super().__init__(devices, batch_size)
        self._least_seconds = least_seconds
        self._stage = ""
        self._tried: dict[tuple[str, str, int], _Tried] = {}  # by stage, kind of work, batch size

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the works of the block as part of a stage."""
        before, self._stage = self._stage, name
        try:
            yield
        finally:
            self._stage = before

    def run(self, work: Work, until: int | None = None) -> Any:
        """Tries a work; see `Loop.run`."""
        key, state = (self._stage, work.kind, work.batch_size), work.state
        if key not in self._tried:
            state, self._tried[key] = _try(work, self._least_seconds)
        tried = self._tried[key]
        num_steps = (work.num_steps if until is None else until) - work.first
        tried.num_works += work.first == 0
        tried.num_steps += num_steps
        tried.num_units += work.units_of(work.first, num_steps)
        for step in range(work.num_steps if work.take is not None else 0):
            work.take(tried.outputs[step % len(tried.outputs)], step, 1)
        return state

    def call(self, kind: str, function: Callable[[], Any]) -> Any:
        """Calls a function once for all calls of a kind; None where that may take long. See `Loop.call`."""
        if kind in _NOT_TRIED:
            return None
        key = self._stage, kind, 0
        if key not in self._tried:
            start = time.monotonic()
            result = function()
            self._tried[key] = _Tried("configuration", time.monotonic() - start, 0.0, [result])
        tried = self._tried[key]
        tried.num_works, tried.num_steps, tried.num_units = (
            count + 1 for count in (tried.num_works, tried.num_steps, tried.num_units)
        )
        return tried.outputs[0]

    def num_trainings(self, stage: str) -> int:
        """Returns how many networks a stage trains."""
        return sum(
            each.num_works for (name, *_), each in self._tried.items() if name == stage and each.unit == "update"
        )

    def estimates(self) -> list[StageEstimate]:
        """Returns what each kind of work takes, in the order in which they came first."""
        kinds: dict[tuple[str, str], list[_Tried]] = {}
        for (stage, kind, _), each in self._tried.items():
            kinds.setdefault((stage, kind), []).append(each)
        return [_together(stage, tried) for (stage, _), tried in kinds.items()]


def _together(stage: str, tried: list[_Tried]) -> StageEstimate:
    """Returns what works of one kind take, whatever their batch sizes: each is a program of its own."""
    num_units = sum(each.num_units for each in tried)
    seconds = sum(each.seconds_per_step * each.num_steps for each in tried)
    compile_seconds = sum(each.compile_seconds for each in tried)
    return StageEstimate(stage, num_units, tried[0].unit, seconds / num_units, compile_seconds)


def _try(work: Work, least_seconds: float) -> tuple[Any, _Tried]:
    """Takes a few steps; returns the state after them, and what they took."""
    at_once = min(work.feed.most_at_once, _UPDATES, work.num_steps)
    outputs = collections.deque(maxlen=_BATCHES)
    state = work.state

    def take_steps(call: int) -> float:
        nonlocal state
        first = call * at_once % (work.num_steps - at_once + 1)
        start = time.monotonic()
        state, each = work.feed(state, first, at_once)
        jax.block_until_ready((state, each))
        outputs.append(each)
        return time.monotonic() - start

    first_seconds = take_steps(0)
    seconds, calls = 0.0, 0
    while not calls or (seconds < least_seconds and calls < _MOST_CALLS):
        calls += 1
        seconds += take_steps(calls)
    per_call = seconds / calls
    return state, _Tried(work.unit, per_call / at_once, max(first_seconds - per_call, 0.0), list(outputs))


def _temporary_bytes(row: Row, most_bytes_in_memory: int, num_rows: int) -> int:
    """Returns what is on disk while the row runs, at most, beside the networks and results.

    That is the states of a training; the journals of two passes over all images, of the teacher and of the student; and
    the temporary files of representations, of as many rows, and of errors.
    """
    image_shape = row.dataset.images.shape
    num_images, num_features = len(row.dataset.images), disk.num_features(row.network, image_shape)
    _, in_file = bytes_needed(num_images, num_features, most_bytes_in_memory)
    states = disk.bytes_of_states(row.network, image_shape)
    return states + 2 * 4 * num_images * num_features + (num_rows + 1) * in_file
