"""Teachers: drawn at random, or pre-trained; then frozen, with the head that is distilled (Sec. 3.2)."""

import math
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from brittle_jax import checkpoint, console
from brittle_jax.auxiliary import build_task
from brittle_jax.data.image_set import ImageSet
from brittle_jax.data.one_class import Configuration, Lesson, plan_lesson, teacher_is_shared
from brittle_jax.data.pipeline import training_batches
from brittle_jax.models.network import ARCHITECTURES, Network, Representation, init_variables
from brittle_jax.parallel import DeviceGroup
from brittle_jax.seeding import derive_seed
from brittle_jax.train.loop import MetricLog
from brittle_jax.train.pretrain import held_out_auroc, held_out_metric, pretrain_teacher
from brittle_jax.train.steps import BatchNormState, batch_norm_step


def obtain_teacher(
    config: ml_collections.ConfigDict,
    images: ImageSet,
    auxiliary: ImageSet | None,
    configuration: Configuration,
    folder: pathlib.Path,
    *,
    devices: DeviceGroup,
    log: MetricLog,
) -> tuple[Network, dict[str, Any]]:
    """Returns a frozen teacher, and what is known about it; from `folder` where it is finished already.

    Args:
        auxiliary: data set of the auxiliary task; None for a random teacher.
        folder: where the teacher is kept.
    """
    name = "" if teacher_is_shared(config) else configuration.name
    module = ARCHITECTURES[config.network.name].with_output(config.network.output_features)
    # The head's draw, and the whole of a random teacher, is never the student's: the purposes differ.
    variables = init_variables(module, derive_seed(config.seed, "teacher", "weights"), images.image_shape)
    if checkpoint.exists(folder):
        console.say("  teacher: finished before, read back")
        variables, description = checkpoint.restore(folder, variables)
        return Network(module, variables), description
    if config.teacher.task == "random":
        description = {}
        if config.teacher.random_batch_norm == "normal_images":
            train_images = images.images_of(configuration.train)
            variables = measure_batch_norm(module, variables, images, train_images, config, devices)
    else:
        lesson = plan_lesson(config, auxiliary, configuration)
        trained, description = _pretrain(config, lesson, name, devices, log)
        variables = {key: {**variables[key], **trained[key]} for key in variables}
    checkpoint.save(folder, variables, description)
    return Network(module, variables), description


def _pretrain(
    config: ml_collections.ConfigDict, lesson: Lesson, name: str, devices: DeviceGroup, log: MetricLog
) -> tuple[dict[str, Any], dict[str, Any]]:
    task = build_task(config.teacher.task, config.pretrain, len(lesson.images.classes))
    module = task.build_module(
        ARCHITECTURES[config.network.name], config.network.output_features, lesson.images.image_shape
    )
    train = lesson.images.images_of(lesson.train)
    held_out = lesson.images.images_of(lesson.held_out)
    network = pretrain_teacher(module, task, lesson.images, train, config, name=name, devices=devices, log=log)
    description = {"num_train_samples": len(lesson.train), "num_held_out_samples": len(lesson.held_out)}
    if task.held_out_metric is not None:
        value = held_out_metric(network, task, lesson.images, held_out, config.evaluate.batch_size, devices)
        shown = f"{100 * value:.2f}%" if task.held_out_metric == "accuracy" else f"{value:.4g}"
        console.say(f"  held-out {task.held_out_metric} of the teacher at its own task: {shown}".replace("_", " "))
        description[f"held_out_{task.held_out_metric}"] = value
    if config.teacher.task == "baseline" and len(lesson.images.classes) == 2:
        auroc = held_out_auroc(network, lesson.images, held_out, config.evaluate.batch_size, devices)
        console.say(f"  held-out AUROC of the supervised teacher's own classifier: {100 * auroc:.2f}")
        description["held_out_auroc"] = auroc
    parts = ("trunk", "head") if task.keeps_head else ("trunk",)
    kept = {key: {part: tree[part] for part in parts if part in tree} for key, tree in network.variables.items()}
    return kept, description


def measure_batch_norm(
    module: Representation,
    variables: dict[str, Any],
    images: ImageSet,
    indices: np.ndarray,
    config: ml_collections.ConfigDict,
    devices: DeviceGroup,
) -> dict[str, Any]:
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
