import dataclasses
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax import interrupt
from brittle_jax import loop as loop_lib
from brittle_jax.errors import Interrupted, OutOfMemoryError, UserError
from brittle_jax.loop import Loop, Work
from brittle_jax.train.optimizers import adam
from brittle_jax.train.steps import create_state


class Late:
    """Values that are there only when somebody waits for them, unless their updates have ended within the call."""

    def __init__(self, values, when_read, has_ended):
        self._values, self._when_read, self._has_ended = values, when_read, has_ended

    def is_ready(self):
        return self._has_ended

    def __array__(self, dtype=None, copy=None):
        self._when_read()
        return self._values


class Counting:
    """A feed whose n-th update has the loss n, and takes a time, which passes while its metrics are waited for."""

    def __init__(self, most_at_once, seconds=0.0, bad=(), ends_within_the_call=False):
        self.most_at_once, self._seconds, self._bad = most_at_once, seconds, bad
        self._ends_within_the_call = ends_within_the_call
        self.asked, self.clock, self.events = [], 0.0, []

    def __call__(self, state, first, count):
        number = len(self.asked)
        self.asked.append(count)
        self.events.append(("asked", number))
        losses = np.arange(first + 1, first + count + 1, dtype=np.float32)
        losses[np.isin(losses, self._bad)] = np.nan
        filled = np.concatenate([losses, np.full(self.most_at_once - count, 1e9)])

        def read():
            self.clock += count * self._seconds
            self.events.append(("read", number))

        values = filled if self.most_at_once > 1 else losses[0:1].reshape(())
        loss = Late(values, read, self._ends_within_the_call)
        return state.replace(step=state.step + count), {"loss": loss}


def training(feed, num_steps, **changes):
    state = create_state({"params": {"w": jnp.ones(2)}, "batch_stats": {}}, adam(1e-3), seed=0)
    work = Work("distill", feed, state, num_steps, num_steps, rate_setting="distill.learning_rate")
    return dataclasses.replace(work, **changes)


def run(devices, feed, num_steps, **changes):
    """Returns what a training logs: step and mean loss."""
    records = []
    log = lambda stage, step, metrics: records.append((stage, step, metrics["loss"]))  # noqa: E731
    state = Loop(devices, 64, log).run(training(feed, num_steps, **changes))
    assert sum(feed.asked) == num_steps - changes.get("first", 0)
    assert int(state.step) == sum(feed.asked)
    return records


