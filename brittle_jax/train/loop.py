"""The loop around a training step: progress, metrics, and a stop where the loss is no longer a number."""

import collections
import dataclasses
import json
import pathlib
import time

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from brittle_jax import console
from brittle_jax.errors import UserError
from brittle_jax.train.feed import Feed
from brittle_jax.train.steps import TrainState

_RECORDS_PER_STAGE = 100
_SECONDS_AT_ONCE = 2.0  # that a person waits at most before the progress moves
_SECONDS_TO_FLUSH = 30.0  # that TensorBoard lags behind at most


class MetricLog:
    """Writes metrics to `metrics.jsonl` and as TensorBoard events, under `DIR/tensorboard`."""

    def __init__(self, workdir: pathlib.Path):
        path = workdir / "metrics.jsonl"
        was_cut_off = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = open(path, "a", encoding="utf-8")
        if was_cut_off:
            self._file.write("\n")  # the line that a killed run left is lost, the next one is not
        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # Not by SummaryWriter, whose thread ends where the disk is full: the run would then wait for it for ever.
        self._events = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()

    def write(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        """Records metrics of a stage, such as "distill unimodal/airplane", after so many updates.

        Raises:
            OSError: where they cannot be written.
        """
        self._file.write(json.dumps({"stage": stage, "step": step, **metrics}) + "\n")
        self._file.flush()
        values = [
            Summary.Value(tag=f"{stage}/{name}".replace(" ", "/"), simple_value=value)
            for name, value in metrics.items()
        ]
        self._events.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        if time.monotonic() - self._flushed > _SECONDS_TO_FLUSH:
            self._events.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes both."""
        try:
            self._file.close()
        finally:
            self._events.close()


@dataclasses.dataclass(frozen=True)
class Training:
    """A training that is ready to begin.

    Attributes:
        stage: what it is called, such as "distill unimodal/airplane".
        feed: makes the updates.
        state: before the first update, which takes its memory over: a training runs once.
        num_steps: how many updates.
        rate_field: the learning rate's field, named where the loss is not finite.
    """

    stage: str
    feed: Feed
    state: TrainState
    num_steps: int
    rate_field: str


def train(training: Training, log: MetricLog) -> TrainState:
    """Makes all updates and returns the last state.

    As many at once as the feed can, and take no more than about two seconds; the host looks at their metrics while the
    next ones are under way, or, where they have ended within the call, as on a CPU that is one device, at once. Metrics
    are recorded as means over about a hundredth of the stage.

    Raises:
        UserError: where the loss, or a weight in the end, is not finite.
    """
    state, num_steps = training.state, training.num_steps
    with console.track(training.stage, num_steps, unit="update") as progress:
        records = _Records(training, log, progress)
        done, at_once, under_way = 0, 1, collections.deque()
        while done < num_steps:
            count = min(at_once, num_steps - done)
            state, metrics = training.feed(state, count)
            under_way.append((metrics, count))
            done += count
            most_left = 0 if metrics["loss"].is_ready() or done == num_steps else 1
            while len(under_way) > most_left:
                seconds = records.add(*under_way.popleft())
                at_once = min(max(int(_SECONDS_AT_ONCE / seconds), 1), 2 * at_once, training.feed.most_at_once)
    # The last update comes after the last loss.
    # On the host, where no program is compiled for each shape of weights; NumPy's maximum passes NaN on.
    largest_weight = np.max([np.abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(state.variables)])
    _check_finite(float(largest_weight), f"{training.stage}: the largest weight in the end", training.rate_field)
    return state


class _Records:
    """Looks at the metrics of each update, and records means of them."""

    def __init__(self, training: Training, log: MetricLog, progress: console.Progress):
        self._training, self._log, self._progress = training, log, progress
        self._window: list[dict[str, float]] = []
        self._every = max(training.num_steps // _RECORDS_PER_STAGE, 1)
        self._number = 0
        self._start = self._last = time.monotonic()

    def add(self, metrics: dict[str, jax.Array], count: int) -> float:
        """Waits for the metrics of `count` updates, and returns the seconds that one of them took."""
        values = {name: np.atleast_1d(np.asarray(value))[:count].tolist() for name, value in metrics.items()}
        for place in range(count):
            self._add_one({name: value[place] for name, value in values.items()})
        self._progress.update(count, f"loss {values['loss'][-1]:.4g}")
        before, self._last = self._last, time.monotonic()
        return (self._last - before) / count

    def _add_one(self, record: dict[str, float]) -> None:
        self._number += 1
        stage = self._training.stage
        _check_finite(record["loss"], f"{stage}: the loss at update {self._number}", self._training.rate_field)
        self._window.append(record)
        if len(self._window) == self._every or self._number == self._training.num_steps:
            seconds = time.monotonic() - self._start
            self._log.write(stage, self._number, _mean(self._window) | {"seconds": seconds})
            self._window = []


def _check_finite(value: float, what: str, rate_field: str) -> None:
    if not np.isfinite(value):
        raise UserError(f"{what} is {value}: lower --config.{rate_field}")


def _mean(records: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([record[name] for record in records])) for name in records[0]}
