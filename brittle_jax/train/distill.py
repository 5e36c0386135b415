"""Distillation: a student that learns the teacher's outputs on normal images, and on nothing else (Sec. 3.2)."""

import math

import ml_collections
import numpy as np

from brittle_jax.data.image_set import ImageSet
from brittle_jax.evaluate.passes import Representations
from brittle_jax.models.network import Representation, computing_in, init_variables
from brittle_jax.parallel import DeviceGroup
from brittle_jax.seeding import derive_seed
from brittle_jax.train.feed import build_feed
from brittle_jax.train.loop import Training
from brittle_jax.train.optimizers import adam
from brittle_jax.train.steps import create_state, distill_step


def num_updates(num_images: int, distill: ml_collections.ConfigDict) -> int:
    """Returns how many updates a student gets: `update_steps`, or its epochs, of whole batches each."""
    steps_per_epoch = math.ceil(num_images / distill.batch_size)
    return distill.update_steps or max(round(distill.num_epochs * steps_per_epoch), 1)


def prepare_distillation(
    module: Representation,
    images: ImageSet,
    indices: np.ndarray,
    representations: Representations,
    config: ml_collections.ConfigDict,
    *,
    name: str,
    devices: DeviceGroup,
) -> Training:
    """Returns the training of a student from its own random draw, without augmentation (Sec. 3.2).

    Args:
        module: architecture of student and teacher alike.
        indices: [M], the images to learn from.
        representations: the teacher's outputs for them.
        name: of the configuration; the student's random draws are keyed by it.
    """
    optimizer = adam(config.distill.learning_rate)
    variables = init_variables(module, derive_seed(config.seed, "student", name, "weights"), images.image_shape)
    feed = build_feed(
        distill_step,
        (computing_in(module, config.network.training_dtype), optimizer.tx),
        images,
        indices,
        batch_size=config.distill.batch_size,
        seed=derive_seed(config.seed, "student", name, "order"),
        devices=devices,
        targets=representations.outputs_of,
    )
    return Training(
        stage=f"distill {name}",
        feed=feed,
        # Nothing is augmented, so nothing is drawn.
        state=devices.replicate(create_state(variables, optimizer, seed=0)),
        num_steps=num_updates(len(indices), config.distill),
        rate_field="distill.learning_rate",
    )
