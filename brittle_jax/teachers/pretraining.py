"""Pre-training of a teacher on its auxiliary task, and how well it then does (Sec. A.1)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.images import Images
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.devices import DeviceGroup
from brittle_jax.evaluate.metrics import separation
from brittle_jax.evaluate.samples import sample_scores
from brittle_jax.inference import pass_over
from brittle_jax.loop import Loop, Work
from brittle_jax.models.network import (
    Network,
    Representation,
    Variables,
    computing_in,
    init_variables,
    replace_trunk,
)
from brittle_jax.seeding import derive_seed
from brittle_jax.train.feed import build_feed
from brittle_jax.train.optimizers import Optimizer, adam, sgd
from brittle_jax.train.steps import create_state, pretrain_step


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a teacher is pre-trained; `brittle_jax.config` says what each field means (`config.pretrain`)."""

    num_epochs: float
    optimizer: str
    from_weights: bool
    warmup_epochs: float
    batch_size: int
    peak_learning_rate: float
    momentum: float
    weight_decay: float
    crop_padding_pixels: int
    flip: bool
    cutout_pixels: int
    noise_deviation: float
    temperature: float
    colour_strength: float
    max_train_samples: int
    max_test_samples: int

    def steps_per_epoch(self, num_images: int, task: AuxiliaryTask) -> int:
        """Returns how many batches an epoch has."""
        return math.ceil(num_images / (self.batch_size // task.views_per_image))

    def num_updates(self, num_images: int, task: AuxiliaryTask) -> int:
        """Returns how many updates a teacher gets: its epochs, of whole batches each."""
        return max(round(self.num_epochs * self.steps_per_epoch(num_images, task)), 1)

    def build_optimizer(self, num_images: int, task: AuxiliaryTask) -> Optimizer:
        """Returns the optimiser of the whole training."""
        if self.optimizer == "adam":
            return adam(self.peak_learning_rate)
        num_steps = self.num_updates(num_images, task)
        peak_step = min(round(self.warmup_epochs * self.steps_per_epoch(num_images, task)), num_steps - 1)
        return sgd(self.peak_learning_rate, peak_step, num_steps, self.momentum, self.weight_decay)


def pretraining(
    task: AuxiliaryTask,
    module: Representation,
    images: Images,
    indices: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    trunk: Variables | None,
    seed: int,
    seed_name: str,
    owner: str,
    training_dtype: str,
    devices: DeviceGroup,
) -> Work:
    """Returns the training of a network for a task.

    Args:
        module: as the task builds it.
        indices: [M], the images to learn from.
        labels: [M], of these images.
        trunk: `{"params": ..., "batch_stats": ...}` that the trunk starts from; None: a random draw.
        seed, seed_name: key the random draws.
        owner: whose teacher it is, for the log.
        training_dtype: of the trunk.
    """
    optimizer = recipe.build_optimizer(len(indices), task)
    weights_seed, order_seed, augmentation_seed = (
        derive_seed(seed, "pretrain", seed_name, purpose) for purpose in ("weights", "order", "augmentation")
    )
    variables = init_variables(module, weights_seed, images.shape)
    if trunk is not None:
        variables = replace_trunk(variables, trunk)
    state = create_state(variables, optimizer, augmentation_seed)
    feed = build_feed(
        pretrain_step,
        (computing_in(module, training_dtype), optimizer.tx, task),
        images,
        indices,
        batch_size=recipe.batch_size // task.views_per_image,
        seed=order_seed,
        devices=devices,
        labels=labels,
    )
    num_steps = recipe.num_updates(len(indices), task)
    return Work(
        kind="pretrain",
        owner=owner,
        feed=feed,
        state=devices.replicate(state),
        num_steps=num_steps,
        num_units=num_steps,
        depends_on=lambda: {"teacher": seed_name, "update_steps": num_steps},
        rate_setting="pretrain.peak_learning_rate",
        size_setting="pretrain.batch_size",
    )


def held_out_metric(
    network: Network, task: AuxiliaryTask, images: Images, indices: np.ndarray, labels: np.ndarray, loop: Loop
) -> float:
    """Returns the mean of the task's `held_out_metric` over all inputs, without augmentation."""
    total = 0.0

    def take(chosen: slice, values: np.ndarray) -> None:
        nonlocal total
        total += values[: chosen.stop - chosen.start].mean(axis=1).sum(dtype=np.float64)

    kind = f"held-out {task.held_out_metric}".replace("_", " ")
    pass_over(images, indices, _metric, network, loop, kind, take, static=(task,), labels=labels)
    return float(total / len(indices))


def held_out_auroc(network: Network, dataset: Dataset, indices: np.ndarray, loop: Loop) -> float:
    """Returns how well a classifier of two classes tells the second from the first, a sample at a time.

    A sample's score is the largest of its images' log odds, as in anomaly detection.
    """
    log_odds = np.empty(len(indices), np.float32)

    def take(chosen: slice, values: np.ndarray) -> None:
        log_odds[chosen] = values[: chosen.stop - chosen.start]

    pass_over(dataset.images, indices, _log_odds, network, loop, "held-out AUROC", take)
    held_out = np.unique(dataset.sample_of_image[indices])
    scores = sample_scores(dataset, indices, {"supervised": log_odds}, held_out)["supervised"]
    return separation(dataset.samples.labels[held_out], scores)["auroc"]


def reconstructions(network: Network, task: AuxiliaryTask, images: Images, indices: np.ndarray) -> np.ndarray:
    """Returns a sheet of what an autoencoder makes of a few images: originals, inputs (with the noise), outputs.

    Args:
        indices: [M], of the images.

    Returns:
        [3 * H, M * W, 3] uint8.
    """
    pictures = np.stack([images.read(int(index)) for index in indices])
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