@pytest.mark.parametrize("most_at_once", [1, 64])
@pytest.mark.parametrize("num_steps", [1, 7, 250])
def test_every_update_is_recorded_once(one_device, most_at_once, num_steps):
    records = run(one_device, Counting(most_at_once), num_steps)
    every = max(num_steps // 100, 1)
    assert [step for _, step, _ in records] == [*range(every, num_steps, every), num_steps]
    ends = [0, *(step for _, step, _ in records)]
    for (stage, _, loss), first, last in zip(records, ends[:-1], ends[1:], strict=True):
        assert stage == "distill"
        assert loss == np.mean(np.arange(first + 1, last + 1))


@pytest.mark.parametrize(("seconds", "most"), [(0.3, 6), (0.01, 64), (9.0, 1)])
def test_updates_at_once_take_no_more_than_two_seconds(one_device, monkeypatch, seconds, most):
    feed = Counting(64, seconds)
    monkeypatch.setattr(loop_lib.time, "monotonic", lambda: feed.clock)
    run(one_device, feed, 300 if most > 1 else 5)
    assert max(feed.asked) == most


def test_metrics_are_read_while_the_next_updates_are_under_way(one_device):
    feed = Counting(1)
    run(one_device, feed, 3)
    assert feed.events == [("asked", 0), ("asked", 1), ("read", 0), ("asked", 2), ("read", 1), ("read", 2)]


def test_metrics_of_updates_that_have_ended_are_read_at_once(one_device):
    feed = Counting(1, ends_within_the_call=True)
    run(one_device, feed, 2)
    assert feed.events == [("asked", 0), ("read", 0), ("asked", 1), ("read", 1)]


@pytest.mark.parametrize("most_at_once", [1, 64])
def test_the_first_loss_that_is_no_number_is_named(one_device, most_at_once):
    with pytest.raises(UserError, match="distill: the loss at update 5 is nan: lower distill.learning_rate"):
        run(one_device, Counting(most_at_once, bad=(5, 6)), 20)


@pytest.mark.parametrize("most_at_once", [1, 64])
def test_a_work_can_begin_at_any_step_and_stop_at_any(one_device, most_at_once):
    feed, records = Counting(most_at_once), []
    loop = Loop(one_device, 64, lambda stage, step, metrics: records.append(step))
    state = loop.run(training(feed, 250), until=7)
    assert sum(feed.asked) == int(state.step) == 7
    loop.run(training(feed, 250, state=state, first=7))
    assert sum(feed.asked) == 250
    assert records == [2, 4, 6, 8, *range(10, 251, 2)]


def test_outputs_are_taken_in_order_with_the_steps_that_they_are_of(one_device):
    taken = []
    work = Work("pass", Counting(1), jnp.zeros(()), 3, 7, unit="image", take=lambda *each: taken.append(each[1:]))
    work = dataclasses.replace(work, feed=lambda state, first, count: (state, {"x": jnp.float32(first)}))
    work.feed.most_at_once = 1
    Loop(one_device, 64).run(work)
    assert taken == [(0, 1), (1, 1), (2, 1)]
    assert [work.units_of(step, 1) for step in range(3)] == [3, 3, 1]


def test_weights_that_are_not_finite_in_the_end_are_refused(one_device):
    class Exploding(Counting):
        def __call__(self, state, first, count):
            state, metrics = super().__call__(state, first, count)
            return state.replace(params={"w": jnp.array([1.0, jnp.inf])}), metrics

    with pytest.raises(
        UserError, match="distill: the largest weight after update 2 is inf: lower distill.learning_rate"
    ):
        run(one_device, Exploding(1), 2)


_TRAINING = """
import pathlib
import sys

import jax
import numpy as np

from brittle_jax.devices import DeviceGroup
from brittle_jax.inference import Representations
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, init_variables
from brittle_jax.student import distillation
from brittle_jax.data.images import Images
from tests.mini_network import MINI

pictures = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
images = Images(20, (16, 16, 3), lambda index: pictures[index])
devices, module = DeviceGroup(tuple(jax.devices()[:1])), MINI.with_output(8)
teacher = Network(module, init_variables(module, 1, images.shape))
for until, folder in zip(sys.argv[1::2], map(pathlib.Path, sys.argv[2::2])):
    log = lambda name, step, metrics: print(folder.name, step, metrics["loss"])
    loop = Loop(devices, 8, log, folder=folder, seconds_between_saves=0)
    work = distillation(
        module, images, np.arange(20), Representations(teacher, images, loop), name="x", seed=0, num_updates=12,
        batch_size=8, learning_rate=1e-2, training_dtype="float32", devices=devices,
    )
    state = loop.run(work, int(until) or None)
    np.savez(f"{folder}-{until}.npz", **{str(number): leaf for number, leaf in enumerate(jax.tree.leaves(state))})
"""


def test_a_training_stopped_within_an_epoch_goes_on_in_a_new_process_bit_for_bit(tmp_path):
    # 20 images in batches of 8: update 4 ends within the second epoch, and its state is kept.
    def train(*until_and_folders):
        arguments = [str(each) for until, folder in until_and_folders for each in (until, tmp_path / folder)]
        return subprocess.check_output([sys.executable, "-c", _TRAINING, *arguments], text=True)

    def state(until, folder):
        with np.load(tmp_path / f"{folder}-{until}.npz") as arrays:
            return dict(arrays)

    def records_of(folder, printed):
        return {line.removeprefix(folder) for line in printed.splitlines() if line.startswith(f"{folder} ")}

    first = train((0, "undisturbed"), (4, "halves"))
    rest = train((0, "halves"))
    undisturbed, stopped, resumed = state(0, "undisturbed"), state(4, "halves"), state(0, "halves")
    assert undisturbed.keys() == resumed.keys()
    assert any(not np.array_equal(stopped[name], undisturbed[name]) for name in stopped)
    for name, leaf in undisturbed.items():
        np.testing.assert_array_equal(resumed[name], leaf)
    records = records_of("undisturbed", first)
    assert len(records) == 12
    assert records_of("halves", first + rest) == records
    assert "distill x: 4 of 12 updates done before" in rest
    assert "distill x: 8 updates in" in rest


def stopped(work):
    """Calls a function that gets a signal, and returns what it raises."""
    with pytest.raises(Interrupted) as raised, interrupt.handled():
        work()
    return raised.value


def into(records):
    """Returns a log into a list, without the seconds."""
    return lambda stage, step, metrics: records.append((stage, step, metrics["loss"]))


def _moved(w, step):
    return w * jnp.float32(0.9) + jnp.sin(jnp.float32(step))


_move = jax.jit(_moved, donate_argnums=0)  # as updates use up their states


def not_yet(values):
    """Returns outputs that the loop has to wait for."""
    return Late(np.array(values), lambda: None, False)


class Moving:
    """A feed of real updates, which a signal meets at one of them; the n-th has the loss 1 / n.

    Attributes:
        taken: the updates that were taken, counted from 0.
    """

    def __init__(self, most_at_once=1, signal_at=None, number=signal.SIGTERM, after=lambda state: state):
        self.most_at_once, self._signal_at, self._number, self._after = most_at_once, signal_at, number, after
        self.taken = []

    def __call__(self, state, first, count):
        assert int(state.step) == first
        w, losses = state.params["w"], []
        for step in range(first, first + count):
            self.taken.append(step)
            if step == self._signal_at:
                os.kill(os.getpid(), self._number)
            w = _move(w, step)
            losses.append(np.float32(1 / (step + 1)))
        return self._after(state.replace(step=state.step + count, params={"w": w})), {"loss": not_yet(losses)}


def train(devices, folder, feed, num_steps, log=None, seconds_between_saves=300.0, **changes):
    loop = Loop(devices, 64, log, folder=folder, seconds_between_saves=seconds_between_saves)
    changes = {"owner": "x", "depends_on": lambda: {"teacher": "a digest"}} | changes
    return loop.run(training(feed, num_steps, **changes))


def kept_steps(folder):
    """Returns after which updates of the only training in a folder its state is kept."""
    (work,) = folder.iterdir()
    return sorted(int(each.name) for each in work.iterdir())


@pytest.mark.parametrize("most_at_once", [1, 64])
@pytest.mark.parametrize("signal_at", [0, 6, 249])
def test_a_training_that_is_asked_to_stop_goes_on_from_its_very_update(
    one_device, tmp_path, most_at_once, signal_at, capsys
):
    expected_records, records = [], []
    expected = train(one_device, None, Moving(most_at_once), 250, into(expected_records))
    first, rest = Moving(most_at_once, signal_at), Moving(most_at_once)
    error = stopped(lambda: train(one_device, tmp_path / "works", first, 250, into(records)))
    done = len(first.taken)
    assert signal_at < done <= min(signal_at + most_at_once, 250)
    assert str(error) == f"SIGTERM; distill x: {done} of 250 updates are saved"
    assert kept_steps(tmp_path / "works") == [done]
    capsys.readouterr()
    state = train(one_device, tmp_path / "works", rest, 250, into(records))
    assert first.taken + rest.taken == [*range(250)]
    np.testing.assert_array_equal(state.params["w"], expected.params["w"])
    assert int(state.step) == 250
    assert records == expected_records and len(records) == 125
    assert f"distill x: {done} of 250 updates done before" in capsys.readouterr().out


def test_a_training_can_be_stopped_many_times(one_device, tmp_path):
    expected = train(one_device, None, Moving(), 12)
    feeds = [Moving(signal_at=step, number=signal.SIGINT) for step in range(0, 12, 2)]
    for feed in feeds:
        assert stopped(lambda: train(one_device, tmp_path, feed, 12)).signal_name == "SIGINT"  # noqa: B023
    feeds.append(Moving())
    state = train(one_device, tmp_path, feeds[-1], 12)
    assert [len(feed.taken) for feed in feeds] == [1, 2, 2, 2, 2, 2, 1]
    np.testing.assert_array_equal(state.params["w"], expected.params["w"])


@pytest.mark.parametrize(("seconds", "kept"), [(4, [6, 9]), (10, [6, 8]), (11, [8, 9]), (1, None)])
def test_states_are_kept_by_time(one_device, tmp_path, monkeypatch, seconds, kept):
    clock = [0.0]
    monkeypatch.setattr(loop_lib.time, "monotonic", lambda: clock[0])

    def pass_time(state):
        clock[0] += seconds
        if int(state.step) == 10:
            raise ZeroDivisionError  # whatever ends the training
        return state

    with pytest.raises(ZeroDivisionError):
        train(one_device, tmp_path / "works", Moving(after=pass_time), 10, seconds_between_saves=10.0)
    if kept is None:
        assert not (tmp_path / "works").exists()
    else:
        assert kept_steps(tmp_path / "works") == kept


def test_a_training_that_has_ended_takes_no_update_again(one_device, tmp_path, capsys):
    """Its caller may be stopped before it has kept the network."""
    state = train(one_device, tmp_path, Moving(), 9)
    assert kept_steps(tmp_path) == [9]
    (kept,) = tmp_path.rglob("manifest.json")
    before, feed, records = kept.stat().st_mtime_ns, Moving(), []
    again = train(one_device, tmp_path, feed, 9, into(records))
    np.testing.assert_array_equal(again.params["w"], state.params["w"])
    assert feed.taken == [] and records == []
    assert "distill x: 9 of 9 updates done before" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before  # nor is it written again


def test_the_seconds_of_a_training_go_on(one_device, tmp_path, monkeypatch):
    clock, records = [100.0], []
    monkeypatch.setattr(loop_lib.time, "monotonic", lambda: clock[0])

    def pass_time(state):
        clock[0] += 4
        return state

    log = lambda stage, step, metrics: records.append((step, metrics["seconds"]))  # noqa: E731
    stopped(lambda: train(one_device, tmp_path, Moving(signal_at=2, after=pass_time), 5, log))
    clock[0] = 7.0  # as in another process, or after the machine was started again
    train(one_device, tmp_path, Moving(after=pass_time), 5, log)
    assert [step for step, _ in records] == [1, 2, 3, 4, 5]
    assert records[2] == (3, 12.0) and records[4] == (5, 20.0)  # where no update is under way


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["params", "batch_stats"])
def test_a_state_that_is_not_finite_is_never_kept(one_device, tmp_path, bad, where):
    def spoil(state):
        if int(state.step) < 5:
            return state
        return state.replace(**{where: {**getattr(state, where), "w": jnp.array([bad, 1.0], jnp.float32)}})

    for first in (0, 4):  # the second time from the last good state
        feed = Moving(after=spoil)
        with pytest.raises(UserError, match=f"distill x: the largest weight after update 5 is {bad}: lower distill"):
            train(one_device, tmp_path, feed, 9, seconds_between_saves=0.0)
        assert feed.taken == [*range(first, 5)]
        assert kept_steps(tmp_path) == [3, 4]


