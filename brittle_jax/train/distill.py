"""Distillation: a student that learns the teacher's outputs on normal images, and on nothing else (Sec. 3.2)."""

import functools
import math
from collections.abc import Iterator

import ml_collections
import numpy as np
import optax

from brittle_jax.data.image_set import ImageSet
from brittle_jax.data.pipeline import training_batches
from brittle_jax.evaluate.passes import Representations
from brittle_jax.models.network import Network, Representation, init_variables
from brittle_jax.parallel import Batch, DeviceGroup
from brittle_jax.seeding import derive_seed
from brittle_jax.train.loop import MetricLog, train
from brittle_jax.train.steps import create_state, distill_step


def num_updates(num_images: int, distill: ml_collections.ConfigDict) -> int:
    """Returns how many updates a student gets: `update_steps`, or its epochs, of whole batches each."""
    steps_per_epoch = math.ceil(num_images / distill.batch_size)
    return distill.update_steps or max(round(distill.num_epochs * steps_per_epoch), 1)


def distill_student(
    module: Representation,
    images: ImageSet,
    indices: np.ndarray,
    representations: Representations,
    config: ml_collections.ConfigDict,
    *,
    name: str,
    devices: DeviceGroup,
    log: MetricLog,
) -> Network:
    """Trains a student from its own random draw, without augmentation (Sec. 3.2).

    Args:
        module: architecture of student and teacher alike.
        indices: [M], the images to learn from.
        representations: the teacher's outputs for them.
        name: of the configuration; the student's random draws are keyed by it.
    """
    tx = _adam(config.distill.learning_rate)
    variables = init_variables(module, derive_seed(config.seed, "student", name, "weights"), images.image_shape)
    state = devices.replicate(create_state(variables, tx, seed=0))  # nothing is augmented, so nothing is drawn
    order_seed = derive_seed(config.seed, "student", name, "order")
    batches = training_batches(images, indices, config.distill.batch_size, order_seed)
    state = train(
        devices.train_step(distill_step, module, tx),
        state,
        _with_targets(batches, representations, indices),
        num_steps=num_updates(len(indices), config.distill),
        stage=f"distill {name}",
        rate_field="distill.learning_rate",
        log=log,
    )
    return Network(module, state.variables)


@functools.cache
def _adam(learning_rate: float) -> optax.GradientTransformation:
    # Cached: equal optimisers must be the same object for the compiled step to be found again.
    return optax.adam(learning_rate)


def _with_targets(batches: Iterator[Batch], representations: Representations, indices: np.ndarray) -> Iterator[Batch]:
    for batch in batches:
        yield {"image": batch["image"], "target": representations.outputs_of(indices[batch["position"]])}
