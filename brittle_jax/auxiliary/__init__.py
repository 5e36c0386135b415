"""Auxiliary tasks that teachers are pre-trained on (Sec. A.1), one module each.

A task says what a batch becomes, how many outputs it needs, and what its loss and accuracy are: see
`auxiliary.task.AuxiliaryTask`. A new task is one new module and one line in `build_task`.
"""

import ml_collections

from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.auxiliary.classification import Classification
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.auxiliary.task import AuxiliaryTask


def build_task(name: str, pretrain: ml_collections.ConfigDict, num_classes: int) -> AuxiliaryTask:
    """Returns the task that a teacher called `name` learns, on a data set with so many classes."""
    augmentation = Augmentation(pretrain.crop_padding_pixels, pretrain.flip, pretrain.cutout_pixels)
    if name == "rotnet":
        return RotNet(augmentation)
    return Classification(num_classes, augmentation)  # the supervised baseline is a classification too
