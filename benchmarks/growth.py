"""Measures how time and memory grow with images and configurations, and how long devices wait during an epoch.

    python -m benchmarks.growth
    python -m benchmarks.growth --network densenet161 --side 224 --images 16 --evaluation-only

Each line is measured in a process of its own, on random images in memory, after a run on a few images that compiles
everything. It consists of one epoch of distillation and every other stage, for each configuration, all with the same
teacher. With `--evaluation-only` students are random instead of trained. `idle` is the share of a distillation without
an update under way: one minus the time of as many updates in a row, on a batch that is already on the device, over the
time of the stage. Memory is the peak of the process.
"""

import argparse
import dataclasses
import math
import multiprocessing
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.made_up import images_of, network, pictures
from brittle_jax import console, runtime
from brittle_jax.apply.brittleness import measure_brittleness
from brittle_jax.apply.detector import Detector, score
from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.data.pipeline import training_reader
from brittle_jax.devices import Batch, DeviceGroup
from brittle_jax.evaluate.detectors import fit_gaussian
from brittle_jax.evaluate.moments import moments_of
from brittle_jax.inference import Representations
from brittle_jax.loop import Loop, Work
from brittle_jax.models.network import Network, NetworkSettings
from brittle_jax.run.stages import Stages, peak_memory_mib
from brittle_jax.student import distillation
from brittle_jax.train.optimizers import adam
from brittle_jax.train.steps import distill_step

_LEARNING_RATE = 1e-5
_BATCH_SIZE = 64
_STAGES = ("represent", "distill", "score", "brittleness")


@dataclasses.dataclass(frozen=True)
class Students:
    """Students to measure.

    Attributes:
        name: of the architecture, with 128 outputs; a DenseNet returns its pooled features.
        side: of the images, in pixels.
        are_trained: false for random weights.
    """

    name: str
    side: int
    are_trained: bool

    def network(self, seed: int) -> Network:
        """Draws a student."""
        return network(self.name, 0 if self.name.startswith("densenet") else 128, self.side, seed)


def measure(num_images: int, num_configurations: int, students: Students) -> dict[str, float]:
    """Returns the seconds of each stage, `idle` and `memory_mib`, for `num_images` images to train on and to test."""
    runtime.set_up()
    loop = Loop(DeviceGroup(), _BATCH_SIZE)
    with console.silenced():
        _run(min(2 * _BATCH_SIZE, num_images), 1, students, loop)
        seconds, busy = _run(num_images, num_configurations, students, loop)
    idle = 1 - busy / (seconds["distill"] / num_configurations) if students.are_trained else math.nan
    return {**seconds, "idle": idle, "memory_mib": peak_memory_mib()}


def _run(num_images: int, num_configurations: int, students: Students, loop: Loop) -> tuple[dict[str, float], float]:
    """Returns the seconds of each stage, and of the updates of one epoch alone."""
    images, indices = images_of(pictures(num_images, students.side)), np.arange(num_images)
    teacher, stages = students.network(seed=0), Stages(loop.devices)
    representations = Representations(teacher, images, loop)
    settings = NetworkSettings(students.name, representations.num_features)

    def training(number: int) -> Work:
        return distillation(
            teacher.module,
            images,
            indices,
            representations,
            name=str(number),
            seed=0,
            num_updates=math.ceil(num_images / _BATCH_SIZE),
            batch_size=_BATCH_SIZE,
            learning_rate=_LEARNING_RATE,
            training_dtype="float32",
            devices=loop.devices,
        )

    for number in range(num_configurations):
        with stages.measured("represent"):
            gaussian = fit_gaussian(moments_of(representations.compute(indices), indices))
        with stages.measured("distill"):
            student = students.network(seed=1)
            if students.are_trained:
                student = Network(teacher.module, loop.run(training(number)).variables)
        detector = Detector(student, teacher, gaussian, settings, Preprocessing(students.side))
        with stages.measured("score"):
            score(detector, images, indices, loop, representations)
        with stages.measured("brittleness"):
            measure_brittleness(detector, images, indices, loop, representations)
    if not students.are_trained:
        return stages.column("seconds"), 0.0
    update = loop.devices.train_step(distill_step, teacher.module, adam(_LEARNING_RATE).tx)
    batch = dict(training_reader(images, indices, _BATCH_SIZE, seed=0)(0))
    batch["target"] = representations.outputs_of(batch["position"])
    return stages.column("seconds"), _seconds_of_updates(training(0), update, batch)


def _seconds_of_updates(work: Work, step: Callable, batch: Batch) -> float:
    """Returns the time of the updates of one epoch alone, in a loop on the devices or in a row on one batch."""
    state, update = work.state, lambda state, first, count: step(state, batch)
    if work.feed.most_at_once > 1:
        update = work.feed
    state, _ = update(state, 0, 1)
    start, done = time.perf_counter(), 0
    while done < work.num_steps:
        count = min(work.feed.most_at_once, work.num_steps - done)
        state, metrics = update(state, done, count)
        done += count
    jax.block_until_ready(metrics)
    return time.perf_counter() - start


def _in_a_process(*arguments) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main() -> None:
    """Reads the command line, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="small_resnet_tiny")
    parser.add_argument("--images", type=int, default=1024, help="in the smallest run")
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--evaluation-only", action="store_true", help="do not train students")
    arguments = parser.parse_args()
    students = Students(arguments.network, arguments.side, not arguments.evaluation_only)
    print(f"| images | configurations | {' | '.join(f'{stage}, s' for stage in _STAGES)} | idle | memory, MiB |")
    print("|" + "---|" * (len(_STAGES) + 4))
    for times, configurations in ((1, 1), (4, 1), (16, 1), (1, 4), (1, 16)):
        measured = _in_a_process(arguments.images * times, configurations, students)
        cells = [f"{arguments.images * times:,}", configurations, *(f"{measured[stage]:.2f}" for stage in _STAGES)]
        idle = "-" if arguments.evaluation_only else f"{100 * measured['idle']:.0f}%"
        cells += [idle, f"{measured['memory_mib']:,}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