def test_a_training_goes_on_from_its_own_states_alone(one_device, tmp_path):
    stopped(lambda: train(one_device, tmp_path, Moving(signal_at=3), 9))
    for changes in ({"depends_on": lambda: {"teacher": "another"}}, {"kind": "pretrain"}):
        feed = Moving()
        train(one_device, tmp_path, feed, 9, **changes)
        assert feed.taken == [*range(9)]


@pytest.mark.parametrize("missing", ["folder", "depends_on"])
def test_nothing_is_kept_without_a_folder_or_a_name_for_it(one_device, tmp_path, monkeypatch, missing):
    monkeypatch.chdir(tmp_path)
    folder = None if missing == "folder" else tmp_path / "works"
    changes = {"depends_on": None} if missing == "depends_on" else {}
    feed = Moving(signal_at=3)
    error = stopped(lambda: train(one_device, folder, feed, 9, seconds_between_saves=0.0, **changes))
    assert feed.taken == [0, 1, 2, 3]
    assert str(error) == "SIGTERM"
    work = dataclasses.replace(passing(Squares(signal_at=2)), **changes)
    assert str(stopped(lambda: Loop(one_device, 64, folder=folder).run(work))) == "SIGTERM"
    assert list(tmp_path.iterdir()) == []


class Squares:
    """A feed of a pass, whose n-th output is the rows (n², n² + 1) and whether n is even; a signal meets it once."""

    most_at_once = 1

    def __init__(self, signal_at=None):
        self._signal_at, self.taken = signal_at, []

    def __call__(self, state, first, count):
        self.taken.append(first)
        if first == self._signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return state, (not_yet(np.float32([first**2, first**2 + 1])), not_yet([first % 2 == 0]))


