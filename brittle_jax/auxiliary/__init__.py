"""Auxiliary tasks that teachers are pre-trained on (Sec. A.1), one module each.

A task says what a batch becomes, what network it needs, and what its loss is: see `auxiliary.task.AuxiliaryTask`.
A new task is one new module, one line in `TASKS`, and its name in `config.AUXILIARY_TASKS`.
"""

from collections.abc import Callable
from typing import Any

from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.auxiliary.autoencoder import Reconstruction
from brittle_jax.auxiliary.classification import Classification
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.auxiliary.simclr import SimCLR
from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.errors import UserError

# Each is made from a recipe (`teachers.pretraining.Recipe`) and the number of classes of its data set.
TASKS: dict[str, Callable[[Any, int], AuxiliaryTask]] = {
    "classification": lambda recipe, num_classes: Classification(num_classes, _augmentation(recipe)),
    "baseline": lambda recipe, num_classes: Classification(num_classes, _augmentation(recipe), learns_anomalies=True),
    "rotnet": lambda recipe, num_classes: RotNet(_augmentation(recipe)),
    "autoencoder": lambda recipe, num_classes: Reconstruction(noise_deviation=0.0),
    "denoising": lambda recipe, num_classes: Reconstruction(_noise_deviation(recipe)),
    "simclr": lambda recipe, num_classes: SimCLR(recipe.temperature, recipe.colour_strength),
}


def build_task(name: str, recipe: Any, num_classes: int) -> AuxiliaryTask:
    """Returns the task that a teacher called `name` learns, on a data set with so many classes.

    Raises:
        UserError: if the recipe does not suit the task.
    """
    task = TASKS[name](recipe, num_classes)
    if recipe.batch_size < task.least_batch_size:
        raise UserError(
            f"pretrain.batch_size={recipe.batch_size}: {name} tells images apart: give at least {task.least_batch_size}"
        )
    return task


def _augmentation(recipe: Any) -> Augmentation:
    return Augmentation(recipe.crop_padding_pixels, recipe.flip, recipe.cutout_pixels)


def _noise_deviation(recipe: Any) -> float:
    if not recipe.noise_deviation:
        raise UserError(
            "pretrain.noise_deviation=0.0: without noise this is an autoencoder: use teacher.task='autoencoder'"
        )
    return recipe.noise_deviation
