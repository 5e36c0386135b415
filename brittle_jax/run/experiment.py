"""One row of the paper, from its images to its results; `run` reads as the table of contents."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from brittle_jax import checkpoint, console, files, inference
from brittle_jax.auxiliary import TASKS, build_task, check_teacher
from brittle_jax.config import completed, validate
from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import classes_of, load
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.picture_file import decoders_silenced
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import DegenerateDataError, UserError
from brittle_jax.evaluate import samples
from brittle_jax.evaluate.brittleness import brittleness
from brittle_jax.evaluate.detectors import Gaussian, fit_gaussian
from brittle_jax.loop import MetricLog, train
from brittle_jax.models.network import Network, check_architecture, digest_of
from brittle_jax.probe import probe_teacher
from brittle_jax.published import published_row
from brittle_jax.report import page
from brittle_jax.report.examples import collect_examples
from brittle_jax.run import announcements, results, workdir
from brittle_jax.run.stages import Stages
from brittle_jax.seeding import derive_seed
from brittle_jax.student import num_updates, prepare_distillation
from brittle_jax.teachers.teacher import check_another_run, check_same_images, check_weights, obtain_teacher


@decoders_silenced()
def run(
    config: ml_collections.ConfigDict,
    folder: str,
    *,
    recipe: ml_collections.ConfigDict | None = None,
    overwrite: bool = False,
    devices: DeviceGroup | None = None,
) -> dict[str, Any]:
    """Runs one row over its configurations, writes its results to a folder, and returns those of results.json.

    Args:
        config: the settings, see `brittle_jax.config`.
        folder: of the results; one that is finished is left as it is, in one that is not the run goes on.
        recipe: the row's own settings, which the results are held against; None: the same as `config`.
        overwrite: start anew in a folder that an earlier run has used.
        devices: that share the work; None: all of this process.

    Raises:
        UserError: for a setting, data set or folder that cannot be used, before the folder is touched; and where
            training diverges.
    """
    devices = devices or DeviceGroup()
    config, recipe = completed(config), completed(recipe or config)
    folder = pathlib.Path(folder).expanduser()
    check_settings(config, devices)
    if config.teacher.from_run and pathlib.Path(config.teacher.from_run).expanduser().resolve() == folder.resolve():
        raise UserError(f"--config.teacher.from_run={config.teacher.from_run} is this run's own folder: name another")
    workdir.check(folder, config, overwrite=overwrite)
    is_finished = not overwrite and _is_finished(folder)
    if is_finished and workdir.names_same_folder(folder, config):
        return _finished(folder)
    announcements.say_what_runs(config, devices)
    stages = Stages(devices)
    with stages.measured("data"):
        images = load(config.data.name, config)
        auxiliary = load_auxiliary(config, images)
    configurations = one_class.configurations(images, config)
    for synthetic in (each for each in _distinct(images, auxiliary) if each.synthetic):
        console.say(f"SYNTHETIC DATA: the images of {synthetic.name} are made up; results say nothing about real ones")

    splits = results.splits(images, auxiliary, configurations, config)
    if splits["identical_across_splits"]:
        console.warn(
            f"{console.count(len(splits['identical_across_splits']), 'pair')} of equal pictures on two sides of the "
            "split, splits.json names them: the test does not stand apart from the training"
        )
    check_same_images(config, images)
    if is_finished:
        workdir.check_splits(folder, config, splits)
        return _finished(folder)
    with workdir.opened(folder, config, splits, overwrite=overwrite):
        stages.keep_in(folder / "stages.json")
        with contextlib.closing(MetricLog(folder)) as log:
            made_from = workdir.made_from(config, splits)
            work = _Work(config, images, auxiliary, folder, devices, log, stages, splits, made_from)
            entries, references = _run_configurations(work, configurations)
        content = _results(work, entries, references, recipe)
        workdir.finish(folder, content)
        page.write_page(folder, content)
    announcements.say_results(content, folder)
    return content


@dataclasses.dataclass(frozen=True)
class _Work:
    """What all configurations of a run share."""

    config: ml_collections.ConfigDict
    dataset: Dataset
    auxiliary: Dataset | None
    folder: pathlib.Path
    devices: DeviceGroup
    log: MetricLog
    stages: Stages
    splits: dict[str, Any]
    made_from: dict[str, Any]  # kept beside each network
    probes: dict[str, dict[str, Any] | None] = dataclasses.field(default_factory=dict)
    representations: dict[str, inference.Representations] = dataclasses.field(default_factory=dict)


def _run_configurations(
    work: _Work, configurations: Sequence[Configuration]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs all configurations; returns their entries in results.json, and those of the reference's runs."""
    entries, references = [], []
    for number, configuration in enumerate(configurations, 1):
        console.say(
            f"[{number}/{len(configurations)}] {configuration.name}: "
            f"{console.count(len(configuration.train), 'normal training sample')}, "
            f"{console.count(len(configuration.test), 'test sample')}"
        )
        try:
            entries.append(_run_configuration(work, configuration))
            if (reference := one_class.random_reference(work.images, work.config)) is not None:
                console.say(f"  {configuration.name} with a random teacher, on the same test samples")
                references.append(_run_reference(work, reference, configuration))
        except DegenerateDataError as error:
            raise UserError(f"{configuration.name}: {error}") from error
    return entries, references