def passing(feed, rows=None):
    """Returns a pass over 11 images, two at a time, whose rows go into a list."""
    rows = [] if rows is None else rows

    def take(outputs, first, count):
        assert count == 1
        rows.append((first, *(np.asarray(leaf).tolist() for leaf in outputs)))

    return Work(
        "scores",
        feed,
        jnp.zeros(()),
        6,
        11,
        unit="image",
        batch_size=2,
        take=take,
        depends_on=lambda: {"model": "a digest"},
    )


@pytest.mark.parametrize(("signal_at", "done"), [(0, "2"), (3, "8"), (5, "11")])
def test_a_pass_that_is_asked_to_stop_goes_on_and_gives_the_same_rows(one_device, tmp_path, signal_at, done, capsys):
    expected = []
    Loop(one_device, 64).run(passing(Squares(), expected))
    assert len(expected) == 6
    loop = Loop(one_device, 64, folder=tmp_path / "works")
    first, rest = Squares(signal_at), Squares()
    error = stopped(lambda: loop.run(passing(first)))
    assert str(error) == f"SIGTERM; scores: {done} of 11 images are saved"
    capsys.readouterr()
    for feed, taken in ((rest, [*range(signal_at + 1, 6)]), (Squares(), [])):  # and in the end none is taken again
        rows = []
        loop.run(passing(feed, rows))
        assert rows == expected
        assert feed.taken == taken
    assert first.taken == [*range(signal_at + 1)]
    assert f"scores: {done} of 11 images done before" in capsys.readouterr().out


