"""Compares training several students at once with training one after the other. A row of CIFAR-10 has twenty.

    python -m benchmarks.students
    python -m benchmarks.students --host-devices 2

There are two students, or one per device if there are several devices. Alternating rounds time three strategies:
`in turn`, one student after the other, each batch shared by all devices; `vmap`, all students in one program, each
batch shared by all devices; and, with several devices, `one per device`. A rate counts the images of all students and
is a median. Images are random, of 32×32 pixels.
"""

import argparse
import functools
import os
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

_BATCH_SIZE, _FEATURES = 64, 128


def strategies(name: str) -> tuple[int, dict[str, Callable[[], Any]]]:
    """Returns the number of students, and functions that make one update of each, by strategy."""
    import jax

    from benchmarks.made_up import network, pictures
    from brittle_jax.devices import BATCH_AXIS, DeviceGroup
    from brittle_jax.train.optimizers import adam
    from brittle_jax.train.steps import create_state, distill_step

    devices = DeviceGroup()
    count, optimizer = max(devices.size, 2), adam(1e-5)
    students = [network(name, _FEATURES, 32, seed) for seed in range(count)]
    step = functools.partial(distill_step, students[0].module, optimizer.tx)
    batch = {
        "image": pictures(_BATCH_SIZE, 32),
        "target": np.random.default_rng(0).normal(size=(_BATCH_SIZE, _FEATURES)).astype(np.float32),
    }
    each = [devices.replicate(create_state(student.variables, optimizer, seed=0)) for student in students]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    stacked_batch = {key: np.stack([value] * count) for key, value in batch.items()}

    def stateful(state: Any, update: Callable) -> Callable[[], Any]:
        def run() -> None:
            nonlocal state
            state, metrics = update(state)
            jax.block_until_ready((state, metrics))

        return run

    alone = devices.train_step(distill_step, students[0].module, optimizer.tx)
    in_turn = [stateful(state, lambda state: alone(state, batch)) for state in each]
    # The batch is [students, devices, images of a device]: vmap over students, pmap over devices.
    together = jax.pmap(
        jax.vmap(step), axis_name=BATCH_AXIS, in_axes=(None, 1), out_axes=(None, None), donate_argnums=0
    )
    shares = {key: value.reshape(count, devices.size, -1, *value.shape[2:]) for key, value in stacked_batch.items()}
    runs = {
        "in turn": lambda: [run() for run in in_turn],
        "vmap": stateful(devices.replicate(stacked), lambda state: together(state, shares)),
    }
    if devices.size > 1:
        # The axis that the step averages over then has one member.
        one_per_device = jax.pmap(
            lambda state, batch: jax.vmap(step, axis_name=BATCH_AXIS, in_axes=(None, 0), out_axes=None)(
                state, {key: value[None] for key, value in batch.items()}
            ),
            donate_argnums=0,
        )
        runs["one per device"] = stateful(stacked, lambda state: one_per_device(state, stacked_batch))
    return count, runs


def main() -> None:
    """Reads the command line, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="small_resnet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="least time of each strategy in a round")
    parser.add_argument("--host-devices", type=int, default=0, help="split the CPU into this many devices")
    arguments = parser.parse_args()
    if arguments.host_devices:  # before JAX reads it
        os.environ["XLA_FLAGS"] = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={arguments.host_devices}"
        )
    import jax

    from benchmarks.timing import seconds_of
    from brittle_jax import runtime

    runtime.set_up()
    count, runs = strategies(arguments.network)
    seconds = {strategy: [] for strategy in runs}
    for run in [*runs.values()] * 2:  # the second call may compile again, for the layout of the first one's results
        run()
    for _ in range(arguments.rounds):
        for strategy, run in runs.items():
            seconds[strategy].append(seconds_of(run, arguments.seconds))
    print(f"{count} students of {arguments.network}, {len(jax.devices())} x {jax.devices()[0].device_kind}")
    for strategy, values in seconds.items():
        print(f"{strategy}: {count * _BATCH_SIZE / statistics.median(values):,.1f} images/s")


if __name__ == "__main__":
    main()
