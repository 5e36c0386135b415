"""Teachers: drawn at random, pre-trained, published, or another run's; then frozen, with the head that is distilled."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from brittle_jax import checkpoint, console, files
from brittle_jax.run import workdir
from brittle_jax.auxiliary import build_task
from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.config import flatten
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration, Lesson, plan_lesson, teacher_is_shared
from brittle_jax.data.pipeline import training_batches
from brittle_jax.data.preprocess import data_uri
from brittle_jax.errors import DamagedError, UserError
from brittle_jax.models.network import (
    ARCHITECTURES,
    Network,
    Representation,
    Variables,
    init_variables,
    replace_trunk,
    trunk_of,
)
from brittle_jax.models.published_weights import load_trunk
from brittle_jax.devices import DeviceGroup
from brittle_jax.seeding import derive_seed
from brittle_jax.teachers import store
from brittle_jax.loop import MetricLog, train
from brittle_jax.teachers.pretraining import (
    held_out_auroc,
    held_out_metric,
    module_of,
    prepare_pretraining,
    reconstructions,
)
from brittle_jax.train.steps import BatchNormState, batch_norm_step

_NUM_RECONSTRUCTIONS = 8


def obtain_teacher(
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    auxiliary: Dataset | None,
    configuration: Configuration,
    run: pathlib.Path,
    *,
    made_from: Mapping[str, Any],
    devices: DeviceGroup,
    log: MetricLog,
) -> tuple[Network, dict[str, Any]]:
    """Returns a frozen teacher, and what is known about it; from the run's folder where it is there already.

    Args:
        auxiliary: data set of the auxiliary task; None where the teacher learns none.
        run: folder of the run, below which the teacher is kept.
        made_from: what the run's networks depend on, kept beside the teacher.
    """
    folder = folder_of(config, run, configuration)
    module = ARCHITECTURES[config.network.name].with_output(config.network.output_features)
    # The head's draw, and the whole of a random teacher, is never the student's: the purposes differ.
    variables = init_variables(module, derive_seed(config.seed, "teacher", "weights"), dataset.images.shape)
    if (recovered := checkpoint.recover(folder, variables)) is not None:
        console.say("  teacher: finished before, read back")
        variables, description = recovered
        return Network(module, variables), description
    if config.teacher.from_run:
        variables, description = _of_another_run(config, configuration, variables)
    elif config.teacher.task == "imagenet":
        variables, description = _published(config, images, configuration, module, variables, devices)
    elif config.teacher.task == "random":
        description = {}
        if config.teacher.random_batch_norm == "normal_images":
            train_images = dataset.images_of(configuration.train)
            variables = measure_batch_norm(module, variables, images, train_images, config, devices)
    else:
        lesson = plan_lesson(config, auxiliary, configuration)
        owner = "" if teacher_is_shared(config) else configuration.name
        trained, description = _pretrained(config, lesson, store_of(config, run), variables, devices, log, owner=owner)
        variables = {key: {**variables[key], **trained[key]} for key in variables}
    checkpoint.save(folder, variables, description, made_from)
    return Network(module, variables), description


def folder_of(config: ml_collections.ConfigDict, run: pathlib.Path, configuration: Configuration) -> pathlib.Path:
    """Returns where a run keeps the teacher of a configuration."""
    owner = "" if teacher_is_shared(config) else configuration.name
    return run / "checkpoints" / owner / "teacher"


def store_of(config: ml_collections.ConfigDict, run: pathlib.Path) -> pathlib.Path:
    """Returns the folder of pre-trained teachers, which runs share."""
    store = config.teacher.store
    return pathlib.Path(store).expanduser() if store else run.absolute().parent / "teachers"


def is_trained(config: ml_collections.ConfigDict, lesson: Lesson, run: pathlib.Path) -> bool:
    """Returns whether the store has the teacher that a lesson makes."""
    task = build_task(config.teacher.task, config.pretrain, len(lesson.dataset.samples.classes))
    key = store.key_of(store.identify(config, task, lesson))
    return checkpoint.exists(store_of(config, run) / key)


def _pretrained(
    config: ml_collections.ConfigDict,
    lesson: Lesson,
    store: pathlib.Path,
    like: Variables,
    devices: DeviceGroup,
    log: MetricLog,
    *,
    owner: str,
) -> tuple[Variables, dict[str, Any]]:
    """Returns the parts of a network that a task trained, from the store where they are there already."""
    task = build_task(config.teacher.task, config.pretrain, len(lesson.dataset.samples.classes))
    parts = ("trunk", "head") if task.keeps_head else ("trunk",)
    like = {kind: {part: tree[part] for part in parts if part in tree} for kind, tree in like.items()}
    identity = store.identify(config, task, lesson)
    key = store.key_of(identity)
    with store.reserved(store, key) as folder:
        if (recovered := checkpoint.recover(folder, like)) is not None:
            console.say(f"  teacher {key}: trained before, read from {store}")
            return recovered
        training = prepare_pretraining(
            task,
            lesson.dataset,
            lesson.dataset.images_of(lesson.train),
            config,
            trunk=_load_trunk(config, like) if config.pretrain.from_weights else None,
            seed_name=key,
            stage=f"pretrain {owner}".strip(),
            devices=devices,
        )
        network = Network(module_of(task, lesson.dataset, config), train(training, log).variables)
        description = {"key": key, **_examine(config, lesson, task, network, devices)}
        kept = {kind: {part: network.variables[kind][part] for part in tree} for kind, tree in like.items()}
        checkpoint.save(folder, kept, description, made_from=identity)
    return kept, description


def _examine(
    config: ml_collections.ConfigDict, lesson: Lesson, task: AuxiliaryTask, network: Network, devices: DeviceGroup
) -> dict[str, Any]:
    """Returns how well a network masters its task on images that it has not seen."""
    description = {"num_train_samples": len(lesson.train), "num_held_out_samples": len(lesson.held_out)}
    held_out = lesson.dataset.images_of(lesson.held_out)
    if task.held_out_metric is not None:
        value = held_out_metric(network, task, lesson.dataset, held_out, config.evaluate.batch_size, devices)
        shown = f"{100 * value:.2f}%" if task.held_out_metric == "accuracy" else f"{value:.4g}"
        console.say(f"  held-out {task.held_out_metric} of the teacher at its own task: {shown}".replace("_", " "))
        description[f"held_out_{task.held_out_metric}"] = value
    if task.reconstructs:
        sheet = reconstructions(network, task, lesson.dataset, held_out[:_NUM_RECONSTRUCTIONS])
        description["reconstructions"] = data_uri(sheet)
    if config.teacher.task == "baseline" and len(lesson.dataset.samples.classes) == 2:
        auroc = held_out_auroc(network, lesson.dataset, held_out, config.evaluate.batch_size, devices)
        console.say(f"  held-out AUROC of the supervised teacher's own classifier: {100 * auroc:.2f}")
        description["held_out_auroc"] = auroc
    return description


def _published(
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    configuration: Configuration,
    module: Representation,
    variables: Variables,
    devices: DeviceGroup,
) -> tuple[Variables, dict[str, Any]]:
    """Puts published weights into the trunk; for smoke runs, where there are none, a random draw."""
    if config.data.stand_in and not config.teacher.weights:
        console.say("SYNTHETIC WEIGHTS: drawn at random in place of the published ones, which smoke runs do without")
        train_images = dataset.images_of(configuration.train)
        variables = measure_batch_norm(module, variables, images, train_images, config, devices)
        return variables, {"synthetic_weights": True}
    return replace_trunk(variables, _load_trunk(config, variables)), {}


def _load_trunk(config: ml_collections.ConfigDict, like: Variables) -> Variables:
    return load_trunk(config.teacher.weights, config.teacher.weights_sha256, trunk_of(like))


def check_weights(config: ml_collections.ConfigDict) -> None:
    """Raises UserError where the file of published weights is not there or does not fit the network."""
    module = ARCHITECTURES[config.network.name].with_output(0)
    shape = (config.data.image_size_pixels, config.data.image_size_pixels, 3)
    _load_trunk(config, jax.eval_shape(lambda: init_variables(module, 0, shape)))


def check_another_run(config: ml_collections.ConfigDict) -> None:
    """Raises UserError where `teacher.from_run` is no finished run, is damaged, or has another teacher.

    A teacher of the anomaly-detection data must come from the same split of them: it has learned from what trained
    there, which must not be tested on here. See `check_same_images`, too.
    """
    run, field = _another_run(config)
    if not workdir.is_finished(run):
        raise UserError(f"{field} is not the folder of a finished run")
    of_the_teacher = ("config.json", "splits.json", "results.json", "manifest.json")
    damage = {
        name: what
        for name, what in workdir.damage(run).items()
        if name in of_the_teacher or (name.startswith("checkpoints/") and "/teacher/" in name)
    }
    if damage:
        raise UserError(
            f"{field} has changed since it was finished: {workdir.describe_damage(damage)}; restore these files from a "
            "copy, or run that run's own command again, which makes them anew"
        )
    if workdir.is_unverified(run):
        console.warn(f"{run} is unverified: a version that kept no digests of its files wrote it")
    theirs, ours = files.read_json(run / "config.json"), flatten(config)
    names = ["teacher.task", "teacher.data", "network.name", "network.output_features", "data.image_size_pixels"]
    names += [name for name in ours if name.startswith("data.patches.")]
    if config.teacher.data == config.data.name:
        names += ["seed", "data.train_fraction", "data.calibration_fraction", "data.baseline_fraction"]
        names += [name for name in ours if name.startswith("data.parcels.")]
    for name in names:
        if theirs.get(name) != ours[name]:
            raise UserError(f"{field} has {name}={theirs.get(name)!r}, not {ours[name]!r}: set --config.{name}")


def check_same_images(config: ml_collections.ConfigDict, dataset: Dataset) -> None:
    """Raises UserError where the teacher of `teacher.from_run` learned from another state of the data tested here."""
    run, field = _another_run(config)
    if not config.teacher.from_run or config.teacher.data != config.data.name:
        return
    if files.read_json(run / "splits.json")["images"] != dataset.identity():
        raise UserError(
            f"{field} is on other images than --config.data.path or .dir has: its teacher may have learned from what "
            "is tested here; name the same images, or train a teacher here"
        )


def _another_run(config: ml_collections.ConfigDict) -> tuple[pathlib.Path, str]:
    """Returns the folder that `teacher.from_run` names, and how messages call it."""
    run = pathlib.Path(config.teacher.from_run).expanduser()
    return run, f"--config.teacher.from_run={run}"


def _of_another_run(
    config: ml_collections.ConfigDict, configuration: Configuration, like: Variables
) -> tuple[Variables, dict[str, Any]]:
    """Reads the teacher of a finished run, see `check_another_run`; what was synthetic there is so here."""
    run, field = _another_run(config)
    folders = [run / "checkpoints" / owner / "teacher" for owner in (configuration.name, "")]
    folder = next((each for each in folders if checkpoint.exists(each)), None)
    if folder is None:
        raise UserError(f"{field} has no teacher for {configuration.name}: {folders[0]} is not there")
    try:
        variables, description = checkpoint.restore(folder, like)
    except DamagedError as error:
        raise UserError(
            f"{field}: its teacher {error.path} is damaged ({error.reason}); restore it from a copy, or run that run's "
            "own command again, which makes it anew"
        ) from error
    if files.read_json(run / "results.json").get("synthetic_data"):
        description["synthetic_data"] = True
    return variables, {**description, "from_run": str(run)}


def measure_batch_norm(
    module: Representation,
    variables: Variables,
    dataset: Dataset,
    indices: np.ndarray,
    config: ml_collections.ConfigDict,
    devices: DeviceGroup,
) -> Variables:
    """Replaces the running averages of batch norm by those measured on the given images, one pass of full batches.

    The statistics of `teacher.batch_norm_batch_size` images at a time are averaged; the last batch is filled up
    from a second permutation of the images.
    A drawn network keeps averages 0 and 1 otherwise, with which its output hardly varies between images.
    """
    reporting = module.clone(trunk=module.trunk.clone(batch_norm_momentum=0.0))
    batch_size = config.teacher.batch_norm_batch_size
    num_batches = math.ceil(len(indices) / batch_size)
    seed = derive_seed(config.seed, "teacher", "batch norm order")
    state = devices.replicate(BatchNormState(num_batches=np.int32(0), **variables))
    step = devices.train_step(batch_norm_step, reporting)
    with console.track("batch norm of the random teacher", num_batches * batch_size) as progress:
        batches = training_batches(images, indices, batch_size, seed)
        for _, batch in zip(range(num_batches), batches, strict=False):
            state, _ = step(state, {"image": batch["image"]})
            progress.update(batch_size)
        jax.block_until_ready(state)
    return {"params": state.params, "batch_stats": state.batch_stats}
