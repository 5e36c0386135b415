"""Pre-training of a teacher on its auxiliary task (Sec. A.1)."""

import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from brittle_jax import console
from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.pipeline import evaluation_batches
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.evaluate.metrics import separation
from brittle_jax.evaluate.samples import sample_scores
from brittle_jax.models.network import (
    ARCHITECTURES,
    Network,
    Representation,
    Variables,
    computing_in,
    init_variables,
    replace_trunk,
)
from brittle_jax.devices import DeviceGroup
from brittle_jax.seeding import derive_seed
from brittle_jax.train.feed import build_feed
from brittle_jax.loop import Training
from brittle_jax.train.optimizers import build_optimizer
from brittle_jax.train.steps import create_state, pretrain_step


def num_updates(num_images: int, task: AuxiliaryTask, settings: ml_collections.ConfigDict) -> int:
    """Returns how many updates a teacher gets: its epochs, of whole batches each."""
    return max(round(settings.num_epochs * _steps_per_epoch(num_images, task, settings)), 1)


def _steps_per_epoch(num_images: int, task: AuxiliaryTask, settings: ml_collections.ConfigDict) -> int:
    return math.ceil(num_images / (settings.batch_size // task.views_per_image))


def module_of(task: AuxiliaryTask, dataset: Dataset, config: ml_collections.ConfigDict) -> Representation:
    """Returns the network that learns the task."""
    architecture = ARCHITECTURES[config.network.name]
    return task.build_module(architecture, config.network.output_features, dataset.images.shape)


def prepare_pretraining(
    task: AuxiliaryTask,
    dataset: Dataset,
    indices: np.ndarray,
    config: ml_collections.ConfigDict,
    *,
    trunk: Variables | None,
    seed_name: str,
    stage: str,
    devices: DeviceGroup,
) -> Training:
    """Returns the training of a network for the task.

    Args:
        indices: [M], the images to learn from.
        trunk: `{"params": ..., "batch_stats": ...}` that the trunk starts from; None: a random draw.
        seed_name: what the random draws are keyed by.
        stage: what it is called in the log.
    """
    settings = config.pretrain
    num_steps = num_updates(len(indices), task, settings)
    optimizer = build_optimizer(settings, _steps_per_epoch(len(indices), task, settings), num_steps)
    weights_seed, order_seed, augmentation_seed = (
        derive_seed(config.seed, "pretrain", seed_name, purpose) for purpose in ("weights", "order", "augmentation")
    )
    module = module_of(task, images, config)
    variables = init_variables(module, weights_seed, dataset.images.shape)
    if trunk is not None:
        variables = replace_trunk(variables, trunk)
    feed = build_feed(
        pretrain_step,
        (computing_in(module, config.network.training_dtype), optimizer.tx, task),
        images,
        indices,
        batch_size=settings.batch_size // task.views_per_image,
        seed=order_seed,
        devices=devices,
    )
    return Training(
        stage=stage,
        feed=feed,
        state=devices.replicate(create_state(variables, optimizer, augmentation_seed)),
        num_steps=num_steps,
        rate_field="pretrain.peak_learning_rate",
    )


def held_out_metric(
    network: Network,
    task: AuxiliaryTask,
    dataset: Dataset,
    indices: np.ndarray,
    batch_size: int,
    devices: DeviceGroup,
) -> float:
    """Returns the mean of the task's `held_out_metric` over all inputs, without augmentation."""
    batch_size = devices.fit_batch_size(batch_size, len(indices), dataset.images.shape)
    batches = evaluation_batches(images, indices, batch_size)
    total = 0.0
    with console.track(f"held-out {task.held_out_metric}", len(indices)) as progress:
        for batch, values in devices.evaluation(_metric, task)(network, batches):
            values = values[batch["mask"]]
            total += values.mean(axis=1).sum(dtype=np.float64)
            progress.update(len(values))
    return float(total / len(indices))


def held_out_auroc(
    network: Network, dataset: Dataset, indices: np.ndarray, batch_size: int, devices: DeviceGroup
) -> float:
    """Returns how well a classifier of two classes tells the second from the first, a sample at a time.

    A sample's score is the largest of its images' log odds, as it is in anomaly detection.
    """
    batch_size = devices.fit_batch_size(batch_size, len(indices), dataset.images.shape)
    batches = evaluation_batches(images, indices, batch_size)
    rows = []
    with console.track("held-out AUROC", len(indices)) as progress:
        for batch, log_odds in devices.evaluation(_log_odds)(network, batches):
            rows.append(log_odds[batch["mask"]])
            progress.update(len(rows[-1]))
    held_out = np.unique(dataset.sample_of_image[indices])
    scores = sample_scores(images, indices, {"supervised": np.concatenate(rows)}, held_out)["supervised"]
    return separation(dataset.samples.labels[held_out], scores)["auroc"]


def reconstructions(network: Network, task: AuxiliaryTask, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Returns a sheet of what an autoencoder makes of a few images: originals, inputs (noisy, if so trained), outputs.

    Args:
        indices: [M], of the images.

    Returns:
        [3 * H, M * W, 3] uint8.
    """
    pictures = np.stack([dataset.images.read(int(index)) for index in indices])
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
