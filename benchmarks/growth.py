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
import pathlib
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.made_up import image_set, network, pictures
from brittle_jax import console, inference, runtime
from brittle_jax.config import get_base_config
from brittle_jax.data.pipeline import training_batches
from brittle_jax.devices import Batch, DeviceGroup
from brittle_jax.evaluate.detectors import fit_gaussian
from brittle_jax.loop import MetricLog, Training, train
from brittle_jax.models.network import Network
from brittle_jax.run.stages import Stages, peak_memory_mib
from brittle_jax.student import prepare_distillation
from brittle_jax.train.optimizers import adam
from brittle_jax.train.steps import distill_step

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
    devices, config = DeviceGroup(), get_base_config()
    config.distill.num_epochs, config.distill.batch_size = 1.0, _BATCH_SIZE
    with console.silenced(), tempfile.TemporaryDirectory() as folder:
        log = MetricLog(pathlib.Path(folder))
        _run(min(2 * _BATCH_SIZE, num_images), 1, students, config, devices, log)
        seconds, busy = _run(num_images, num_configurations, students, config, devices, log)
        log.close()
    idle = 1 - busy / (seconds["distill"] / num_configurations) if students.are_trained else math.nan
    return {**seconds, "idle": idle, "memory_mib": peak_memory_mib()}


def _run(num_images, num_configurations, students, config, devices, log) -> tuple[dict[str, float], float]:
    """Returns the seconds of each stage, and of the updates of one epoch alone."""
    images, indices = image_set(pictures(num_images, students.side)), np.arange(num_images)
    teacher, stages = students.network(seed=0), Stages(devices)
    representations = inference.Representations(teacher, images, _BATCH_SIZE, devices)
    for number in range(num_configurations):
        with stages.measured("represent"):
            gaussian = fit_gaussian(representations.moments(indices))
        work = teacher.module, images, indices, representations, config
        with stages.measured("distill"):
            student = students.network(seed=1)
            if students.are_trained:
                training = prepare_distillation(*work, name=str(number), devices=devices)
                student = Network(teacher.module, train(training, log).variables)
        with stages.measured("score"):
            inference.score(student, representations, gaussian, images, indices, _BATCH_SIZE, devices)
        with stages.measured("brittleness"):
            inference.measure_brittleness(
                student, teacher, representations, images, indices, _BATCH_SIZE, devices, path="student"
            )
    if not students.are_trained:
        return stages.column("seconds"), 0.0
    training = prepare_distillation(*work, name="0", devices=devices)
    update = devices.train_step(distill_step, teacher.module, adam(config.distill.learning_rate).tx)
    batch = next(training_batches(images, indices, _BATCH_SIZE, seed=0))
    batch["target"] = representations.outputs_of(batch["position"])
    return stages.column("seconds"), _seconds_of_updates(training, update, batch)


def _seconds_of_updates(training: Training, step: Callable, batch: Batch) -> float:
    """Returns the time of the updates of one epoch alone, in a loop on the devices or in a row on one batch."""
    state, update = training.state, lambda state, count: step(state, batch)
    if training.feed.most_at_once > 1:
        update = training.feed
    state, _ = update(state, 1)
    start, done = time.perf_counter(), 0
    while done < training.num_steps:
        count = min(training.feed.most_at_once, training.num_steps - done)
        state, metrics = update(state, count)
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
