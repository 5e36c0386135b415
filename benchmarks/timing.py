"""Timing of a function."""

import time
from collections.abc import Callable


def seconds_of(function: Callable[[], object], least: float) -> float:
    """Returns the mean time of a call, over as many calls as take at least `least` seconds."""
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < least or not calls:
        function()
        calls += 1
    return elapsed / calls
