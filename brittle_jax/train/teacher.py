"""Teachers: drawn at random, or pre-trained; then frozen, with the head that is distilled (Sec. 3.2)."""

import dataclasses
import math
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from brittle_jax import checkpoint, console
from brittle_jax.auxiliary import build_task
from brittle_jax.data.image_set import ImageSet, limit
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.pipeline import training_batches
from brittle_jax.models.network import ARCHITECTURES, Network, Representation, init_variables
from brittle_jax.parallel import DeviceGroup
from brittle_jax.seeding import derive_seed
from brittle_jax.train.loop import MetricLog
from brittle_jax.train.pretrain import held_out_accuracy, pretrain_teacher
from brittle_jax.train.steps import TrainState, batch_norm_step


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a teacher is pre-trained on.

    Attributes:
        images: of the auxiliary data set.
        train: indices of the samples that it learns from.
        held_out: indices of the samples that its accuracy is measured on.
    """

    images: ImageSet
    train: np.ndarray
    held_out: np.ndarray


def is_shared(config: ml_collections.ConfigDict) -> bool:
    """Returns whether one teacher serves all configurations of a row.

    A teacher that depends on which images are normal does not: a self-supervised one trained on the
    anomaly-detection data, and a random one whose batch norm is measured on them.
    """
    if config.teacher.task == "random":
        return config.teacher.random_batch_norm == "initial"
    return config.teacher.task == "baseline" or config.teacher.data != config.data.name


def plan_lesson(config: ml_collections.ConfigDict, auxiliary: ImageSet, configuration: Configuration) -> Lesson:
    """Returns which samples a teacher learns from: of the anomaly-detection data, normal training samples alone.

    The exception is the supervised baseline, which sees all labelled training samples by definition (Sec. 3.3).
    """
    if is_shared(config):
        train = np.flatnonzero(auxiliary.official_split == "train")
        held_out = np.flatnonzero(auxiliary.official_split == "test")
    else:
        train = configuration.train
        held_out = configuration.test[configuration.test_labels == 0]
    rng = np.random.default_rng(derive_seed(config.seed, "lesson"))
    return Lesson(
        auxiliary,
        limit(train, config.pretrain.max_train_samples, rng),
        limit(held_out, config.pretrain.max_test_samples, rng),
    )


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
    name = "" if is_shared(config) else configuration.name
    module = ARCHITECTURES[config.network.name].with_output(config.network.output_features)
    # The head's draw, and the whole of a random teacher, is never the student's: the purposes differ.
    variables = init_variables(module, derive_seed(config.seed, "teacher"), images.image_shape)
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
        trunk, description = _pretrain(config, lesson, name, devices, log)
        variables = {key: {**variables[key], "trunk": trunk[key]["trunk"]} for key in variables}
    checkpoint.save(folder, variables, description)
    return Network(module, variables), description


def _pretrain(
    config: ml_collections.ConfigDict, lesson: Lesson, name: str, devices: DeviceGroup, log: MetricLog
) -> tuple[dict[str, Any], dict[str, Any]]:
    task = build_task(config.teacher.task, config.pretrain, len(lesson.images.classes))
    module = ARCHITECTURES[config.network.name].with_classifier(task.num_outputs)
    train = lesson.images.images_of(lesson.train)
    held_out = lesson.images.images_of(lesson.held_out)
    network = pretrain_teacher(module, task, lesson.images, train, config, name=name, devices=devices, log=log)
    accuracy = held_out_accuracy(network, task, lesson.images, held_out, config.evaluate.batch_size, devices)
    console.say(f"  held-out accuracy of the teacher at its own task: {100 * accuracy:.2f}%")
    description = {
        "num_train_samples": len(lesson.train),
        "num_held_out_samples": len(lesson.held_out),
        "held_out_accuracy": accuracy,
    }
    return dict(network.variables), description


def measure_batch_norm(
    module: Representation,
    variables: dict[str, Any],
    images: ImageSet,
    indices: np.ndarray,
    config: ml_collections.ConfigDict,
    devices: DeviceGroup,
) -> dict[str, Any]:
    """Replaces the running averages of batch norm by those measured on the given images, one pass of full batches.

    A drawn network keeps averages 0 and 1 otherwise, with which its output hardly varies between images.
    """
    reporting = module.clone(trunk=module.trunk.clone(batch_norm_momentum=0.0))
    batch_size = config.evaluate.batch_size
    num_batches = math.ceil(len(indices) / batch_size)
    seed = derive_seed(config.seed, "batch norm")
    state = TrainState(
        step=np.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=(),
        rng=np.zeros(2, np.uint32),
    )
    state = devices.replicate(state)
    step = devices.train_step(batch_norm_step, reporting)
    with console.track("batch norm of the random teacher", num_batches * batch_size) as progress:
        batches = training_batches(images, indices, batch_size, seed)
        for _, batch in zip(range(num_batches), batches, strict=False):
            state, _ = step(state, {"image": batch["image"]})
            progress.update(batch_size)
        jax.block_until_ready(state)
    return state.variables
