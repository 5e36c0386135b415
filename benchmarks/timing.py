"""How long a call takes."""

import time
from collections.abc import Callable


def seconds_of(function: Callable[[], object], least: float) -> float:
    """Returns the time of a call, the mean over so many calls as take at least some seconds."""
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < least or not calls:
        function()
        calls += 1
    return elapsed / calls
