"""Work that runs ahead of whoever takes its results, such as the reading of files."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_MOST_AHEAD = 16

_Item, _Result = TypeVar("_Item"), TypeVar("_Result")


def in_order(
    pool: concurrent.futures.Executor,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    most_ahead: int = _MOST_AHEAD,
) -> Iterator[tuple[_Item, _Result]]:
    """Yields items and their results in order, with at most `most_ahead` results waiting in memory."""
    under_way: collections.deque[tuple[_Item, concurrent.futures.Future[_Result]]] = collections.deque()
    for item in items:
        under_way.append((item, pool.submit(function, item)))
        if len(under_way) == most_ahead:
            first, future = under_way.popleft()
            yield first, future.result()
    while under_way:
        item, future = under_way.popleft()
        yield item, future.result()
