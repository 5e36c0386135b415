import json
import resource
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from brittle_jax import loop
from brittle_jax.errors import UserError
from brittle_jax.loop import MetricLog, Training, train
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

    def __call__(self, state, count):
        first, number = sum(self.asked) + 1, len(self.asked)
        self.asked.append(count)
        self.events.append(("asked", number))
        losses = np.arange(first, first + count, dtype=np.float32)
        losses[np.isin(losses, self._bad)] = np.nan
        filled = np.concatenate([losses, np.full(self.most_at_once - count, 1e9)])

        def read():
            self.clock += count * self._seconds
            self.events.append(("read", number))

        values = filled if self.most_at_once > 1 else losses[0:1].reshape(())
        loss = Late(values, read, self._ends_within_the_call)
        return state.replace(step=state.step + count), {"loss": loss}


def run(tmp_path, feed, num_steps):
    weights = {"w": jnp.ones(2)}
    state = create_state({"params": weights, "batch_stats": {}}, adam(1e-3), seed=0)
    log = MetricLog(tmp_path)
    try:
        state = train(Training("distill", feed, state, num_steps, "distill.learning_rate"), log)
    finally:
        log.close()
    assert int(state.step) == sum(feed.asked) == num_steps
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("most_at_once", [1, 64])
@pytest.mark.parametrize("num_steps", [1, 7, 250])
def test_every_update_is_recorded_once(tmp_path, most_at_once, num_steps):
    records = run(tmp_path, Counting(most_at_once), num_steps)
    every = max(num_steps // 100, 1)
    assert [record["step"] for record in records] == [*range(every, num_steps, every), num_steps]
    ends = [0, *(record["step"] for record in records)]
    for record, first, last in zip(records, ends[:-1], ends[1:], strict=True):
        assert record["loss"] == np.mean(np.arange(first + 1, last + 1))


def test_tensorboard_is_given_what_metrics_jsonl_has(tmp_path):
    records = run(tmp_path, Counting(1), 7)
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    data, start, events = file.read_bytes(), 0, []
    while start < len(data):  # length and its checksum, event and its checksum
        (length,) = struct.unpack_from("<Q", data, start)
        events.append(Event.FromString(data[start + 12 : start + 12 + length]))
        start += 16 + length
    values = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert [value for value in values if value[1] == "distill/loss"] == [
        (record["step"], "distill/loss", record["loss"]) for record in records
    ]


def test_metrics_that_cannot_be_written_end_the_run(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = MetricLog(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, hard))
    try:
        with pytest.raises(OSError):
            for step in range(10_000):
                log.write("distill", step, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.close()


@pytest.mark.parametrize(("seconds", "most"), [(0.3, 6), (0.01, 64), (9.0, 1)])
def test_updates_at_once_take_no_more_than_two_seconds(tmp_path, monkeypatch, seconds, most):
    feed = Counting(64, seconds)
    monkeypatch.setattr(loop.time, "monotonic", lambda: feed.clock)
    run(tmp_path, feed, 300 if most > 1 else 5)
    assert max(feed.asked) == most


def test_metrics_are_read_while_the_next_updates_are_under_way(tmp_path):
    feed = Counting(1)
    run(tmp_path, feed, 3)
    assert feed.events == [("asked", 0), ("asked", 1), ("read", 0), ("asked", 2), ("read", 1), ("read", 2)]


def test_metrics_of_updates_that_have_ended_are_read_at_once(tmp_path):
    feed = Counting(1, ends_within_the_call=True)
    run(tmp_path, feed, 2)
    assert feed.events == [("asked", 0), ("read", 0), ("asked", 1), ("read", 1)]


@pytest.mark.parametrize("most_at_once", [1, 64])
def test_the_first_loss_that_is_no_number_is_named(tmp_path, most_at_once):
    with pytest.raises(UserError, match="distill: the loss at update 5 is nan: lower --config.distill.learning_rate"):
        run(tmp_path, Counting(most_at_once, bad=(5, 6)), 20)