def _run_configuration(work: _Work, configuration: Configuration) -> dict[str, Any]:
    """Runs one configuration and returns its entry in results.json."""
    config, images, devices, measured = work.config, work.images, work.devices, work.stages.measured
    batch_size = config.evaluate.batch_size
    train, test = dataset.images_of(configuration.train), dataset.images_of(configuration.test)

    with measured("pretrain"):
        teacher, description = obtain_teacher(
            config,
            images,
            work.auxiliary,
            configuration,
            work.folder,
            made_from=work.made_from,
            devices=devices,
            log=work.log,
        )
    with measured("probe"):
        probe = _probe(work, teacher)
    with measured("represent"):
        representations = _representations(work, teacher)
        representations.compute(np.union1d(train, test))
        gaussian = _fit(config, representations, train)
    with measured("distill"):
        student = _obtain_student(work, configuration, teacher, train, representations)
    with measured("score"):
        image_scores = inference.score(student, representations, gaussian, images, test, batch_size, devices)
    with measured("brittleness"):
        terms = inference.measure_brittleness(
            student,
            teacher,
            representations,
            images,
            train,
            batch_size,
            devices,
            path=config.evaluate.gradient_path,
        )
    with measured("metrics"):
        scores = samples.sample_scores(images, test, image_scores, configuration.test)
        separations = samples.separations(
            configuration.test_labels,
            scores,
            bootstrap_samples=config.evaluate.bootstrap_samples,
            seed=derive_seed(config.seed, "bootstrap", configuration.name),
        )
        kinds = np.asarray(dataset.samples.classes)[dataset.samples.labels[configuration.test]]
        by_kind = samples.separations_by_kind(
            configuration.test_labels,
            kinds,
            scores,
            bootstrap_samples=config.evaluate.bootstrap_samples,
            seed=derive_seed(config.seed, "bootstrap", configuration.name),
        )
    with measured("examples"):
        examples = collect_examples(images, configuration, test, image_scores, scores)
        examples["reconstructions"] = description.pop("reconstructions", None)
    scores_file = work.folder / "scores" / f"{configuration.name}.csv"
    results.write_scores(scores_file, dataset.samples.ids[configuration.test], configuration.test_labels, scores)
    files.write_json(work.folder / "examples" / f"{configuration.name}.json", examples)

    entry = {
        "name": configuration.name,
        "group": configuration.group,
        "num_train": len(configuration.train),
        "num_test_normal": int((configuration.test_labels == 0).sum()),
        "num_test_anomalous": int((configuration.test_labels == 1).sum()),
        **separations,
        "by_kind": by_kind,
        "brittleness": brittleness(terms.gradient_norm, terms.error_trace),
        "gradient_norm": terms.gradient_norm,
        "error_trace": terms.error_trace,
        "covariance": {"rank": gaussian.rank, "num_features": representations.num_features, "num_images": len(train)},
        "teacher": description,
        "probe": probe,
        "distillation": {
            "update_steps": num_updates(len(train), config.distill),
            **_distillation_check(images, configuration, test, image_scores, representations.num_features),
        },
    }
    if len(dataset.views) > 1:
        entry["auroc_by_view"] = samples.auroc_by_view(
            images, test, image_scores, configuration.test, configuration.test_labels
        )
    return entry


