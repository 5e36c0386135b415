"""Stands in for `python -m`: knows a network that compiles in a moment, by the name `mini`.

Where SECONDS_PER_UPDATE is set, each update of a training sleeps that long, so that a run takes time but no CPU.
"""

import dataclasses
import os
import runpy
import sys
import time

sys.path.insert(0, __file__.rpartition("/tests/")[0])

from brittle_jax.loop import Loop
from brittle_jax.models.network import ARCHITECTURES
from tests.mini_network import MINI


class SlowFeed:
    """The feed of a training, which sleeps for each update."""

    def __init__(self, feed, seconds):
        self.most_at_once, self._feed, self._seconds = feed.most_at_once, feed, seconds

    def __call__(self, state, first, count):
        time.sleep(count * self._seconds)
        return self._feed(state, first, count)


def slow_down(seconds):
    """Makes every training take at least so many seconds per update."""
    run = Loop.run

    def run_slowly(self, work, until=None):
        is_training = work.take is None
        return run(self, dataclasses.replace(work, feed=SlowFeed(work.feed, seconds)) if is_training else work, until)

    Loop.run = run_slowly


if __name__ == "__main__":
    dash_m, module, *arguments = sys.argv[1:]
    assert dash_m == "-m"
    ARCHITECTURES["mini"] = MINI
    if "SECONDS_PER_UPDATE" in os.environ:
        slow_down(float(os.environ["SECONDS_PER_UPDATE"]))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
