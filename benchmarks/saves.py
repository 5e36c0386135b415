"""Measures what it costs to keep a training, and how long one runs on after it was asked to stop.

    python -m benchmarks.saves
    python -m benchmarks.saves --network densenet161 --side 224 --batch-size 16

It prints the size of a state; how long a save stops the training (the state is copied); how long the thread then
writes; both as a share of the five minutes between two saves; how long a state takes to be read back; and how long one
update takes, which a signal waits for.
"""

import argparse
import functools
import pathlib
import tempfile
import time

import jax
import numpy as np

from benchmarks.made_up import images_of, network, pictures
from brittle_jax import console, runtime
from brittle_jax.background import Background
from brittle_jax.checkpoint import Steps
from brittle_jax.devices import DeviceGroup
from brittle_jax.inference import Representations
from brittle_jax.loop import SECONDS_BETWEEN_SAVES, Loop
from brittle_jax.student import distillation

_REPEATS = 5


def measure(name: str, side: int, batch_size: int, num_features: int) -> dict[str, float]:
    """Returns medians over five saves: seconds, and MiB."""
    devices = DeviceGroup()
    images = images_of(pictures(2 * batch_size, side))
    teacher = network(name, num_features, side)
    loop = Loop(devices, batch_size)
    work = distillation(
        teacher.module,
        images,
        np.arange(len(images)),
        Representations(teacher, images, loop),
        name="x",
        seed=0,
        num_updates=3,
        batch_size=batch_size,
        learning_rate=1e-5,
        training_dtype="float32",
        devices=devices,
    )
    state, times = work.state, {"update": [], "copy": [], "write": [], "restore": []}

    def timed(what, function):
        start = time.monotonic()
        result = jax.block_until_ready(function())
        times[what].append(time.monotonic() - start)
        return result

    for step in range(3):
        state, _ = timed("update", functools.partial(work.feed, state, step, 1))
    with tempfile.TemporaryDirectory() as folder, Background() as background:
        steps = Steps(pathlib.Path(folder), {}, background)
        for step in range(_REPEATS):
            timed("copy", functools.partial(steps.save, step, state, {}))
            timed("write", background.wait)
            timed("restore", functools.partial(steps.newest, state))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 2**20
    return {"size": size, **{what: float(np.median(values[1:])) for what, values in times.items()}}


def main() -> None:
    """Prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="small_resnet")
    parser.add_argument("--features", type=int, default=128, help="0: the pooled features, as DenseNet's row has them")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    runtime.set_up()
    cost = measure(arguments.network, arguments.side, arguments.batch_size, arguments.features)
    share = (cost["copy"] + cost["write"]) / SECONDS_BETWEEN_SAVES
    console.say(
        f"{arguments.network}: state {cost['size']:.0f} MiB; copied in {cost['copy']:.3f} s, written in "
        f"{cost['write']:.2f} s, {share:.2%} of the time between two saves; read back in {cost['restore']:.2f} s; an "
        f"update of {arguments.batch_size} images takes {cost['update']:.2f} s"
    )


if __name__ == "__main__":
    main()