def _run_reference(work: _Work, reference: ml_collections.ConfigDict, configuration: Configuration) -> dict[str, Any]:
    """Runs a configuration again with the reference's teacher; its files carry `/random` in their names."""
    work = dataclasses.replace(work, config=reference, auxiliary=None)
    return _run_configuration(work, dataclasses.replace(configuration, name=f"{configuration.name}/random"))


def _obtain_student(
    work: _Work,
    configuration: Configuration,
    teacher: Network,
    indices: np.ndarray,
    representations: inference.Representations,
) -> Network:
    """Returns the student of a teacher; from the run's folder where it is there already."""
    folder = work.folder / "checkpoints" / configuration.name / "student"
    description = {
        "update_steps": num_updates(len(indices), work.config.distill),
        "teacher_sha256": digest_of(teacher.variables),
    }
    if (recovered := checkpoint.recover(folder, teacher.variables)) is not None:
        variables, theirs = recovered
        if theirs.get("teacher_sha256", description["teacher_sha256"]) == description["teacher_sha256"]:
            console.say("  student: finished before, read back")
            return Network(teacher.module, variables)
        # A teacher that was made anew on another machine differs by rounding, which training magnifies.
        console.warn(f"{folder} is the student of another teacher: it is distilled anew")
    training = prepare_distillation(
        teacher.module,
        work.images,
        indices,
        representations,
        work.config,
        name=configuration.name,
        devices=work.devices,
    )
    student = Network(teacher.module, train(training, work.log).variables)
    checkpoint.save(folder, student.variables, description, work.made_from)
    return student


def _probe(work: _Work, teacher: Network) -> dict[str, Any] | None:
    """Returns the linear probe's accuracies; where all configurations share a teacher, it is probed once."""
    if not one_class.teacher_is_shared(work.config):
        return probe_teacher(work.config, teacher, work.images, work.devices)
    key = work.config.teacher.task
    if key not in work.probes:
        work.probes[key] = probe_teacher(work.config, teacher, work.images, work.devices)
    return work.probes[key]


def _representations(work: _Work, teacher: Network) -> inference.Representations:
    """Returns the teacher's outputs; where all configurations share a teacher, with those of the ones before."""

    def new_representations() -> inference.Representations:
        batch_size = work.config.evaluate.batch_size
        return inference.Representations(teacher, work.images, batch_size, work.devices, work.folder)

    if not one_class.teacher_is_shared(work.config):
        return new_representations()
    key = work.config.teacher.task
    if key not in work.representations:
        work.representations[key] = new_representations()
    return work.representations[key]


def _fit(
    config: ml_collections.ConfigDict, representations: inference.Representations, indices: np.ndarray
) -> Gaussian:
    covariance = config.evaluate.covariance
    shrinkage = config.evaluate.ridge
    if covariance == "ledoit_wolf":
        shrinkage = ledoit_wolf_shrinkage(representations.outputs_of(indices))
    return fit_gaussian(representations.moments(indices), covariance=covariance, shrinkage=shrinkage)


def _distillation_check(
    dataset: Dataset,
    configuration: Configuration,
    test: np.ndarray,
    image_scores: dict[str, np.ndarray],
    num_features: int,
) -> dict[str, float]:
    """Compares the student with always predicting the teacher's mean, on normal test images; warns if it lost.

    For diagnosis only: no choice depends on it.
    """
    normal_samples = configuration.test[configuration.test_labels == 0]
    is_normal = np.isin(dataset.sample_of_image[test], normal_samples)
    loss = float(image_scores["kd"][is_normal].mean() / num_features)
    mean_predictor_loss = float(image_scores["mse"][is_normal].mean())
    if loss >= mean_predictor_loss:
        console.warn(
            f"{configuration.name}: the student's error on normal test images, {loss:.4g}, is not below that of "
            f"always predicting the teacher's mean, {mean_predictor_loss:.4g}: it has not learned the teacher yet "
            "(train longer, --config.distill.num_epochs)"
        )
    return {"loss": loss, "mean_predictor_loss": mean_predictor_loss}


