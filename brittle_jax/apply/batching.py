"""A stream of pictures, each of one or more images, through programs that take batches of one size."""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

Rows = dict[str, np.ndarray]
_Tag = TypeVar("_Tag")
_MOST_UNDER_WAY = 2  # batches: the next one is prepared while the device computes


def rows_of_stacks(
    start: Callable[[np.ndarray], Any],
    finish: Callable[[Any], Rows],
    stacks: Iterable[tuple[_Tag, np.ndarray]],
    size: int,
) -> Iterator[list[tuple[_Tag, Rows]]]:
    """Passes stacks of images through a program, batch by batch; memory does not grow with their number.

    Args:
        start: begins to compute a batch [size, H, W, 3] uint8.
        finish: waits for what `start` returned; gives rows [size], by name.
        stacks: tags, which come back with the rows, and images [P, H, W, 3] uint8; P may differ, and be 0.
        size: of a batch. Zeros fill up the last one.

    Yields:
        For each batch, what is complete with it, in the order of the stacks: tags, each with the rows [P] of its
        images; no rows at all for P = 0.
    """
    waiting: collections.deque[tuple[_Tag, int]] = collections.deque()  # and how many images each has
    under_way: collections.deque[tuple[Any, int]] = collections.deque()
    rows: Rows = {}

    def complete() -> list[tuple[_Tag, Rows]]:
        nonlocal rows
        found = []
        while waiting and waiting[0][1] <= _count(rows):
            tag, count = waiting.popleft()
            found.append((tag, {name: values[:count] for name, values in rows.items()} if count else {}))
            rows = {name: values[count:] for name, values in rows.items()}
        return found

    for batch, count in _batches(stacks, size, waiting):
        under_way.append((start(batch), count))
        if len(under_way) == _MOST_UNDER_WAY:
            rows = _joined(rows, finish, *under_way.popleft())
        yield complete()
    for started, count in under_way:
        rows = _joined(rows, finish, started, count)
    yield complete()


def _batches(
    stacks: Iterable[tuple[_Tag, np.ndarray]], size: int, waiting: collections.deque[tuple[_Tag, int]]
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields batches, and how many of their images count; adds each stack that it takes to `waiting`."""
    batch, filled = None, 0
    for tag, stack in stacks:
        waiting.append((tag, len(stack)))
        while len(stack):
            if batch is None:
                batch = np.zeros((size, *stack.shape[1:]), np.uint8)
            part, stack = stack[: size - filled], stack[size - filled :]
            batch[filled : filled + len(part)] = part
            filled += len(part)
            if filled == size:
                yield batch, filled
                batch, filled = None, 0
    if filled:
        yield batch, filled


def _joined(rows: Rows, finish: Callable[[Any], Rows], started: Any, count: int) -> Rows:
    return {
        name: np.concatenate([*([rows[name]] if rows else []), values[:count]])
        for name, values in finish(started).items()
    }


def _count(rows: Rows) -> int:
    return len(next(iter(rows.values()))) if rows else 0
