"""One row of the paper, from its images to its results; `run` reads as the table of contents."""

import contextlib
import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from brittle_jax import __version__, checkpoint, console, results, workdir
from brittle_jax.config import validate
from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.image_set import ImageSet
from brittle_jax.data.one_class import Configuration
from brittle_jax.errors import DegenerateDataError, UserError
from brittle_jax.evaluate import passes, samples
from brittle_jax.evaluate.brittleness import brittleness
from brittle_jax.evaluate.detectors import Gaussian, fit_gaussian
from brittle_jax.evaluate.moments import Moments
from brittle_jax.models.network import Network
from brittle_jax.parallel import DeviceGroup
from brittle_jax.published import published_row
from brittle_jax.seeding import derive_seed
from brittle_jax.train.distill import distill_student, num_updates
from brittle_jax.train.loop import MetricLog
from brittle_jax.train.teacher import is_shared, obtain_teacher


def run(
    config: ml_collections.ConfigDict,
    folder: str,
    *,
    recipe: ml_collections.ConfigDict | None = None,
    overwrite: bool = False,
    devices: DeviceGroup | None = None,
) -> None:
    """Runs one row over its configurations and writes its results to a folder.

    Args:
        config: the settings, see `brittle_jax.config`.
        folder: of the results; one that is finished is left as it is, in one that is not the run goes on.
        recipe: the row's own settings, which the results are held against; None: the same as `config`.
        overwrite: start anew in a folder that an earlier run has used.
        devices: that share the work; None: all of this process.

    Raises:
        UserError: for a setting, data set or folder that cannot be used, before anything is written.
    """
    devices = devices or DeviceGroup()
    folder = pathlib.Path(folder)
    validate(config)
    _check_batch_sizes(config, devices)
    if not overwrite:
        workdir.check(folder, config)
        if workdir.is_finished(folder):
            console.say(f"{folder} is finished: see {folder / 'results.json'}, or start anew with --overwrite")
            return
    _say_what_runs(config, devices)
    images = load(config.data.name, config)
    auxiliary = _load_auxiliary(config, images)
    configurations = one_class.configurations(images, config)
    is_synthetic = images.synthetic or (auxiliary is not None and auxiliary.synthetic)
    if is_synthetic:
        console.say("SYNTHETIC DATA: the images are made up; the results say nothing about real ones")

    workdir.prepare(folder, config, overwrite=overwrite)
    results.write_json(folder / "splits.json", results.splits(images, configurations), indent=None)
    seconds: dict[str, float] = {}
    entries = []
    with contextlib.closing(MetricLog(folder)) as log:
        for number, configuration in enumerate(configurations, 1):
            console.say(
                f"[{number}/{len(configurations)}] {configuration.name}: {len(configuration.train)} normal training "
                f"samples, {len(configuration.test)} test samples"
            )
            try:
                entry = _run_configuration(config, images, auxiliary, configuration, folder, devices, log, seconds)
            except DegenerateDataError as error:
                raise UserError(f"{configuration.name}: {error}") from error
            entries.append(entry)

    content = {
        "format_version": results.FORMAT_VERSION,
        "row": config.row,
        "word": config.word or None,
        "dataset": config.data.name,
        "teacher": {"task": config.teacher.task, "dataset": config.teacher.data or None},
        "synthetic_data": is_synthetic,
        "seed": config.seed,
        "reduced": results.changed_fields(config, recipe or config),
        "configurations": entries,
        "summary": results.summarise(entries),
        "probe_accuracy": None,  # the linear probe is not built yet
        "published": published_row(config.row),
        "measurement": results.measurement(config),
        "environment": results.environment(),
        "seconds": seconds,
        "skipped_inputs": [],
        "finished_at": results.now(),
    }
    results.write_json(folder / "results.json", content)
    _say_results(content, folder, seconds)