def check_settings(config: ml_collections.ConfigDict, devices: DeviceGroup) -> None:
    """Raises UserError for all that can be known to be wrong before any data set is read."""
    validate(config)
    check_teacher(config.teacher.task)
    learned = None
    if config.teacher.task in TASKS:
        learned = build_task(config.teacher.task, config.pretrain, num_classes=2)
    needs_decoder = learned is not None and learned.reconstructs
    check_architecture(config.network.name, config.network.output_features, needs_decoder=needs_decoder)
    one_class.check_parcels(config)
    one_class.choose(config.data.configurations, config.data.name, classes_of(config.data.name))
    devices.check_batch_size(config.distill.batch_size, "distill.batch_size")
    devices.check_batch_size(config.evaluate.batch_size, "evaluate.batch_size")
    if config.teacher.from_run:
        check_another_run(config)
    elif config.pretrain.from_weights or (
        config.teacher.task == "imagenet" and (config.teacher.weights or not config.data.stand_in)
    ):
        check_weights(config)
    if learned is None:
        devices.check_batch_size(config.teacher.batch_norm_batch_size, "teacher.batch_norm_batch_size")
    else:
        devices.check_batch_size(config.pretrain.batch_size, "pretrain.batch_size", learned.views_per_image)


def _distinct(dataset: Dataset, auxiliary: Dataset | None) -> list[Dataset]:
    return [images] if auxiliary is None or auxiliary is images else [images, auxiliary]


def load_auxiliary(config: ml_collections.ConfigDict, dataset: Dataset) -> Dataset | None:
    """Returns the data set of the auxiliary task, or None where the teacher learns none."""
    if config.teacher.task not in TASKS or config.teacher.from_run:
        return None
    return images if config.teacher.data == config.data.name else load(config.teacher.data, config)


def _results(
    work: _Work, entries: list[dict[str, Any]], references: list[dict[str, Any]], recipe: ml_collections.ConfigDict
) -> dict[str, Any]:
    """Returns the content of results.json."""
    config = work.config
    return {
        "format_version": results.FORMAT_VERSION,
        "row": config.row,
        "word": config.word or None,
        "dataset": config.data.name,
        "data_path": config.data.path or None,
        "intensity": work.dataset.intensity,
        "teacher": {"task": config.teacher.task, "dataset": config.teacher.data or None},
        "synthetic_data": any(each.synthetic for each in _distinct(work.images, work.auxiliary))
        or any({"synthetic_data", "synthetic_weights"} & entry["teacher"].keys() for entry in entries),
        "seed": config.seed,
        "reduced": results.changed_fields(config, recipe),
        "configurations": entries,
        "summary": results.summarise(entries),
        "random_on_same_test": references,
        **results.summarise_probes(entries),
        "published": published_row(config.row),
        "measurement": results.measurement(config),
        "environment": results.environment(work.devices),
        **{name: work.stages.column(name) for name in ("seconds", "peak_memory_mib", "peak_device_memory_mib")},
        "skipped_inputs": [each for images in _distinct(work.images, work.auxiliary) for each in dataset.skipped],
        "num_identical_across_splits": len(work.splits["identical_across_splits"]),
        "finished_at": results.now(),
    }


def _is_finished(folder: pathlib.Path) -> bool:
    """Returns whether the run in a folder is finished, and its files are as it wrote them; warns where they are not."""
    if not workdir.is_finished(folder):
        return False
    damage = workdir.damage(folder)
    if damage:
        console.warn(
            f"{folder} was finished, but has changed since: {workdir.describe_damage(damage)}. "
            "The run goes on, and makes anew what it can"
        )
        if lost := workdir.not_made_again(damage):
            console.warn(f"what was lost of {', '.join(lost)} is not made again: restore it from a copy if you need it")
    return not damage


def _finished(folder: pathlib.Path) -> dict[str, Any]:
    content = files.read_json(folder / "results.json")
    if not page.is_sound(folder):
        page.write_page(folder, content)
    if workdir.is_unverified(folder):
        console.warn(f"{folder} is unverified: a version that kept no digests of its files wrote it")
    announcements.say_finished(folder, content)
    return content
