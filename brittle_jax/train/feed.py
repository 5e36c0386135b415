"""How the images come to a training step: read ahead and handed over, or from the devices' own memory."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from brittle_jax import console
from brittle_jax.data.image_set import ImageSet
from brittle_jax.data.pipeline import evaluation_batches, training_batches, training_order
from brittle_jax.parallel import Batch, DeviceGroup

_MOST_BYTES_ON_DEVICE = 2**30  # of images
_MOST_UPDATES_AT_ONCE = 256
_READ_AT_ONCE = 64  # images


class Feed(Protocol):
    """Makes updates on batches in the order that `training_order` has, and goes on where it stopped.

    Attributes:
        most_at_once: how many updates a call makes at most.
    """

    most_at_once: int

    def __call__(self, state: Any, count: int) -> tuple[Any, dict[str, jax.Array]]:
        """Makes `count` updates of a state, whose memory they take over.

        Returns:
            The new state, and metrics, of which the first `count` are of these updates; neither need be there yet.
        """


def build_feed(
    step: Callable,
    static: tuple[Any, ...],
    images: ImageSet,
    indices: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    devices: DeviceGroup,
    targets: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Feed:
    """Returns the feed for a training step: from the devices where they keep images, and these are small enough.

    Both ways make the same updates, up to rounding.

    Args:
        step: `step(*static, state, batch) -> (state, metrics)`, of one device; batches have what `training_batches`
            has, and `target`.
        indices: [M], the images to train on.
        batch_size: N, over all devices.
        seed: of the order.
        targets: indices of images to what is to be learned of them, if that is not their labels.
    """
    most = _MOST_BYTES_ON_DEVICE // math.prod(images.image_shape)
    if devices.keeps_examples and len(indices) <= most:
        # As many rows as the whole set has images: a program is compiled for a number of rows, and so all
        # configurations share it.
        examples = _examples(images, indices, targets, min(len(images.sample_of_image), most))
        return _FromDevices(step, static, examples, training_order(len(indices), batch_size, seed), devices)
    batches = training_batches(images, indices, batch_size, seed)
    if targets is not None:
        batches = _with_targets(batches, indices, targets)
    return _Streamed(devices.train_step(step, *static), batches)


def _with_targets(
    batches: Iterator[Batch], indices: np.ndarray, targets: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Batch]:
    for batch in batches:
        yield {**batch, "target": targets(indices[batch["position"]])}


def _examples(
    images: ImageSet, indices: np.ndarray, targets: Callable[[np.ndarray], np.ndarray] | None, num_rows: int
) -> dict[str, np.ndarray]:
    """Reads all images: `image` [R, H, W, 3] uint8, `label` [R], and `target` where there are targets.

    The first M of the rows are filled, those beyond are zeros.
    """
    pictures = np.zeros((num_rows, *images.image_shape), np.uint8)
    with console.track("images onto the devices", len(indices)) as progress:
        for batch in evaluation_batches(images, indices, _READ_AT_ONCE):
            positions = batch["position"][batch["mask"]]
            pictures[positions] = batch["image"][batch["mask"]]
            progress.update(len(positions))
    labels = images.labels[images.sample_of_image[indices]].astype(np.int32)
    rows = {"label": labels} | ({} if targets is None else {"target": targets(indices)})
    filling = num_rows - len(indices)
    filled = {name: np.pad(row, ((0, filling), *((0, 0),) * (row.ndim - 1))) for name, row in rows.items()}
    return {"image": pictures, **filled}


class _Streamed:
    most_at_once = 1

    def __init__(self, step: Callable, batches: Iterator[Batch]):
        self._step, self._batches = step, batches

    def __call__(self, state: Any, count: int) -> tuple[Any, dict[str, jax.Array]]:
        del count  # always 1
        return self._step(state, next(self._batches))


class _FromDevices:
    most_at_once = _MOST_UPDATES_AT_ONCE

    def __init__(
        self,
        step: Callable,
        static: tuple[Any, ...],
        examples: dict[str, np.ndarray],
        places: Callable[[int], tuple[np.ndarray, np.ndarray]],
        devices: DeviceGroup,
    ):
        self._updates = devices.train_steps(step, *static)
        self._examples = devices.replicate(examples)
        self._places = places
        self._done = 0

    def __call__(self, state: Any, count: int) -> tuple[Any, dict[str, jax.Array]]:
        positions, epochs = zip(*map(self._places, range(self._done, self._done + count)), strict=True)
        # Filled up to as many rows as ever: another number would be compiled anew.
        filling = ((0, self.most_at_once - count), (0, 0))
        rows = {
            name: np.pad(np.stack(values).astype(np.int32), filling)
            for name, values in (("position", positions), ("epoch", epochs))
        }
        self._done += count
        return self._updates(state, self._examples, rows, count)
