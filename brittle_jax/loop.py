"""The one loop: trainings, the measuring of batch norm and passes over images all run in it, from any step on."""

import collections
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from brittle_jax import console
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import DivergedError

_RECORDS_PER_WORK = 100
_SECONDS_AT_ONCE = 2.0  # between two updates of the progress, at most

Metrics = dict[str, Any]
Log = Callable[[str, int, dict[str, float]], None]
"""Records metrics of a work, by name, after a number of steps: `MetricLog.write`."""


class Feed(Protocol):
    """Takes the steps of a work. It holds no position: whoever calls says where the state stands.

    Attributes:
        most_at_once: how many steps a call may take at most.
    """

    most_at_once: int

    def __call__(self, state: Any, first: int, count: int) -> tuple[Any, Any]:
        """Takes steps `first` to `first + count - 1`, counted from 0, and uses the state up: its buffers are donated.

        Returns:
            The new state, and outputs: of a training its metrics, at least `loss`, each [U] with U >= count, or [].
            Neither need be computed yet.
        """


@dataclasses.dataclass(frozen=True)
class Work:
    """Something that takes many steps.

    Attributes:
        kind: what it is called, such as "distill". Works of one kind take about as long a step in one run.
        owner: whose work it is, such as "unimodal/airplane"; empty if there is just one.
        feed: takes the steps.
        state: before step `first`; a training state is used up, so a work runs once.
        num_steps: of the whole work.
        first: where the state stands: how many steps have been taken. A training's own state says so.
        unit: of what is counted, such as "update" or "image".
        num_units: of the whole work.
        take: called with the outputs of steps, the first of these steps, and their number. None: the outputs are
            metrics, which the loop logs; it then refuses losses and weights that are not finite.
        rate_setting: name of the learning rate's setting, for errors.
        batch_size: of a pass over images; works of one kind that differ in it run different programs. 0: of a training.
    """

    kind: str
    feed: Feed
    state: Any
    num_steps: int
    num_units: int
    unit: str = "update"
    owner: str = ""
    first: int = 0
    take: Callable[[Any, int, int], None] | None = None
    rate_setting: str = ""
    batch_size: int = 0

    @property
    def name(self) -> str:
        """Kind and owner."""
        return f"{self.kind} {self.owner}".strip()

    def units_of(self, first: int, count: int) -> int:
        """Returns how many units some steps have; the last step may have fewer than the others."""
        per_step = self.batch_size or math.ceil(self.num_units / self.num_steps)
        return min((first + count) * per_step, self.num_units) - first * per_step


class Loop:
    """Runs works, one after the other.

    Attributes:
        devices: that share each work.
        batch_size: of evaluations, over all devices.
    """

    def __init__(self, devices: DeviceGroup, batch_size: int, log: Log | None = None):
        """Metrics of trainings go to `log`, if there is one."""
        self.devices, self.batch_size, self._log = devices, batch_size, log

    def run(self, work: Work, until: int | None = None) -> Any:
        """Takes all steps of a work that are left, and returns the state after them.

        It takes as many steps at once as the feed allows and about two seconds hold. The host looks at the outputs
        while the next steps are under way, or at once if they were computed within the call, as on a CPU with one
        device. Metrics are logged as means over about a hundredth of the work.

        Args:
            until: stop after this many steps of the whole work; None: after all of them.

        Raises:
            DivergedError: if the loss, or a weight in the end, is not finite.
        """
        end = work.num_steps if until is None else min(until, work.num_steps)
        state, done, at_once, under_way = work.state, work.first, 1, collections.deque()
        records = _Records(work, self._log)
        last = time.monotonic()
        with console.track(work.name, work.num_units, unit=work.unit) as progress:
            while done < end:
                count = min(at_once, end - done)
                state, outputs = work.feed(state, done, count)
                under_way.append((outputs, done, count))
                done += count
                most_left = 0 if done == end or _is_ready(outputs) else 1
                while len(under_way) > most_left:
                    outputs, first, taken = under_way.popleft()
                    (work.take or records.take)(outputs, first, taken)
                    progress.update(work.units_of(first, taken), records.note)
                    before, last = last, time.monotonic()
                    fitting = max(int(_SECONDS_AT_ONCE * taken / max(last - before, 1e-9)), 1)
                    at_once = min(fitting, 2 * at_once, work.feed.most_at_once)
            jax.block_until_ready(state)
        if work.take is None:
            _check_weights(state, work)
        return state

    def call(self, kind: str, function: Callable[[], Any]) -> Any:
        """Calls a function that takes time on the host, and returns what it returns; `kind` is as a work's."""
        del kind
        return function()


def _is_ready(outputs: Any) -> bool:
    return all(leaf.is_ready() for leaf in jax.tree.leaves(outputs))


class _Records:
    """Checks the metrics of each step, and logs means of them.

    Attributes:
        note: the last loss, as text.
    """

    def __init__(self, work: Work, log: Log | None):
        self._work, self._log, self.note = work, log, ""
        self._every = max(work.num_steps // _RECORDS_PER_WORK, 1)
        self._window: list[dict[str, float]] = []
        self._start = time.monotonic()

    def take(self, metrics: Metrics, first: int, count: int) -> None:
        """Waits for the metrics of `count` steps, and records them."""
        values = {name: np.atleast_1d(np.asarray(value))[:count].tolist() for name, value in metrics.items()}
        for place in range(count if values else 0):
            self._add(first + place + 1, {name: value[place] for name, value in values.items()})

    def _add(self, number: int, record: dict[str, float]) -> None:
        work = self._work
        if not math.isfinite(record["loss"]):
            raise DivergedError(f"{work.name}: the loss at update {number} is {record['loss']}", work.rate_setting)
        self.note = f"loss {record['loss']:.4g}"
        self._window.append(record)
        if number % self._every == 0 or number == work.num_steps:
            if self._log is not None:
                means = {name: float(np.mean([each[name] for each in self._window])) for name in record}
                self._log(work.name, number, means | {"seconds": time.monotonic() - self._start})
            self._window = []


def _check_weights(state: Any, work: Work) -> None:
    """Raises DivergedError if a weight is not finite: the last update comes after the last loss."""
    # On the host, where no program is compiled for each shape of weights; NumPy's maximum passes NaN on.
    largest = float(np.max([np.abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(state.variables)]))
    if not math.isfinite(largest):
        raise DivergedError(f"{work.name}: the largest weight in the end is {largest}", work.rate_setting)
