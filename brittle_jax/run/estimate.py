"""What a row would take on this machine, from a few batches of each stage; nothing is trained, nothing is kept."""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from brittle_jax import console, inference
from brittle_jax.auxiliary import TASKS, build_task
from brittle_jax.config import completed
from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.dataset import Dataset, remembered_bytes
from brittle_jax.data.one_class import Configuration, Lesson
from brittle_jax.devices import DeviceGroup
from brittle_jax.evaluate import samples
from brittle_jax.evaluate.detectors import Gaussian
from brittle_jax.loop import Training
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables
from brittle_jax.probe import feature_network
from brittle_jax.rows import bytes_needed
from brittle_jax.run import experiment
from brittle_jax.run.results import DETECTORS
from brittle_jax.run.stages import peak_memory_mib
from brittle_jax.student import num_updates, prepare_distillation
from brittle_jax.teachers.pretraining import held_out_metric, module_of, prepare_pretraining
from brittle_jax.teachers.pretraining import num_updates as num_pretraining_updates
from brittle_jax.teachers.teacher import is_trained, measure_batch_norm

_LEAST_SECONDS, _MOST_CALLS = 2.0, 20  # that a compiled function is tried for
_BATCHES, _UPDATES = 4, 16  # of a call, at most


@dataclasses.dataclass(frozen=True)
class StageEstimate:
    """What one stage takes.

    Attributes:
        stage: as in results.json.
        count, unit: of what there is to do, such as updates.
        seconds_per_unit: once it is compiled.
        compile_seconds: what the first call took beyond a later one; with the compilation cache, next to nothing the
            next time.
    """

    stage: str
    count: int
    unit: str
    seconds_per_unit: float
    compile_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Of the whole stage."""
        return self.compile_seconds + self.count * self.seconds_per_unit


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a row takes.

    Attributes:
        stages: in the order of the run; one may come twice, for what it does of different kinds.
        memory_mib: of the process, at its highest.
        device_memory_mib: of the fullest accelerator, in what was tried; None on a CPU.
        num_networks: that are kept on the disk, those that are there already apart.
        disk_mib: that they take; all else that is kept is small.
        temporary_disk_mib: that representations take at most while the run lasts, if they are too many for memory.
    """

    stages: list[StageEstimate]
    memory_mib: float
    device_memory_mib: float | None
    num_networks: int
    disk_mib: float
    temporary_disk_mib: float

    @property
    def seconds(self) -> float:
        """Of the whole run, reading the data set apart."""
        return sum(stage.seconds for stage in self.stages)


