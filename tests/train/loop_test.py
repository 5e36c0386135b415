import json
import time

import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.errors import UserError
from brittle_jax.train.loop import MetricLog, Training, train
from brittle_jax.train.steps import TrainState


class Counting:
    """A feed whose n-th update has the loss n, and takes a time."""

    def __init__(self, most_at_once, seconds=0.0, bad=()):
        self.most_at_once, self._seconds, self._bad = most_at_once, seconds, bad
        self.asked = []

    def __call__(self, state, count):
        done = sum(self.asked)
        self.asked.append(count)
        time.sleep(count * self._seconds)
        losses = np.arange(done + 1, done + 1 + count, dtype=np.float32)
        losses[np.isin(losses, self._bad)] = np.nan
        filled = np.concatenate([losses, np.full(self.most_at_once - count, 1e9)])
        return state.replace(step=state.step + count), {"loss": filled if self.most_at_once > 1 else losses[0]}


def run(tmp_path, feed, num_steps):
    weights = {"w": jnp.ones(2)}
    state = TrainState(step=jnp.int32(0), params=weights, batch_stats={}, opt_state=(), rng=jnp.zeros(2))
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


def test_updates_at_once_take_about_two_seconds(tmp_path):
    slow, fast = Counting(64, seconds=0.3), Counting(64)
    run(tmp_path, slow, 20)
    assert max(slow.asked) in (4, 5, 6)
    run(tmp_path, fast, 300)
    assert max(fast.asked) == 64


@pytest.mark.parametrize("most_at_once", [1, 64])
def test_the_first_loss_that_is_no_number_is_named(tmp_path, most_at_once):
    with pytest.raises(UserError, match="distill: the loss at update 5 is nan: lower --config.distill.learning_rate"):
        run(tmp_path, Counting(most_at_once, bad=(5, 6)), 20)
