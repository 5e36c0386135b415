import dataclasses
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax import loop as loop_lib
from brittle_jax.errors import UserError
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

until, saved, folder = int(sys.argv[1]) or None, sys.argv[2], pathlib.Path(sys.argv[3])
pictures = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
images = Images(20, (16, 16, 3), lambda index: pictures[index])
devices, module = DeviceGroup(tuple(jax.devices()[:1])), MINI.with_output(8)
loop = Loop(devices, 8, lambda name, step, metrics: print(step, metrics["loss"]), folder=folder, seconds_between_saves=0)
teacher = Network(module, init_variables(module, 1, images.shape))
work = distillation(
    module, images, np.arange(20), Representations(teacher, images, loop), name="x", seed=0, num_updates=12,
    batch_size=8, learning_rate=1e-2, training_dtype="float32", devices=devices,
)
state = loop.run(work, until)
np.savez(saved, **{str(number): leaf for number, leaf in enumerate(jax.tree.leaves(state))})
"""


def test_a_training_stopped_within_an_epoch_goes_on_in_a_new_process_bit_for_bit(tmp_path):
    # 20 images in batches of 8: update 4 ends within the second epoch. What was kept last is the state after update 3.
    def train(until, name, folder):
        command = [sys.executable, "-c", _TRAINING, str(until), str(tmp_path / name), str(tmp_path / folder)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        with np.load(tmp_path / name) as arrays:
            return dict(arrays), out

    undisturbed, whole = train(0, "whole.npz", "undisturbed")
    stopped, first = train(4, "half.npz", "stopped")
    resumed, rest = train(0, "resumed.npz", "stopped")
    assert undisturbed.keys() == resumed.keys()
    assert any(not np.array_equal(stopped[name], undisturbed[name]) for name in stopped)
    for name, leaf in undisturbed.items():
        np.testing.assert_array_equal(resumed[name], leaf)
    records = {line for line in whole.splitlines() if line[0].isdigit()}
    assert len(records) == 12
    assert {line for line in (first + rest).splitlines() if line[0].isdigit()} == records
    assert "distill x: update 3 of 12 done before" in rest
    assert "distill x: 9 updates in" in rest