def table(estimate: Estimate) -> str:
    """Returns an estimate as people read it."""
    lines = [("stage", "work", "once compiled", "compiling", "time")]
    for stage in estimate.stages:
        rate = f"{_rate(stage)} {stage.unit}s/s"
        times = (console.duration(seconds) for seconds in (stage.compile_seconds, stage.seconds))
        lines.append((stage.stage, f"{stage.count:,} {stage.unit}{'s' * (stage.count != 1)}", rate, *times))
    lines.append(("in all", "", "", "", console.duration(estimate.seconds)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    memory = f"memory: {estimate.memory_mib:,.0f} MiB"
    if estimate.device_memory_mib is not None:
        memory += f", {estimate.device_memory_mib:,.0f} MiB of the device's own"
    disk = f"disk: {estimate.disk_mib:,.1f} MiB for {console.count(estimate.num_networks, 'network')}"
    if estimate.temporary_disk_mib:
        disk += f", and up to {estimate.temporary_disk_mib:,.0f} MiB for representations, as long as it runs"
    about = "all from the start, but for teachers that are in the store; nothing was trained"
    besides = "reading the data, fitting detectors and the probe, and pictures come on top"
    return "\n".join([*rows, memory, disk, about, besides])


def _rate(stage: StageEstimate) -> str:
    rate = 1 / max(stage.seconds_per_unit, 1e-9)
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


@dataclasses.dataclass(frozen=True)
class _Row:
    config: ml_collections.ConfigDict
    folder: pathlib.Path
    dataset: Dataset
    auxiliary: Dataset | None
    configurations: list[Configuration]
    devices: DeviceGroup

    @property
    def teachers(self) -> list[Configuration]:
        """The configurations that need a teacher of their own; the first where they share one."""
        return self.configurations[:1] if one_class.teacher_is_shared(self.config) else self.configurations

    @property
    def times(self) -> int:
        """How often each configuration is run: again where a random teacher stands beside the row's."""
        return 1 if one_class.random_reference(self.images, self.config) is None else 2

    def network(self, seed: int) -> Network:
        module = ARCHITECTURES[self.config.network.name].with_output(self.config.network.output_features)
        return Network(module, init_variables(module, seed, self.dataset.images.shape))

    def few(self, indices: np.ndarray) -> np.ndarray:
        """Returns the indices of a few batches of an evaluation."""
        size = self.devices.fit_batch_size(self.config.evaluate.batch_size, len(indices), self.dataset.images.shape)
        return indices[: _BATCHES * size]


def estimate(config: ml_collections.ConfigDict, folder: str, devices: DeviceGroup | None = None) -> Estimate:
    """Tries each stage of a row on a few batches, and returns what the whole of it would take.

    The data sets are read as for a run, and made or prepared first where a run would do that.

    Args:
        config: the settings, see `brittle_jax.config`.
        folder: of the results; a teacher that is in the store beside it already takes no time.
        devices: that share the work; None: all of this process.

    Raises:
        UserError: for a setting or data set that cannot be used.
    """
    devices, config = devices or DeviceGroup(), completed(config)
    experiment.check_settings(config, devices)
    images = load(config.data.name, config)
    auxiliary = experiment.load_auxiliary(config, images)
    configurations = one_class.configurations(images, config)
    row = _Row(config, pathlib.Path(folder).expanduser(), images, auxiliary, configurations, devices)
    console.say(f"{config.row}: trying each stage on a few batches")
    stages = []
    for trial in (_pretrain, _batch_norm, _probe, _represent, _distill, _score, _brittleness, _metrics):
        with console.silenced():
            tried = list(trial(row))
        for stage in tried:
            console.say(f"  {stage.stage}: {_rate(stage)} {stage.unit}s/s")
        stages += tried
    num_networks, disk_mib = _networks(row)
    memory_mib, temporary_mib = _kept_mib(row)
    return Estimate(
        stages, peak_memory_mib() + memory_mib, devices.peak_memory_mib(), num_networks, disk_mib, temporary_mib
    )


def _pretrain(row: _Row) -> Iterator[StageEstimate]:
    config = row.config
    lessons = _lessons(row)
    if not lessons:
        return
    images = lessons[0].images
    task = build_task(config.teacher.task, config.pretrain, len(dataset.samples.classes))
    trained, held_out = ([dataset.images_of(getattr(each, part)) for each in lessons] for part in ("train", "held_out"))
    training = prepare_pretraining(
        task, images, max(trained, key=len), config, trunk=None, seed_name="", stage="", devices=row.devices
    )
    counts = [num_pretraining_updates(len(indices), task, config.pretrain) for indices in trained]
    yield StageEstimate("pretrain", sum(counts), "update", *_seconds_of_updates(training))
    if task.held_out_metric is not None:
        batch = row.few(held_out[0])
        finds_anomalies = config.teacher.task == "baseline" and len(dataset.samples.classes) == 2  # a second pass, for its AUROC
        count = sum(map(len, held_out)) * (2 if finds_anomalies else 1)
        module = module_of(task, images, config)
        network = Network(module, init_variables(module, 0, dataset.images.shape))

        def examine() -> None:
            held_out_metric(network, task, images, batch, config.evaluate.batch_size, row.devices)

        yield StageEstimate("pretrain", count, "image", *_seconds_of(examine, len(batch)))


def _lessons(row: _Row) -> list[Lesson]:
    """Returns what teachers are to be trained on that are not in the store."""
    if row.config.teacher.task not in TASKS or row.config.teacher.from_run:
        return []
    lessons = [one_class.plan_lesson(row.config, row.auxiliary, configuration) for configuration in row.teachers]
    return [lesson for lesson in lessons if not is_trained(row.config, lesson, row.folder)]


def _batch_norm(row: _Row) -> Iterator[StageEstimate]:
    config = one_class.random_reference(row.images, row.config) or row.config
    is_drawn = config.teacher.task == "random" and config.teacher.random_batch_norm == "normal_images"
    if not (is_drawn or (config.teacher.task == "imagenet" and not config.teacher.weights)) or config.teacher.from_run:
        return
    trained = [row.dataset.images_of(configuration.train) for configuration in row.configurations]
    network, batch_size = row.network(seed=0), config.teacher.batch_norm_batch_size
    batch = max(trained, key=len)[:batch_size]

    def measure() -> None:
        measure_batch_norm(network.module, network.variables, row.images, batch, config, row.devices)

    count = batch_size * sum(math.ceil(len(indices) / batch_size) for indices in trained)
    yield StageEstimate("pretrain", count, "image", *_seconds_of(measure, batch_size))


def _probe(row: _Row) -> Iterator[StageEstimate]:
    lesson = one_class.plan_probe(row.config, row.images)
    indices = row.dataset.images_of(np.concatenate([lesson.train, lesson.held_out]))
    if one_class.can_be_probed(lesson):
        network = feature_network(row.config, row.network(seed=0))
        count = len(indices) * len(row.teachers) * row.times
        yield StageEstimate("probe", count, "image", *_seconds_of_outputs(row, network, indices))


def _represent(row: _Row) -> Iterator[StageEstimate]:
    seen = [np.union1d(*_images_of(row, configuration)) for configuration in row.configurations]
    count = len(np.unique(np.concatenate(seen))) if len(row.teachers) == 1 else sum(map(len, seen))
    yield StageEstimate(
        "represent", count * row.times, "image", *_seconds_of_outputs(row, row.network(seed=0), seen[0])
    )


def _distill(row: _Row) -> Iterator[StageEstimate]:
    trained = [_images_of(row, configuration)[0] for configuration in row.configurations]
    training = prepare_distillation(
        row.network(seed=1).module,
        row.images,
        max(trained, key=len),
        _representations(row),
        row.config,
        name="",
        devices=row.devices,
    )
    count = row.times * sum(num_updates(len(indices), row.config.distill) for indices in trained)
    yield StageEstimate("distill", count, "update", *_seconds_of_updates(training))


def _score(row: _Row) -> Iterator[StageEstimate]:
    tested = [_images_of(row, configuration)[1] for configuration in row.configurations]
    batch, representations = row.few(max(tested, key=len)), _representations(row)
    features = np.ones(representations.num_features, np.float32)
    gaussian = Gaussian(mean=features, variance=features, whitening=np.diag(features))
    student, batch_size = row.network(seed=1), row.config.evaluate.batch_size

    def score() -> None:
        inference.score(student, representations, gaussian, row.images, batch, batch_size, row.devices)

    count = row.times * sum(map(len, tested))
    yield StageEstimate("score", count, "image", *_seconds_of(score, len(batch)))


def _brittleness(row: _Row) -> Iterator[StageEstimate]:
    trained = [_images_of(row, configuration)[0] for configuration in row.configurations]
    batch, representations = row.few(max(trained, key=len)), _representations(row)
    networks = row.network(seed=1), row.network(seed=0)
    evaluate = row.config.evaluate

    def measure() -> None:
        inference.measure_brittleness(
            *networks,
            representations,
            row.images,
            batch,
            evaluate.batch_size,
            row.devices,
            path=evaluate.gradient_path,
        )

    count = row.times * sum(map(len, trained))
    yield StageEstimate("brittleness", count, "image", *_seconds_of(measure, len(batch)))


def _metrics(row: _Row) -> Iterator[StageEstimate]:
    labels = max((configuration.test_labels for configuration in row.configurations), key=len)
    scores = {name: np.random.default_rng(0).random(len(labels)) for name in DETECTORS}
    start = time.monotonic()
    samples.separations(labels, scores, bootstrap_samples=row.config.evaluate.bootstrap_samples, seed=0)
    count = row.times * len(row.configurations)
    yield StageEstimate("metrics", count, "configuration", time.monotonic() - start)


def _images_of(row: _Row, configuration: Configuration) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices of the images that train and of those that test."""
    return row.dataset.images_of(configuration.train), row.dataset.images_of(configuration.test)


class _NoRepresentations(inference.Representations):
    """Zeros in place of a teacher's outputs, which `_represent` has the time of."""

    def __init__(self, num_features: int):
        self.num_features = num_features

    def compute(self, indices: np.ndarray) -> None:
        """Does nothing."""

    def outputs_of(self, indices: np.ndarray) -> np.ndarray:
        """Returns [M, F] zeros."""
        return np.zeros((len(indices), self.num_features), np.float32)


def _representations(row: _Row) -> inference.Representations:
    return _NoRepresentations(row.network(seed=0).num_features(row.dataset.images.shape))


def _seconds_of_outputs(row: _Row, network: Network, indices: np.ndarray) -> tuple[float, float]:
    batch = row.few(indices)

    def outputs() -> None:
        inference.outputs(network, row.images, batch, row.config.evaluate.batch_size, row.devices, "outputs")

    return _seconds_of(outputs, len(batch))


def _seconds_of(function: Callable[[], Any], units: int) -> tuple[float, float]:
    """Returns the seconds for a unit, of so many a call, and what the first call takes beyond a later one."""
    start = time.monotonic()
    function()
    first = time.monotonic() - start
    start, calls = time.monotonic(), 0
    while not calls or (time.monotonic() - start < _LEAST_SECONDS and calls < _MOST_CALLS):
        function()
        calls += 1
    later = (time.monotonic() - start) / calls
    return later / units, max(first - later, 0.0)


def _seconds_of_updates(training: Training) -> tuple[float, float]:
    state, count = training.state, min(training.feed.most_at_once, _UPDATES)

    def updates() -> None:
        nonlocal state
        state, metrics = training.feed(state, count)
        jax.block_until_ready(metrics)

    return _seconds_of(updates, count)


def _networks(row: _Row) -> tuple[int, float]:
    """Returns how many networks are kept, and their size: teachers, in the store too where trained, and students.

    A random teacher that stands beside the row's is one for each configuration.
    """
    variables = jax.eval_shape(lambda: row.network(seed=0).variables)
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables))
    count = len(row.teachers) + len(_lessons(row)) + (2 * row.times - 1) * len(row.configurations)
    return count, count * size / 2**20


