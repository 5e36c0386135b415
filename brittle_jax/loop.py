"""The one loop: trainings, the measuring of batch norm and passes over images all run in it, from any step on.

It alone keeps works that are not finished, and looks for requests to stop.
"""

import collections
import contextlib
import copy
import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from brittle_jax import console, files, interrupt
from brittle_jax.background import Background
from brittle_jax.checkpoint import Steps
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import DivergedError, OutOfMemoryError
from brittle_jax.journal import Journal

SECONDS_BETWEEN_SAVES = 300.0
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
        depends_on: returns what the work depends on beside the settings of the run and its images, ready for JSON, so
            that it goes on from what was kept of this very work alone. None: nothing is kept of it.
        is_kept_at_end: whether a training's last state is kept, since its network is not saved at once.
        rate_setting, size_setting: names of the settings of the learning rate and of the batch size, for errors.
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
    depends_on: Callable[[], Any] | None = None
    is_kept_at_end: bool = True
    rate_setting: str = ""
    size_setting: str = ""
    batch_size: int = 0

    @property
    def name(self) -> str:
        """Kind and owner."""
        return f"{self.kind} {self.owner}".strip()

    def units_of(self, first: int, count: int) -> int:
        """Returns how many units some steps have; the last step may have fewer than the others."""
        per_step = self.batch_size or math.ceil(self.num_units / self.num_steps)
        return min((first + count) * per_step, self.num_units) - first * per_step

    def shown(self, done: int) -> str:
        """Returns how much of a work some steps are, such as "7 of 250 updates"."""
        return f"{self.units_of(0, done):,} of {console.count(self.num_units, self.unit)}"


class Loop:
    """Runs works, one after the other, and keeps what is done of them.

    Attributes:
        devices: that share each work.
        batch_size: of evaluations, over all devices.
        folder: where unfinished works are kept; None: nowhere.
    """

    def __init__(
        self,
        devices: DeviceGroup,
        batch_size: int,
        log: Log | None = None,
        *,
        folder: pathlib.Path | None = None,
        seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
        check: Callable[[], None] = lambda: None,
    ):
        """Metrics of trainings go to `log`, if there is one; `check` is called before anything is kept."""
        self.devices, self.batch_size, self.folder = devices, batch_size, folder
        self._log, self._seconds_between_saves, self._check = log, seconds_between_saves, check

    def kept_in(self, folder: pathlib.Path | None) -> "Loop":
        """Returns the same loop, which keeps works in another folder."""
        other = copy.copy(self)
        other.folder = folder
        return other

    def run(self, work: Work, until: int | None = None) -> Any:
        """Takes all steps of a work that are left, and returns the state after them.

        It takes as many steps at once as the feed allows and about two seconds hold. The host looks at the outputs
        while the next steps are under way, or at once if they were computed within the call, as on a CPU with one
        device. Metrics are logged as means over about a hundredth of the work.

        What is done is kept from time to time, and when a signal asks the process to stop. The same work goes on from
        there, in this process or another, as if nothing had happened.

        Args:
            until: stop after this many steps of the whole work, and keep the state; None: take all of them.

        Raises:
            DivergedError: if the loss, or a weight in the end, is not finite.
            OutOfMemoryError: if a step needs more memory than there is.
            Interrupted: if a signal has asked for it.
        """
        end = work.num_steps if until is None else min(until, work.num_steps)
        folder = self._folder_of(work)
        with interrupt.deferred(), Background(self._check) as background, _naming_the_batch_size(work):
            results = (_Rows if work.take else _Metrics)(work, folder, background, self._log)
            state, done = results.begin(self.devices)
            if done > work.first:
                console.say(f"  {work.name}: {work.shown(done)} done before")
            if done < end:
                state = self._take_steps(work, state, done, end, results)
            goes_on = end < work.num_steps or interrupt.is_requested()
            results.end(state, max(done, end), is_to_keep=work.is_kept_at_end or goes_on)
            interrupt.raise_if_requested(results.what_is_kept(max(done, end)))
        return state

    def _take_steps(self, work: Work, state: Any, done: int, end: int, results: "_Rows | _Metrics") -> Any:
        at_once, under_way = 1, collections.deque()
        last = saved = time.monotonic()
        with console.track(work.name, work.num_units, work.unit, done=work.units_of(0, done)) as progress:
            while done < end:
                count = min(at_once, end - done)
                state, outputs = work.feed(state, done, count)
                under_way.append((outputs, done, count))
                done += count
                is_due = time.monotonic() - saved > self._seconds_between_saves
                most_left = 0 if done == end or is_due or _is_ready(outputs) else 1
                while len(under_way) > (0 if interrupt.is_requested() else most_left):
                    outputs, first, taken = under_way.popleft()
                    results.take(outputs, first, taken)
                    progress.update(work.units_of(first, taken), results.note)
                    before, last = last, time.monotonic()
                    fitting = max(int(_SECONDS_AT_ONCE * taken / max(last - before, 1e-9)), 1)
                    at_once = min(fitting, 2 * at_once, work.feed.most_at_once)
                if (is_due or interrupt.is_requested()) and done < end and not under_way:
                    results.save(state, done)
                    saved = time.monotonic()
                    if interrupt.is_requested():
                        interrupt.raise_if_requested(results.what_is_kept(done))
            jax.block_until_ready(state)
        return state

    def call(self, kind: str, function: Callable[[], Any]) -> Any:
        """Calls a function that takes time on the host, and returns what it returns; `kind` is as a work's."""
        del kind
        return function()

    def forget(self, kind: str) -> None:
        """Drops what is kept of works of a kind: what came of them is safe elsewhere."""
        if self.folder is not None and self.folder.is_dir():
            for folder in self.folder.glob(f"{_as_file_name(kind)}-*"):
                files.drop(folder)

    def _folder_of(self, work: Work) -> pathlib.Path | None:
        if self.folder is None or work.depends_on is None:
            return None
        digest = files.sha256_of_text(files.to_json(work.depends_on()))
        return self.folder / f"{_as_file_name(work.kind)}-{digest[:16]}"


