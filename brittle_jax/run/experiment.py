"""One row of the paper, from its images to its results; `run` reads as the table of contents."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections

from brittle_jax import console, files, results
from brittle_jax.config import completed, seeds_of, validate
from brittle_jax.data import one_class
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.picture_file import decoders_silenced
from brittle_jax.data.splits import anomalies_can_train
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import DegenerateDataError, UserError
from brittle_jax.loop import SECONDS_BETWEEN_SAVES, Loop
from brittle_jax.metric_log import MetricLog
from brittle_jax.models.network import check_network
from brittle_jax.published import published_row
from brittle_jax.recipes import other_teacher
from brittle_jax.report import page
from brittle_jax.run import announcements, borrowing, record, settings, students, workdir
from brittle_jax.run.detection import evaluate_detector, make_detector
from brittle_jax.run.row import Row, Stage
from brittle_jax.run.stages import Stages
from brittle_jax.teachers.kind import Kind


@decoders_silenced()
def run(
    config: ml_collections.ConfigDict,
    folder: str,
    *,
    recipe: ml_collections.ConfigDict | None = None,
    overwrite: bool = False,
    devices: DeviceGroup | None = None,
    seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
    wait: bool = True,
    before_writing: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Runs one row over its configurations, writes its results to a folder, and returns those of results.json.

    A run that was stopped, at any point and in any way, goes on from what it kept, and gives the same results.

    Args:
        config: the settings, see `brittle_jax.config`. With `seeds` they are for `repeats.run`.
        folder: of the results. If it is finished, it is left as it is; if it is not, the run goes on.
        recipe: the row's own settings, which the results are compared with; None: the same as `config`.
        overwrite: start anew in a folder that an earlier run has used.
        devices: that share the work; None: all of this process.
        seconds_between_saves: after which unfinished work is kept.
        wait: for a teacher that another run is training; otherwise that is a BusyError.
        before_writing: called once all that can be checked has been, before the folder is touched; not if it is
            finished.

    Raises:
        ValueError: if the settings have `seeds`.
        BusyError: if another run is writing to the folder, or is training the teacher; nothing is lost.
        UserError: for a setting, data set or folder that cannot be used, before the folder is touched; and if training
            diverges.
        Interrupted: if a signal has asked for it, in a block where `interrupt.handled`.
    """
    if seeds_of(config):
        raise ValueError(f"seeds={config.seeds!r}: call repeats.run, which runs the row once for each seed")
    devices = devices or DeviceGroup()
    config, recipe = completed(config), completed(recipe or config)
    folder = pathlib.Path(folder).expanduser()
    kind = check_settings(config, folder, devices, wait=wait)
    if config.teacher.from_run and pathlib.Path(config.teacher.from_run).expanduser().resolve() == folder.resolve():
        raise UserError(f"teacher.from_run={config.teacher.from_run} is this run's own folder: name another")
    workdir.check(folder, config, overwrite=overwrite)
    is_finished = not overwrite and _is_finished(folder)
    if is_finished and workdir.names_same_folder(folder, config):
        return _finished(folder)
    announcements.say_what_runs(config, devices)
    stages = Stages(devices)
    row = read_row(config, kind, Loop(devices, config.evaluate.batch_size), stages.measured)
    configurations = configurations_of(row)
    splits = record.splits(row, configurations)
    announcements.say_what_was_read(row, splits)
    borrowing.check_same_images(config, row.dataset)
    for configuration in configurations:
        students.check_points(row, configuration)
    if is_finished:
        workdir.check_splits(folder, config, splits)
        return _finished(folder)
    before_writing()
    with workdir.opened(folder, config, splits, overwrite=overwrite) as held:
        stages.keep_in(folder / "stages.json", held.check)
        with contextlib.closing(MetricLog(folder)) as log:
            loop = Loop(
                devices,
                config.evaluate.batch_size,
                log.write,
                seconds_between_saves=seconds_between_saves,
                check=held.check,
            )
            row = dataclasses.replace(row, configurations=configurations, recipe=recipe)
            row = row.kept_in(folder, workdir.made_from(config, splits), loop, held.check)
            entries, references = _run_configurations(row, configurations)
        held.check()
        content = _results(row, stages, splits, entries, references, recipe)
        workdir.finish(folder, content)
        page.write_page(folder, content)
    announcements.say_results(content, folder)
    return content


def check_settings(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    devices: DeviceGroup,
    *,
    store_is_read_only: bool = False,
    wait: bool = True,
) -> Kind:
    """Returns the kind of teacher; raises UserError for all that can be known to be wrong before any data are read."""
    validate(config)
    check_network(settings.network_of(config))
    kind = settings.teacher_of(config, folder, store_is_read_only=store_is_read_only, wait=wait)
    kind.check(devices)
    settings.check_parcels(config, learns_anomalies=kind.learns_anomalies)
    one_class.choose(config.data.configurations, config.data.name, CATALOGUE[config.data.name].classes)
    devices.check_batch_size(config.distill.batch_size, "distill.batch_size")
    devices.check_batch_size(config.evaluate.batch_size, "evaluate.batch_size")
    return kind


