"""A teacher that learns nothing: its weights are drawn at random (Sec. 3.2)."""

import dataclasses
import math

import numpy as np

from brittle_jax.data.dataset import Dataset
from brittle_jax.data.images import Images
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.pipeline import Reader, training_reader
from brittle_jax.devices import DeviceGroup
from brittle_jax.loop import Loop, Work
from brittle_jax.models.network import Network, Variables, digest_of
from brittle_jax.seeding import derive_seed
from brittle_jax.teachers.kind import Description
from brittle_jax.train.steps import BatchNormState, batch_norm_step


@dataclasses.dataclass(frozen=True)
class Random:
    """See `Kind`.

    Attributes:
        seed: of the order in which images are measured.
        batch_norm: where its running averages come from: measured on the "normal_images", or "initial": 0 and 1.
        batch_norm_batch_size: images that are measured together, over all devices.
    """

    seed: int
    batch_norm: str
    batch_norm_batch_size: int
    dataset: str = ""
    keeps_head: bool = False
    learns_anomalies: bool = False

    @property
    def is_shared(self) -> bool:
        """Only if nothing is measured on normal images."""
        return self.batch_norm == "initial"

    @property
    def readings(self) -> dict[str, str]:
        """See `Kind`."""
        return {"random_batch_norm": self.batch_norm}

    def check(self, devices: DeviceGroup) -> None:
        """See `Kind`."""
        devices.check_batch_size(self.batch_norm_batch_size, "teacher.batch_norm_batch_size")

    def check_dataset(self, dataset: Dataset) -> None:
        """See `Kind`."""

    def obtain(
        self, drawn: Network, dataset: Dataset, lessons: Dataset | None, configuration: Configuration, loop: Loop
    ) -> tuple[Variables, Description]:
        """See `Kind`."""
        if self.batch_norm == "initial":
            return drawn.variables, {}
        indices = dataset.images_of(configuration.train)
        work = batch_norm_measurement(
            drawn, dataset.images, indices, batch_size=self.batch_norm_batch_size, seed=self.seed, devices=loop.devices
        )
        return loop.run(work).variables, {}


def batch_norm_measurement(
    network: Network, images: Images, indices: np.ndarray, *, batch_size: int, seed: int, devices: DeviceGroup
) -> Work:
    """Returns the work that replaces batch norm's running averages by those of images, in one pass of full batches.

    Statistics of a batch are averaged over the batches; a second permutation of the images fills up the last batch.
    With averages 0 and 1 the output of a drawn network hardly varies between images.

    Args:
        indices: [M], the images to measure.
        batch_size: over all devices.
        seed: of the order.
    """
    module = network.module
    reporting = module.clone(trunk=module.trunk.clone(batch_norm_momentum=0.0))
    num_batches = math.ceil(len(indices) / batch_size)
    reader = training_reader(images, indices, batch_size, derive_seed(seed, "teacher", "batch norm order"))
    return Work(
        kind="batch norm of the random teacher",
        feed=_BatchNormFeed(devices.train_step(batch_norm_step, reporting), reader),
        state=devices.replicate(BatchNormState(step=np.int32(0), **network.variables)),
        num_steps=num_batches,
        num_units=num_batches * batch_size,
        unit="image",
        depends_on=lambda: {"weights": digest_of(network.variables)},
        size_setting="teacher.batch_norm_batch_size",
    )


class _BatchNormFeed:
    most_at_once = 1

    def __init__(self, step, reader: Reader):
        self._step, self._reader = step, reader

    def __call__(self, state: BatchNormState, first: int, count: int) -> tuple[BatchNormState, dict]:
        del count  # always 1
        return self._step(state, {"image": self._reader(first)["image"]})
