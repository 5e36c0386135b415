"""Measures time and memory of a teacher's representations, in memory and in a temporary file.

    python -m benchmarks.representations

The representations are random, by default as many as DenseNet-161 gives for 100,000 images. They are written two at a
time, read 64 at a time in random order, as distillation does, and reduced to mean and covariance. Each line is measured
in a process of its own.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable

import numpy as np

from brittle_jax import rows
from brittle_jax.evaluate.moments import moments_of
from brittle_jax.run.stages import peak_memory_mib

_WRITTEN, _READ = 2, 64  # representations at a time


def measure(count: int, features: int, *, in_file: bool) -> dict[str, float]:
    """Returns the seconds of `write`, `read` and `moments` for all representations, and `memory_mib`."""
    representations = rows.RowFile(count, features, None) if in_file else np.empty((count, features), np.float32)
    rng = np.random.default_rng(0)
    values, order = rng.normal(size=(_WRITTEN, features)).astype(np.float32), rng.permutation(count)

    def write() -> None:
        for start in range(0, count, _WRITTEN):
            indices = np.arange(start, min(start + _WRITTEN, count))
            representations[indices] = values[: len(indices)]

    def read() -> None:
        for start in range(0, count, _READ):
            representations[order[start : start + _READ]]

    seconds = {
        "write": _seconds_of(write),
        "read": _seconds_of(read),
        "moments": _seconds_of(lambda: moments_of(representations, np.arange(count))),
    }
    return {**seconds, "memory_mib": peak_memory_mib()}


def _seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Reads the command line, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=2208)
    arguments = parser.parse_args()
    print("| where | write, s | read, s | moments, s | memory, MiB |\n|---|---|---|---|---|")
    for where in ("memory", "file"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            sizes = (arguments.count, arguments.features)
            measured = pool.apply(measure, sizes, {"in_file": where == "file"})
        cells = [where, *(f"{measured[name]:.2f}" for name in ("write", "read", "moments")), measured["memory_mib"]]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