def read_row(config: ml_collections.ConfigDict, kind: Kind, loop: Loop, stage: Stage) -> Row:
    """Reads the data sets of a row, making or preparing them first if need be."""
    with stage("data"):
        dataset = load(config.data.name, settings.data_of(config, config.data.name))
        lessons = dataset if kind.dataset == config.data.name else None
        if kind.dataset and lessons is None:
            lessons = load(kind.dataset, settings.data_of(config, kind.dataset))
    kind.check_dataset(dataset)
    return Row(config, dataset, lessons, kind, loop, stage, folder=None, made_from={})


def configurations_of(row: Row) -> list[Configuration]:
    """Returns the configurations that the settings ask for."""
    data = row.config.data
    return one_class.configurations(
        row.dataset,
        data.configurations,
        settings.splitting_of(row.config, learns_anomalies=row.kind.learns_anomalies),
        max_train_samples=data.max_train_samples,
        max_test_samples=data.max_test_samples,
    )


def needs_reference(row: Row) -> bool:
    """Returns whether a random teacher runs beside the row's own.

    The supervised baseline learns from some anomalous samples if the data set has no split of its own. Its test is then
    smaller than that of every other teacher; random on the same test makes it comparable.
    """
    return row.kind.learns_anomalies and anomalies_can_train(row.dataset)


def run_configuration(row: Row, configuration: Configuration) -> dict[str, Any]:
    """Makes and evaluates the detector of one configuration; returns its entry in results.json.

    Raises:
        UserError: if the configuration's data tell nothing, or training diverges.
    """
    if (entry := row.finished(configuration)) is not None:
        console.say(f"  {configuration.name}: finished before")
        return entry
    row = row.within(configuration)
    try:
        entry = evaluate_detector(row, make_detector(row, configuration), configuration)
    except DegenerateDataError as error:
        raise UserError(f"{configuration.name}: {error}") from error
    return row.finish(configuration, entry)


def reference_of(configuration: Configuration) -> Configuration:
    """Returns a configuration as the random teacher runs it: its files carry `/random` in their names."""
    return dataclasses.replace(configuration, name=f"{configuration.name}/random")


def _run_configurations(
    row: Row, configurations: Sequence[Configuration]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs all configurations; returns their entries in results.json, and those of the reference's runs."""
    entries, references = [], []
    reference = row.reference() if needs_reference(row) else None
    for number, configuration in enumerate(configurations, 1):
        announcements.say_configuration(configuration, number, len(configurations))
        entries.append(run_configuration(row, configuration))
        if reference is not None:
            console.say(f"  {configuration.name} with a random teacher, on the same test samples")
            references.append(run_configuration(reference, reference_of(configuration)))
    return entries, references


def _results(
    row: Row,
    stages: Stages,
    splits: dict[str, Any],
    entries: list[dict[str, Any]],
    references: list[dict[str, Any]],
    recipe: ml_collections.ConfigDict,
) -> dict[str, Any]:
    """Returns the content of results.json."""
    config = row.config
    return {
        "format_version": results.FORMAT_VERSION,
        "row": config.row,
        "word": config.word or None,
        "dataset": config.data.name,
        "data_path": config.data.path or None,
        "intensity": row.dataset.intensity,
        "teacher": {"task": config.teacher.task, "dataset": config.teacher.data or None},
        "other_teacher": other_teacher(config),
        "synthetic_data": any(each.synthetic for each in row.datasets)
        or any({"synthetic_data", "synthetic_weights"} & entry["teacher"].keys() for entry in entries),
        "seed": config.seed,
        "seeds": record.seeds(config),
        "reduced": record.changed_fields(config, recipe),
        "configurations": entries,
        "summary": results.summarise(entries),
        "random_on_same_test": references,
        **results.summarise_probes(entries),
        "published": published_row(config.row),
        "measurement": record.measurement(row),
        "environment": record.environment(row.loop.devices),
        **{name: stages.column(name) for name in ("seconds", "peak_memory_mib", "peak_device_memory_mib")},
        "skipped_inputs": [each for dataset in row.datasets for each in dataset.skipped],
        "num_identical_across_splits": len(splits["identical_across_splits"]),
        "finished_at": record.now(),
    }


def _is_finished(folder: pathlib.Path) -> bool:
    """Returns whether the run in a folder is finished, and its files are as it wrote them; warns if they are not."""
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
    workdir.drop_progress(folder)  # of a run that was killed just after it had finished
    if not page.is_sound(folder):
        page.write_page(folder, content)
    if workdir.is_unverified(folder):
        console.warn(f"{folder} is unverified: a version that kept no digests of its files wrote it")
    announcements.say_finished(folder, content)
    return content
