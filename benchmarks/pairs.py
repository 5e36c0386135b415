"""Compares the speed of two checkouts on a busy machine, in paired rounds.

    python -m benchmarks.pairs --before DIR --after DIR --work step
    python -m benchmarks.pairs --before DIR --after DIR --work densenet_step --processes 2 --rounds 8

Each checkout works in a process of its own, on one device. The two take turns: a round times both, one directly after
the other, and rounds alternate in which goes first, so that other jobs slow both down alike. The result is the
geometric mean over rounds of the time after over the time before, with a 95% bootstrap interval; above 1, `after` is
slower. Each process first fills the compilation cache and is then replaced, because programs that were compiled in the
process run slower than those read from the cache. Memory is the process's peak, of those with cached programs.
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
    """Does a work for as long as each line of standard input says, and answers with the seconds of a call.

    After the warm-up and at each request it also answers with the process's peak memory, in MiB.
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
    seconds = 0.0
    while True:
        print(seconds, _peak_memory_mib(), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        start, calls = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < float(line) or not calls:
            run()
            calls += 1
        seconds = elapsed / calls


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

    def seconds_of_a_call(self, least: float) -> float:
        """Returns the mean time of a call, over as many calls as take at least some seconds."""
        print(least, file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> float:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process ended before it had answered")
        seconds, memory_mib = line.split()
        self.memory_mib = int(memory_mib)
        return float(seconds)


def measure(checkouts: tuple[str, str], work: str, processes: int, rounds: int, least: float) -> None:
    """Measures and prints the result on one line."""
    seconds, memory_mib = [], []
    for checkout in checkouts:
        Side(checkout, work).close()
    for _ in range(processes):
        sides = [Side(checkout, work) for checkout in checkouts]
        for number in range(rounds):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            timed = {which: sides[which].seconds_of_a_call(least) for which in order}
            seconds.append((timed[0], timed[1]))
        memory_mib.append([side.memory_mib for side in sides])
        for side in sides:
            side.close()
    before, after = np.median(seconds, axis=0)
    logs = np.log(np.divide(*np.transpose(seconds)[::-1]))
    samples = np.random.default_rng(0).choice(logs, (10_000, len(logs))).mean(axis=1)
    ratio, low, high = np.exp([logs.mean(), *np.quantile(samples, (0.025, 0.975))])
    memory = " to ".join(str(max(peaks)) for peaks in np.transpose(memory_mib))
    print(
        f"{work}: {ratio:.3f} [{low:.3f}, {high:.3f}] of the time before, {len(logs)} rounds; "
        f"medians {1e3 * before:,.1f} to {1e3 * after:,.1f} ms; memory {memory} MiB",
        flush=True,
    )


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="checkout to compare with")
    parser.add_argument("--after", help="checkout that may be faster or slower")
    parser.add_argument("--work", required=True, help=f"comma-separated: {', '.join(WORKS)}")
    parser.add_argument("--processes", type=int, default=3, help="pairs of processes, one pair after the other")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each pair of processes")
    parser.add_argument("--seconds", type=float, default=1.5, help="least time of each side in a round")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.work, arguments.before)
    if unknown := set(arguments.work.split(",")) - set(WORKS):
        parser.error(f"--work: unknown {', '.join(sorted(unknown))}; known are {', '.join(WORKS)}")
    for work in arguments.work.split(","):
        measure((arguments.before, arguments.after), work, arguments.processes, arguments.rounds, arguments.seconds)
    return None


if __name__ == "__main__":
    main()
