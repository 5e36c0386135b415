"""Auxiliary tasks that teachers are pre-trained on (Sec. A.1), one module each.

A task says what a batch becomes, what network it needs, and what its loss is: see `auxiliary.task.AuxiliaryTask`.
A new task is one new module, one line in `TASKS`, and its name in `config.AUXILIARY_TASKS`.
"""

from collections.abc import Callable

import ml_collections

from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.auxiliary.autoencoder import Reconstruction
from brittle_jax.auxiliary.classification import Classification
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.auxiliary.simclr import SimCLR
from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.config import TEACHERS, nearest
from brittle_jax.errors import UserError

# Each is made from `config.pretrain` and the number of classes of its data set.
TASKS: dict[str, Callable[[ml_collections.ConfigDict, int], AuxiliaryTask]] = {
    "classification": lambda pretrain, num_classes: Classification(num_classes, _augmentation(pretrain)),
    # Of the anomaly-detection data, anomalous classes included (Sec. 3.3).
    "baseline": lambda pretrain, num_classes: Classification(num_classes, _augmentation(pretrain)),
    "rotnet": lambda pretrain, num_classes: RotNet(_augmentation(pretrain)),
    "autoencoder": lambda pretrain, num_classes: Reconstruction(noise_deviation=0.0),
    "denoising": lambda pretrain, num_classes: Reconstruction(pretrain.noise_deviation),
    "simclr": lambda pretrain, num_classes: SimCLR(pretrain.temperature, pretrain.colour_strength),
}


def check_teacher(name: str) -> None:
    """Raises UserError where there is no teacher of that name."""
    if name not in TEACHERS:
        hint = nearest(name, list(TEACHERS))
        raise UserError(f"--config.teacher.task={name!r} is not one of {', '.join(map(repr, TEACHERS))}{hint}")


def build_task(name: str, pretrain: ml_collections.ConfigDict, num_classes: int) -> AuxiliaryTask:
    """Returns the task that a teacher called `name` learns, on a data set with so many classes."""
    return TASKS[name](pretrain, num_classes)


def _augmentation(pretrain: ml_collections.ConfigDict) -> Augmentation:
    return Augmentation(pretrain.crop_padding_pixels, pretrain.flip, pretrain.cutout_pixels)