def test_rows_are_kept_by_time_whatever_ends_the_pass(one_device, tmp_path):
    class Failing(Squares):
        def __call__(self, state, first, count):
            if first == 4:
                raise ZeroDivisionError
            return super().__call__(state, first, count)

    loop = Loop(one_device, 64, folder=tmp_path, seconds_between_saves=0.0)
    with pytest.raises(ZeroDivisionError):
        loop.run(passing(Failing()))
    feed = Squares()
    loop.run(passing(feed))
    assert feed.taken == [4, 5]


def allocate_on_the_device():
    return jnp.zeros(2**50, jnp.uint8)


def allocate_on_the_host():
    return np.empty(2**50, np.uint8)


@pytest.mark.parametrize("allocate", [allocate_on_the_device, allocate_on_the_host])
def test_a_work_that_does_not_fit_in_memory_names_the_setting(one_device, tmp_path, allocate):
    class Large(Moving):
        def __call__(self, state, first, count):
            state, outputs = super().__call__(state, first, count)
            return state, {"loss": outputs["loss"], "large": allocate()} if first == 3 else outputs

    with pytest.raises(OutOfMemoryError, match="^distill x: out of memory; lower distill.batch_size$"):
        train(one_device, tmp_path, Large(), 9, size_setting="distill.batch_size", seconds_between_saves=0.0)
    assert kept_steps(tmp_path) == [2, 3]  # lowering that makes another run of it, but the machine may be a larger one


def test_other_errors_of_the_device_are_not_taken_for_exhausted_memory(one_device):
    class Wrong(Moving):
        def __call__(self, state, first, count):
            raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(one_device, None, Wrong(), 9)


def test_an_error_does_not_wait_behind_a_request(one_device, tmp_path):
    """The training diverges at the very update at which it is asked to stop: it says so."""
    feed = Moving(signal_at=2, after=lambda state: state.replace(params={"w": jnp.array([jnp.nan, 1])}))
    with pytest.raises(UserError, match="the largest weight after update 3 is nan"), interrupt.handled():
        train(one_device, tmp_path, feed, 9)
    assert list(tmp_path.rglob("manifest.json")) == []
