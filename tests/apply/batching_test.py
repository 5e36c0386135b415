"""Stacks of images in batches of one size: every row comes back with its stack, in order, and little waits."""

import numpy as np
import pytest

from brittle_jax.apply.batching import rows_of_stacks


def stack(*values):
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)


def flat(parts):
    return [(tag, rows.get("value", np.zeros(0)).tolist()) for part in parts for tag, rows in part]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 64])
def test_stacks_of_any_length_come_back_whole_and_in_order(size):
    stacks = [("a", stack(1)), ("none", stack()), ("b", stack(2, 3, 4, 5, 6)), ("c", stack(7, 8)), ("last", stack())]
    batches = []

    def start(batch):
        batches.append(batch)
        return batch[:, 0, 0, 0]

    parts = list(rows_of_stacks(start, lambda values: {"value": values}, stacks, size))
    expected = [("a", [1]), ("none", []), ("b", [2, 3, 4, 5, 6]), ("c", [7, 8]), ("last", [])]
    assert flat(parts) == expected
    assert {len(batch) for batch in batches} == {size}
    assert batches[-1].ravel().tolist()[-12 * (-8 % size) :] == [0] * 12 * (-8 % size) or 8 % size == 0


def test_nothing_gives_nothing():
    assert flat(rows_of_stacks(None, None, [], 4)) == []
    assert flat(rows_of_stacks(None, None, [("bad", stack())], 4)) == [("bad", [])]


def test_the_next_batch_is_prepared_while_one_is_under_way_and_no_more():
    events = []

    def stacks():
        for number in range(8):
            events.append("read")
            yield number, stack(number)

    def start(batch):
        events.append("start")
        return batch[:, 0, 0, 0]

    def finish(values):
        events.append("finish")
        return {"value": values}

    parts = rows_of_stacks(start, finish, stacks(), 2)
    assert flat([next(parts)]) == []
    assert events == ["read", "read", "start"]
    assert flat([next(parts)]) == [(0, [0]), (1, [1])]
    assert events[3:] == ["read", "read", "start", "finish"]
    assert [tag for tag, _ in flat(parts)] == [2, 3, 4, 5, 6, 7]
    assert events.count("start") == events.count("finish") == 4
