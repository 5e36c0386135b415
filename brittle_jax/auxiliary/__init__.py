"""Auxiliary tasks that teachers are pre-trained on (Sec. A.1), one module each.

A task says what a batch becomes, how many outputs it needs, and what its loss and accuracy are: see
`auxiliary.task.AuxiliaryTask`. A new task is one new module and one line in `TASKS`.
"""

from collections.abc import Callable

import ml_collections

from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.auxiliary.classification import Classification
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.auxiliary.task import AuxiliaryTask

# Each is made from the number of classes of its data set, and the augmentation.
TASKS: dict[str, Callable[[int, Augmentation], AuxiliaryTask]] = {
    "classification": Classification,
    "baseline": Classification,  # of the anomaly-detection data, anomalous classes included (Sec. 3.3)
    "rotnet": lambda num_classes, augmentation: RotNet(augmentation),
}


def build_task(name: str, pretrain: ml_collections.ConfigDict, num_classes: int) -> AuxiliaryTask:
    """Returns the task that a teacher called `name` learns, on a data set with so many classes."""
    augmentation = Augmentation(pretrain.crop_padding_pixels, pretrain.flip, pretrain.cutout_pixels)
    return TASKS[name](num_classes, augmentation)
