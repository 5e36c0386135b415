"""Compares the speed of two checkouts on a busy machine, in paired rounds.

    python -m benchmarks.pairs --before DIR --after DIR --work step
    python -m benchmarks.pairs --before DIR --after DIR --work densenet_step --processes 2 --rounds 8

Each checkout runs in a process of its own, on one device. The two take turns: a round times one call of each, and
rounds alternate in which goes first, so that other jobs slow both down alike. The result is the geometric mean over
rounds of the time after over the time before, with a 95% bootstrap interval; above 1, `after` is slower. It is given
for elapsed time and for processor time, which other jobs disturb less. Memory is the median peak of the processes. All
programs come from the compilation cache, because those compiled in the process run slower.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np


def step(name: str, features: int, side: int, batch_size: int) -> Callable[[], None]:
    """Returns a function that makes one distillation update."""
    import functools

    import jax

    from brittle_jax.models.network import ARCHITECTURES, init_variables
    from brittle_jax.train import steps
    from brittle_jax.train.optimizers import adam

    module, optimizer = ARCHITECTURES[name].with_output(features), adam(1e-5)
    state = steps.create_state(init_variables(module, 0, (side, side, 3)), optimizer, seed=0)
    outputs = jax.eval_shape(module.apply, state.variables, np.zeros((1, side, side, 3), np.float32))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (1, batch_size, side, side, 3), np.uint8),
        "target": rng.normal(size=(1, batch_size, outputs.shape[-1])).astype(np.float32),
    }
    update = jax.pmap(
        functools.partial(steps.distill_step, module, optimizer.tx),
        axis_name=steps.BATCH_AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=jax.devices()[:1],
    )

    def run() -> None:
        nonlocal state
        state, metrics = update(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def evaluation(kind: str, name: str, features: int, side: int, batch_size: int) -> Callable[[], None]:
    """Returns a function that evaluates one batch.

    Args:
        kind: `score`, distillation scores; `gradient`, input-gradient norms; `forward`, one network's outputs.
    """
    import jax

    from brittle_jax.evaluate.brittleness import input_gradient_norms
    from brittle_jax.evaluate.detectors import distillation_score
    from brittle_jax.models.network import ARCHITECTURES, Network, init_variables

    module = ARCHITECTURES[name].with_output(features)
    student, teacher = (Network(module, init_variables(module, seed, (side, side, 3))) for seed in (0, 1))
    images = np.random.default_rng(0).random((batch_size, side, side, 3), np.float32)
    function = jax.jit(
        {
            "score": distillation_score,
            "gradient": input_gradient_norms,
            "forward": lambda student, teacher, images: student(images),
        }[kind]
    )
    return lambda: jax.block_until_ready(function(student, teacher, images))


WORKS: dict[str, tuple] = {
    "step": (step, "small_resnet", 128, 32, 64),
    "score": (evaluation, "score", "small_resnet", 128, 32, 128),
    "gradient": (evaluation, "gradient", "small_resnet", 128, 32, 128),
    "tiny_step": (step, "small_resnet_tiny", 128, 32, 64),
    "densenet_step": (step, "densenet161", 0, 224, 4),
    "densenet_forward": (evaluation, "forward", "densenet161", 0, 224, 2),
    "densenet_gradient": (evaluation, "gradient", "densenet161", 0, 224, 2),
}


def serve(name: str, checkout: str) -> None:
    """Runs a work once for each line of standard input, and prints its times.

    Each line of the answer has seconds, seconds of the processor, and the process's peak memory in MiB. The first line
    comes after the warm-up.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    import brittle_jax
    from brittle_jax import runtime

    if not pathlib.Path(brittle_jax.__file__).is_relative_to(pathlib.Path(checkout).resolve()):
        raise SystemExit(f"{brittle_jax.__file__} is not in {checkout}")
    runtime.set_up()
    function, *arguments = WORKS[name]
    run = function(*arguments)
    for _ in range(3):  # the first call compiles, the second may again, for another layout
        run()
    print(0, 0, _peak_memory_mib(), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter(), time.process_time()
        run()
        elapsed, processor = time.perf_counter() - start[0], time.process_time() - start[1]
        print(elapsed, processor, _peak_memory_mib(), file=answers, flush=True)


def _peak_memory_mib() -> int:
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) // 1024


class Side:
    """The process of one checkout, warmed up."""

    def __init__(self, checkout: str, work: str):
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", "--before", checkout, "--work", work],
            env={**os.environ, "PYTHONPATH": checkout},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def seconds(self) -> tuple[float, float]:
        """Runs the work once, and returns its elapsed time and its processor time."""
        print(file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> tuple[float, float]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process ended before it answered")
        *seconds, memory_mib = line.split()
        self.memory_mib = int(memory_mib)
        return tuple(map(float, seconds))


def measure(checkouts: tuple[str, str], work: str, processes: int, rounds: int) -> str:
    """Returns the results of a work in words."""
    seconds, memory_mib = [], []  # [rounds, before and after, kinds of time], [processes, before and after]
    for checkout in checkouts:
        Side(checkout, work).close()  # fills the compilation cache
    for _ in range(processes):
        sides = [Side(checkout, work) for checkout in checkouts]
        for number in range(rounds):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            timed = {which: sides[which].seconds() for which in order}
            seconds.append([timed[0], timed[1]])
        memory_mib.append([side.memory_mib for side in sides])
        for side in sides:
            side.close()
    elapsed, processor = np.moveaxis(seconds, 2, 0)
    before, after = 1e3 * np.median(elapsed, axis=0)
    memory = np.median(memory_mib, axis=0)
    return (
        f"{work}: elapsed time {_ratio(elapsed)}, processor time {_ratio(processor)}, {len(seconds)} rounds; "
        f"medians {before:,.0f} to {after:,.0f} ms; memory {memory[0]:,.0f} to {memory[1]:,.0f} MiB"
    )


def _ratio(seconds: np.ndarray) -> str:
    """Returns the mean ratio of paired times [rounds, before and after], with its 95% interval."""
    logs = np.log(seconds[:, 1] / seconds[:, 0])
    means = np.random.default_rng(0).choice(logs, (10_000, len(logs))).mean(axis=1)
    ratio, low, high = np.exp([logs.mean(), *np.quantile(means, (0.025, 0.975))])
    return f"{ratio:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="checkout to compare with")
    parser.add_argument("--after", help="checkout that may be faster or slower")
    parser.add_argument("--work", required=True, help=f"comma-separated: {', '.join(WORKS)}")
    parser.add_argument("--processes", type=int, default=3, help="pairs of processes, one pair after the other")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each pair of processes")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.work, arguments.before)
    if unknown := set(arguments.work.split(",")) - set(WORKS):
        parser.error(f"--work: unknown {', '.join(sorted(unknown))}; known are {', '.join(WORKS)}")
    for work in arguments.work.split(","):
        print(measure((arguments.before, arguments.after), work, arguments.processes, arguments.rounds), flush=True)
    return None


if __name__ == "__main__":
    main()
