"""Pre-training of a teacher on its auxiliary task (Sec. A.1)."""

import functools
import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from brittle_jax import console
from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.data.image_set import ImageSet
from brittle_jax.data.pipeline import evaluation_batches, training_batches
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.evaluate.metrics import separation
from brittle_jax.evaluate.samples import sample_scores
from brittle_jax.models.network import ARCHITECTURES, Network, Variables, init_variables, replace_trunk
from brittle_jax.parallel import DeviceGroup
from brittle_jax.seeding import derive_seed
from brittle_jax.train.loop import MetricLog, train
from brittle_jax.train.steps import create_state, pretrain_step


def pretrain_teacher(
    task: AuxiliaryTask,
    images: ImageSet,
    indices: np.ndarray,
    config: ml_collections.ConfigDict,
    *,
    trunk: Variables | None,
    seed_name: str,
    stage: str,
    devices: DeviceGroup,
    log: MetricLog,
) -> Network:
    """Trains a network for the task.

    Args:
        indices: [M], the images to learn from.
        trunk: `{"params": ..., "batch_stats": ...}` that the trunk starts from; None: a random draw.
        seed_name: what the random draws are keyed by.
        stage: what it is called in the log.
    """
    settings = config.pretrain
    architecture = ARCHITECTURES[config.network.name]
    module = task.build_module(architecture, config.network.output_features, images.image_shape)
    images_per_batch = settings.batch_size // task.views_per_image
    steps_per_epoch = math.ceil(len(indices) / images_per_batch)
    num_steps = max(round(settings.num_epochs * steps_per_epoch), 1)
    tx = build_optimizer(settings, steps_per_epoch, num_steps)
    weights_seed, order_seed, augmentation_seed = (
        derive_seed(config.seed, "pretrain", seed_name, purpose) for purpose in ("weights", "order", "augmentation")
    )
    variables = init_variables(module, weights_seed, images.image_shape)
    if trunk is not None:
        variables = replace_trunk(variables, trunk)
    state = devices.replicate(create_state(variables, tx, augmentation_seed))
    state = train(
        devices.train_step(pretrain_step, module, tx, task),
        state,
        training_batches(images, indices, images_per_batch, order_seed),
        num_steps=num_steps,
        stage=stage,
        rate_field="pretrain.peak_learning_rate",
        log=log,
    )
    return Network(module, state.variables)


def build_optimizer(
    settings: ml_collections.ConfigDict, steps_per_epoch: int, num_steps: int
) -> optax.GradientTransformation:
    """Returns the optimiser that `config.pretrain` names, for a training of so many updates."""
    if settings.optimizer == "adam":
        return adam(settings.peak_learning_rate)
    peak_step = min(round(settings.warmup_epochs * steps_per_epoch), num_steps - 1)
    return sgd(settings.peak_learning_rate, peak_step, num_steps, settings.momentum, settings.weight_decay)


@functools.cache
def sgd(
    peak_learning_rate: float, peak_step: int, num_steps: int, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Returns SGD with Nesterov momentum, whose rate rises linearly from 0 and falls linearly to 0.

    The weight decay is added to the gradient, of every parameter, as in cifar10-fast.
    """
    # Cached: equal optimisers must be the same object for the compiled step to be found again.
    # The schedule counts from 0; the first update would be lost at a rate of exactly 0.
    schedule = optax.join_schedules(
        [
            optax.linear_schedule(peak_learning_rate / (peak_step + 1), peak_learning_rate, max(peak_step, 1)),
            optax.linear_schedule(peak_learning_rate, 0.0, max(num_steps - peak_step, 1)),
        ],
        [peak_step],
    )
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(schedule, momentum=momentum, nesterov=True))


@functools.cache
def adam(learning_rate: float) -> optax.GradientTransformation:
    """Returns Adam at a constant rate; equal rates give the same object, as in `sgd`."""
    return optax.adam(learning_rate)


def held_out_metric(
    network: Network,
    task: AuxiliaryTask,
    images: ImageSet,
    indices: np.ndarray,
    batch_size: int,
    devices: DeviceGroup,
) -> float:
    """Returns the mean of the task's `held_out_metric` over all inputs, without augmentation."""
    evaluate = devices.evaluation(_metric, task)
    total = 0.0
    with console.track(f"held-out {task.held_out_metric}", len(indices)) as progress:
        for batch in evaluation_batches(
            images, indices, devices.fit_batch_size(batch_size, len(indices), images.image_shape)
        ):
            values = np.asarray(evaluate(network, batch))[batch["mask"]]
            total += values.mean(axis=1).sum(dtype=np.float64)
            progress.update(len(values))
    return float(total / len(indices))


def held_out_auroc(
    network: Network, images: ImageSet, indices: np.ndarray, batch_size: int, devices: DeviceGroup
) -> float:
    """Returns how well a classifier of two classes tells the second from the first, a sample at a time.

    A sample's score is the largest of its images' log odds, as it is in anomaly detection.
    """
    log_odds = devices.evaluation(_log_odds)
    rows = []
    with console.track("held-out AUROC", len(indices)) as progress:
        for batch in evaluation_batches(
            images, indices, devices.fit_batch_size(batch_size, len(indices), images.image_shape)
        ):
            rows.append(np.asarray(log_odds(network, batch))[batch["mask"]])
            progress.update(len(rows[-1]))
    held_out = np.unique(images.sample_of_image[indices])
    scores = sample_scores(images, indices, {"supervised": np.concatenate(rows)}, held_out)["supervised"]
    return separation(images.labels[held_out], scores)["auroc"]


def reconstructions(network: Network, task: AuxiliaryTask, images: ImageSet, indices: np.ndarray) -> np.ndarray:
    """Returns a sheet of what an autoencoder makes of a few images: originals, inputs (noisy, if so trained), outputs.

    Args:
        indices: [M], of the images.

    Returns:
        [3 * H, M * W, 3] uint8.
    """
    pictures = np.stack([images.read_image(int(index)) for index in indices])
    keys = jax.random.split(jax.random.key(0), len(indices))
    inputs, targets = task.prepare(to_unit_range(pictures), jnp.zeros(len(indices), int), keys)
    rows = [np.concatenate(np.asarray(row), axis=1) for row in (targets, inputs, network(inputs))]
    return np.round(255 * np.concatenate(rows).clip(0, 1)).astype(np.uint8)


def _log_odds(network: Network, batch: dict[str, jax.Array]) -> jax.Array:
    outputs = network(to_unit_range(batch["image"]))
    return outputs[:, 1] - outputs[:, 0]


def _metric(task: AuxiliaryTask, network: Network, batch: dict[str, jax.Array]) -> jax.Array:
    inputs, targets = task.prepare(to_unit_range(batch["image"]), batch["label"], None)
    values = task.metrics(network(inputs), targets)[task.held_out_metric]
    return values.reshape(task.views_per_image, -1).T  # [N, views]