def _run_configuration(
    config: ml_collections.ConfigDict,
    images: ImageSet,
    auxiliary: ImageSet | None,
    configuration: Configuration,
    folder: pathlib.Path,
    devices: DeviceGroup,
    log: MetricLog,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Runs one configuration and returns its entry in results.json."""
    name, batch_size = configuration.name, config.evaluate.batch_size
    clock = _Clock(seconds)
    train, test = images.images_of(configuration.train), images.images_of(configuration.test)

    teachers = folder / "checkpoints" / ("" if is_shared(config) else name) / "teacher"
    teacher, description = obtain_teacher(config, images, auxiliary, configuration, teachers, devices=devices, log=log)
    clock.stop("teacher")

    targets, moments = passes.represent(teacher, images, train, batch_size, devices)
    gaussian = _fit(config, moments, targets)
    clock.stop("represent")

    student = _obtain_student(config, images, configuration, teacher, train, targets, folder, devices, log)
    clock.stop("distill")

    image_scores = passes.score(student, teacher, gaussian, images, test, batch_size, devices)
    clock.stop("score")

    path = config.evaluate.gradient_path
    terms = passes.measure_brittleness(student, teacher, images, train, batch_size, devices, path=path)
    clock.stop("brittleness")

    scores = samples.sample_scores(images, test, image_scores, configuration.test)
    seed = derive_seed(config.seed, "bootstrap", name)
    separations = samples.separations(
        configuration.test_labels, scores, bootstrap_samples=config.evaluate.bootstrap_samples, seed=seed
    )
    results.write_scores(
        folder / "scores" / f"{name}.csv", images.ids[configuration.test], configuration.test_labels, scores
    )
    entry = {
        "name": name,
        "group": configuration.group,
        "num_train": len(configuration.train),
        "num_test_normal": int((configuration.test_labels == 0).sum()),
        "num_test_anomalous": int((configuration.test_labels == 1).sum()),
        **separations,
        "brittleness": brittleness(terms.gradient_norm, terms.error_trace),
        "gradient_norm": terms.gradient_norm,
        "error_trace": terms.error_trace,
        "covariance": gaussian.method,
        "teacher": description,
        "distillation": {
            "update_steps": num_updates(len(train), config.distill),
            **_distillation_check(images, configuration, test, image_scores, targets.shape[1]),
        },
    }
    if len(images.views) > 1:
        entry["num_train_images"] = len(train)
        entry["auroc_by_view"] = samples.auroc_by_view(
            images, test, image_scores, configuration.test, configuration.test_labels
        )
    clock.stop("metrics")
    return entry


def _obtain_student(config, images, configuration, teacher, indices, targets, folder, devices, log) -> Network:
    student_folder = folder / "checkpoints" / configuration.name / "student"
    if checkpoint.exists(student_folder):
        console.say("  student: finished before, read back")
        variables, _ = checkpoint.restore(student_folder, teacher.variables)
        return Network(teacher.module, variables)
    student = distill_student(
        teacher.module, images, indices, targets, config, name=configuration.name, devices=devices, log=log
    )
    checkpoint.save(student_folder, student.variables, {"update_steps": num_updates(len(indices), config.distill)})
    return student


def _fit(config: ml_collections.ConfigDict, moments: Moments, representations: np.ndarray) -> Gaussian:
    covariance = config.evaluate.covariance
    shrinkage = config.evaluate.ridge
    if covariance == "ledoit_wolf":
        shrinkage = ledoit_wolf_shrinkage(representations)
    return fit_gaussian(moments, covariance=covariance, shrinkage=shrinkage)


def _distillation_check(
    images: ImageSet,
    configuration: Configuration,
    test: np.ndarray,
    image_scores: dict[str, np.ndarray],
    num_features: int,
) -> dict[str, float]:
    """Compares the student with always predicting the teacher's mean, on normal test images; warns if it lost.

    For diagnosis only: no choice depends on it.
    """
    normal_samples = configuration.test[configuration.test_labels == 0]
    is_normal = np.isin(images.sample_of_image[test], normal_samples)
    loss = float(image_scores["kd"][is_normal].mean() / num_features)
    mean_predictor_loss = float(image_scores["mse"][is_normal].mean())
    if loss >= mean_predictor_loss:
        console.warn(
            f"{configuration.name}: the student's error on normal test images, {loss:.4g}, is not below that of "
            f"always predicting the teacher's mean, {mean_predictor_loss:.4g}: it has not learned the teacher yet "
            "(train longer, --config.distill.num_epochs)"
        )
    return {"loss": loss, "mean_predictor_loss": mean_predictor_loss}


class _Clock:
    """Adds the time since the last stop to a stage's seconds."""

    def __init__(self, seconds: dict[str, float]):
        self._seconds = seconds
        self._last = time.monotonic()

    def stop(self, stage: str) -> None:
        now = time.monotonic()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _check_batch_sizes(config: ml_collections.ConfigDict, devices: DeviceGroup) -> None:
    devices.check_batch_size(config.distill.batch_size, "distill.batch_size")
    devices.check_batch_size(config.evaluate.batch_size, "evaluate.batch_size")
    if config.teacher.task != "random":
        views = 4 if config.teacher.task == "rotnet" else 1
        devices.check_batch_size(config.pretrain.batch_size, "pretrain.batch_size", images_per_input=views)


def _load_auxiliary(config: ml_collections.ConfigDict, images: ImageSet) -> ImageSet | None:
    if config.teacher.task == "random":
        return None
    return images if config.teacher.data == config.data.name else load(config.teacher.data, config)


def _say_what_runs(config: ml_collections.ConfigDict, devices: DeviceGroup) -> None:
    word = f" ({config.word})" if config.word else ""
    kinds = sorted({device.device_kind for device in devices.devices})
    console.say(f"brittle_jax {__version__}: {config.row}{word}, seed {config.seed}")
    console.say(f"devices: {devices.size} x {', '.join(kinds)} ({jax.default_backend()})")


def _say_results(content: dict[str, Any], folder: pathlib.Path, seconds: dict[str, float]) -> None:
    console.say("")
    console.say(results.table(content))
    if content["synthetic_data"]:
        console.say("  on SYNTHETIC data: not comparable with the published numbers")
    if content["reduced"]:
        console.say(f"  REDUCED against the row's recipe: {', '.join(content['reduced'])}")
    times = ", ".join(f"{stage} {console.duration(value)}" for stage, value in seconds.items())
    console.say(f"time: {times}")
    console.say(f"results: {folder / 'results.json'}; scores: {folder / 'scores'}; log: tensorboard --logdir={folder}")