def _as_file_name(kind: str) -> str:
    return kind.replace(" ", "-")


def _is_ready(outputs: Any) -> bool:
    return all(leaf.is_ready() for leaf in jax.tree.leaves(outputs))


@contextlib.contextmanager
def _naming_the_batch_size(work: Work) -> Iterator[None]:
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise OutOfMemoryError(work.name, work.size_setting) from error
        raise


class _Results:
    """What becomes of the outputs of a work, and where they are kept.

    Attributes:
        note: what to show beside the progress.
    """

    note = ""

    def __init__(self, work: Work, folder: pathlib.Path | None, background: Background, log: Log | None):
        self._work, self._folder, self._background, self._log = work, folder, background, log

    def what_is_kept(self, done: int) -> str:
        """Waits until what was saved is written; returns what is kept, or an empty text if nothing is."""
        self._background.wait()
        return "" if self._folder is None else f"{self._work.name}: {self._work.shown(done)} are saved"


class _Rows(_Results):
    """Of a pass: the work takes them, and a journal keeps them."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._journal = None if self._folder is None else Journal(self._folder, self._background)

    def begin(self, devices: DeviceGroup) -> tuple[Any, int]:
        """Takes the outputs that were kept; returns the state, and how many steps they are of."""
        del devices
        done = self._work.first
        for outputs in self._journal.play_back() if self._journal else ():
            self._work.take(outputs, done, 1)
            done += 1
        return self._work.state, done

    def take(self, outputs: Any, first: int, count: int) -> None:
        """Waits for the outputs of `count` steps, and takes them."""
        self._work.take(outputs, first, count)
        if self._journal is not None:
            self._journal.add(outputs)

    def save(self, state: Any, done: int) -> None:
        """Starts to write what has been taken."""
        del state, done
        if self._journal is not None:
            self._journal.save()

    def end(self, state: Any, done: int, is_to_keep: bool) -> None:
        """Starts to write the rest: a pass that has ended is never made again."""
        del is_to_keep
        self.save(state, done)


class _Metrics(_Results):
    """Of a training: each is checked, means of them are logged, and the state is kept."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        work, folder = self._work, self._folder
        self._steps = None if folder is None else Steps(folder, work.depends_on(), self._background)
        self._last_saved = -1
        self._every = max(work.num_steps // _RECORDS_PER_WORK, 1)
        self._window: list[dict[str, float]] = []
        self._start = time.monotonic()

    def begin(self, devices: DeviceGroup) -> tuple[Any, int]:
        """Returns the state that was kept last, or else the work's own, and how many steps have been taken."""
        kept = self._steps.newest(self._work.state) if self._steps else None
        if kept is None:
            return self._work.state, self._work.first
        state, description = kept
        for leaf in jax.tree.leaves(self._work.state):
            if isinstance(leaf, jax.Array):
                leaf.delete()  # its memory is needed
        self._window = description["since_last_record"]
        self._start -= description["seconds"]
        self._last_saved = int(state.step)
        return devices.replicate(state), self._last_saved

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

    def save(self, state: Any, done: int) -> None:
        """Starts to write the state, which must be finite: a training never goes on from one that is not."""
        self._check_weights(state, done)  # the last update comes after the last loss
        if self._steps is None or done == self._last_saved:
            return
        description = {"since_last_record": list(self._window), "seconds": time.monotonic() - self._start}
        self._steps.save(done, state, description)
        self._last_saved = done

    def end(self, state: Any, done: int, is_to_keep: bool) -> None:
        """Checks the state after the last step, and starts to write it if it is to be kept."""
        if is_to_keep:
            self.save(state, done)
        else:
            self._check_weights(state, done)

    def _check_weights(self, state: Any, done: int) -> None:
        # On the host, where no program is compiled for each shape of weights; NumPy's maximum passes NaN on.
        largest = float(np.max([np.abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(state.variables)]))
        if not math.isfinite(largest):
            what = f"{self._work.name}: the largest weight after update {done} is {largest}"
            raise DivergedError(what, self._work.rate_setting)
