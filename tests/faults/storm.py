"""Kills a small run again and again, damages what it keeps, and compares what comes out with an undisturbed run.

    python tests/faults/storm.py --kills=50 --seed=0

Each round begins in an empty folder and ends when the run has finished. A kill is a SIGKILL at a random moment within a
stage, a compilation or a save; after every second one, a random file that the run keeps is damaged. `--unverified`
switches the comparison with digests off: the storm must then fail.
"""

import argparse
import collections
import dataclasses
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT)]

from tests.faults.victim import MOMENTS  # noqa: E402
from tests.small_runs import read, without_times  # noqa: E402

KILLS_PER_ROUND = 6
COMPARED = ("scores", "calibration", "brittleness", "examples")
DAMAGES = ("flip", "truncate", "delete")
# What a run cannot make again: the log of its trainings.
NOT_DAMAGED = ("metrics.jsonl", "tensorboard", ".lock", ".holder.json")


@dataclasses.dataclass
class Kill:
    """A kill that is to come: in the `occurrence`-th beginning of a moment, `delay` seconds after it."""

    moment: str
    occurrence: int
    delay: float
    damage: str = ""


class Storm:
    """All rounds of a storm.

    Attributes:
        fell_in: the moments in which kills fell.
        damaged: what was done to which file.
        differences: between the rounds' results and those of the undisturbed run.
    """

    def __init__(self, folder: pathlib.Path, seed: int, options: list[str]):
        self._folder, self._options = folder, options
        self._rng = np.random.default_rng(seed)
        self.fell_in, self.damaged, self.differences = collections.Counter(), [], []
        self.seconds_killed, self.num_processes = 0.0, 0
        self._run(folder / "undisturbed" / "run", folder / "undisturbed" / "data", None)

    def repeat(self) -> float:
        """Compares the undisturbed run with another one; returns the seconds that this takes once all is compiled."""
        start = time.monotonic()
        self._run(self._folder / "again" / "run", self._folder / "again" / "data", None)
        seconds = time.monotonic() - start
        self._compare(self._folder / "again" / "run", "a second undisturbed run")
        return seconds

    def plan(self, num_kills: int) -> list[Kill]:
        """Returns the kills, of each moment as many as of any other, in random order."""
        moments = [MOMENTS[number % len(MOMENTS)] for number in range(num_kills)]
        self._rng.shuffle(moments)
        kills = []
        for number, moment in enumerate(moments):
            longest = {"compile": 0.3, "save": 0.15}.get(moment, 0.6)
            most = {"data": 1, "page": 1, "pretrain": 1}.get(moment, 2)
            damage = str(self._rng.choice(DAMAGES)) if number % 2 else ""
            occurrence = int(self._rng.integers(1, 12 if moment in ("compile", "save") else most + 1))
            kills.append(Kill(moment, occurrence, float(self._rng.uniform(0, longest)), damage))
        return kills

    def round(self, number: int, kills: list[Kill]) -> list[Kill]:
        """Runs a run to its end, with a kill whenever its moment comes; returns the kills whose moment did not come."""
        folder = self._folder / f"round_{number}"
        left = sorted(kills, key=lambda kill: (MOMENTS.index(kill.moment), kill.occurrence))
        missed = []
        start = time.monotonic()
        while True:
            kill = left.pop(0) if left else None
            # In an empty cache a compilation takes long enough to be killed.
            cache = folder / f"compiled_{len(left)}" if kill and kill.moment == "compile" else None
            was_killed = self._run(folder / "run", folder / "data", kill, cache)
            if kill is not None and was_killed:
                self.fell_in[kill.moment] += 1
                if kill.damage:
                    self._damage(folder, kill.damage)
                print(f"  killed in {kill.moment} {kill.damage and self.damaged[-1]}", flush=True)
                continue
            missed += [kill] if kill else []
            if kill is None or (folder / "run" / "results.json").exists():
                break
        self.seconds_killed += time.monotonic() - start
        self._compare(folder / "run", f"round {number}")
        shutil.rmtree(folder)
        return missed + left

    def _run(self, run: pathlib.Path, data: pathlib.Path, kill: Kill | None, cache: pathlib.Path | None = None) -> bool:
        """Runs the victim; returns whether it was killed."""
        data.mkdir(parents=True, exist_ok=True)
        reading, writing = os.pipe()
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(cache or self._folder / "compiled"),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles faster
            "TMPDIR": str(data),  # where a process that is killed leaves what it had there
        }
        command = [sys.executable, "-m", "tests.faults.victim", str(run), str(data), str(writing), *self._options]
        with open(run.parent / "log.txt", "ab") as log:
            victim = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, pass_fds=[writing]
            )
        os.close(writing)
        self.num_processes += 1
        seen = 0
        with open(reading, encoding="utf-8") as lines:
            for line in lines:
                seen += kill is not None and line.strip() == kill.moment
                if kill is not None and seen == kill.occurrence:
                    time.sleep(kill.delay)
                    victim.send_signal(signal.SIGKILL)
                    break
        code = victim.wait()
        if code not in (0, -signal.SIGKILL):
            tail = (run.parent / "log.txt").read_text(errors="replace")[-2000:]
            self.differences.append(f"the run ended with {code}: {tail}")
            print(self.differences[-1])
            shutil.rmtree(run, ignore_errors=True)
        return code == -signal.SIGKILL

    def _damage(self, folder: pathlib.Path, damage: str) -> None:
        """Flips a bit of a random file that the run keeps, cuts it in half, or deletes it."""
        kept = [folder / "run", folder / "teachers"]
        found = sorted(
            file
            for each in kept
            for file in each.rglob("*")
            if file.is_file() and not any(part in NOT_DAMAGED or part.endswith(".lock") for part in file.parts)
        )
        if not found:
            self.damaged.append("nothing: no file yet")
            return
        # Half of all damage goes to what is kept of works that go on.
        going_on = [file for file in found if "progress" in file.parts]
        candidates = going_on if going_on and self._rng.random() < 0.5 else found
        file = candidates[self._rng.integers(len(candidates))]
        content = bytearray(file.read_bytes())
        if damage == "delete" or not content:
            file.unlink()
        elif damage == "truncate":
            file.write_bytes(content[: len(content) // 2])
        else:
            content[self._rng.integers(len(content))] ^= 1 << int(self._rng.integers(8))
            file.write_bytes(content)
        self.damaged.append(f"{damage}: {file.relative_to(folder)}")

    def _compare(self, run: pathlib.Path, name: str) -> None:
        """Adds what differs from the undisturbed run, to the letter but for times and memory."""
        undisturbed = self._folder / "undisturbed" / "run"
        if not (run / "results.json").is_file():
            self.differences.append(f"{name}: no results.json")
            return
        if without_times(read(run, "results.json")) != without_times(read(undisturbed, "results.json")):
            self.differences.append(f"{name}: results.json")
        for kind in COMPARED:
            expected = {file.relative_to(undisturbed) for file in (undisturbed / kind).rglob("*") if file.is_file()}
            found = {file.relative_to(run) for file in (run / kind).rglob("*") if file.is_file()}
            if expected != found:
                self.differences.append(f"{name}: files of {kind}")
            self.differences += [
                f"{name}: {file}"
                for file in sorted(expected & found)
                if (run / file).read_bytes() != (undisturbed / file).read_bytes()
            ]


def storm(num_kills: int, seed: int, options: list[str], *, is_timed: bool = False) -> Storm:
    """Returns a storm that is over."""
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        result = Storm(pathlib.Path(folder), seed, options)
        result.seconds_undisturbed = result.repeat() if is_timed else math.nan
        left, number = result.plan(num_kills), 0
        while left and number < num_kills:
            now, left = left[:KILLS_PER_ROUND], left[KILLS_PER_ROUND:]
            print(f"round {number}", flush=True)
            left += result.round(number, now)
            number += 1
        result.num_rounds = number
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unverified", action="store_true", help="switch the comparison with digests off")
    arguments = parser.parse_args()
    start = time.monotonic()
    result = storm(arguments.kills, arguments.seed, ["--unverified"] if arguments.unverified else [], is_timed=True)
    print(f"{result.fell_in.total()} of {arguments.kills} kills in {result.num_rounds} rounds, seed {arguments.seed}")
    print("they fell in:", ", ".join(f"{name} {result.fell_in[name]}" for name in MOMENTS))
    print(f"{len(result.damaged)} times something was damaged")
    print(f"{len(result.differences)} differences", *result.differences, sep="\n  ")
    print(
        f"time of a round: {result.seconds_killed / result.num_rounds:.1f} s with "
        f"{result.fell_in.total() / result.num_rounds:.1f} kills, {result.seconds_undisturbed:.1f} s undisturbed; "
        f"{time.monotonic() - start:.0f} s in all"
    )
    least = min(arguments.kills // len(MOMENTS), 3)
    is_complete = all(result.fell_in[moment] >= least for moment in MOMENTS)
    sys.exit(bool(result.differences) or not is_complete)


if __name__ == "__main__":
    main()