def _kept_mib(row: _Row) -> tuple[float, float]:
    """Returns the memory of what a run keeps beyond what has been tried, and what it keeps in temporary files.

    These are representations, of every teacher that stands beside the row's too, features for the probe, and images.
    """
    features = _representations(row).num_features
    in_memory, in_files = bytes_needed(len(row.dataset.sample_of_image), features)
    trained = max(len(_images_of(row, configuration)[0]) for configuration in row.configurations)
    shrinking = 4 * 4 * trained * features if row.config.evaluate.covariance == "ledoit_wolf" else 0  # scikit-learn's
    lesson = one_class.plan_probe(row.config, row.images)
    num_probed = len(row.dataset.images_of(np.concatenate([lesson.train, lesson.held_out])))
    num_probed_features = feature_network(row.config, row.network(seed=0)).num_features(row.dataset.images.shape)
    probing = 3 * 4 * num_probed * num_probed_features  # as they are, standardised, and scikit-learn's
    sets = {id(each): each for each in (row.images, row.auxiliary) if each is not None}.values()
    decoded = sum(remembered_bytes(len(each.sample_of_image), each.image_shape) for each in sets)
    in_memory = row.times * in_memory + shrinking + probing + decoded
    return in_memory / 2**20, row.times * in_files / 2**20
