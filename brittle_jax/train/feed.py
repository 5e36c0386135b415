"""How images reach a training step: streamed from the host, or from the devices' own memory."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from brittle_jax import console
from brittle_jax.data.images import Images
from brittle_jax.data.pipeline import Reader, evaluation_reader, training_order, training_reader
from brittle_jax.devices import DeviceGroup
from brittle_jax.loop import Feed

MOST_BYTES_ON_DEVICE = 2**30  # of images
_MOST_UPDATES_AT_ONCE = 256
_READ_AT_ONCE = 64  # images

Targets = Callable[[np.ndarray], np.ndarray]
"""Indices of images [M] to what is learned of them, [M, ...]."""


def build_feed(
    step: Callable,
    static: tuple[Any, ...],
    images: Images,
    indices: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    devices: DeviceGroup,
    labels: np.ndarray | None = None,
    targets: Targets | None = None,
    most_bytes_on_device: int = MOST_BYTES_ON_DEVICE,
) -> Feed:
    """Returns the feed of a training: from the devices' memory where they keep images and these are few enough.

    Both kinds of feed make the same updates, up to rounding.

    Args:
        step: `step(*static, state, batch) -> (state, metrics)` for one device; its batches are those of
            `training_reader`, with `target` [N, ...] if there are targets.
        indices: [M], the images to train on.
        batch_size: N, over all devices.
        seed: of the order.
        labels: [M], of these images.
        targets: what is learned, if not the labels.
        most_bytes_on_device: that images may take there.
    """
    most = most_bytes_on_device // math.prod(images.shape)
    if devices.keeps_examples and len(indices) <= most:
        # As many rows as the whole set has images: the number is compiled in, and all configurations then share a
        # program.
        examples = _examples(images, indices, labels, targets, min(len(images), most))
        return _FromDevices(step, static, examples, training_order(len(indices), batch_size, seed), devices)
    reader = training_reader(images, indices, batch_size, seed, labels)
    return _Streamed(devices.train_step(step, *static), reader, indices, targets)


class _Streamed:
    most_at_once = 1

    def __init__(self, step: Callable, reader: Reader, indices: np.ndarray, targets: Targets | None):
        self._step, self._reader, self._indices, self._targets = step, reader, indices, targets

    def __call__(self, state: Any, first: int, count: int) -> tuple[Any, dict[str, jax.Array]]:
        del count  # always 1
        batch = self._reader(first)
        if self._targets is not None:
            batch = {**batch, "target": self._targets(self._indices[batch["position"]])}
        return self._step(state, batch)


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

    def __call__(self, state: Any, first: int, count: int) -> tuple[Any, dict[str, jax.Array]]:
        positions, epochs = zip(*map(self._places, range(first, first + count)), strict=True)
        # Always padded to the same number of rows: another number would be compiled anew.
        filling = ((0, self.most_at_once - count), (0, 0))
        rows = {
            name: np.pad(np.stack(values).astype(np.int32), filling)
            for name, values in (("position", positions), ("epoch", epochs))
        }
        return self._updates(state, self._examples, rows, count)


def _examples(
    images: Images, indices: np.ndarray, labels: np.ndarray | None, targets: Targets | None, num_rows: int
) -> dict[str, np.ndarray]:
    """Reads all images: `image` [R, H, W, 3] uint8, `label` [R], and `target` if there are targets.

    The first M of the R rows are filled, the others are zeros.
    """
    pictures = np.zeros((num_rows, *images.shape), np.uint8)
    reader = evaluation_reader(images, indices, _READ_AT_ONCE)
    with console.track("images onto the devices", len(indices)) as progress:
        for start in range(0, len(indices), _READ_AT_ONCE):
            batch = reader(start // _READ_AT_ONCE)
            count = int(batch["mask"].sum())
            pictures[start : start + count] = batch["image"][:count]
            progress.update(count)
    rows = {"label": np.zeros(len(indices), np.int32) if labels is None else labels.astype(np.int32)}
    if targets is not None:
        rows["target"] = targets(indices)
    filling = num_rows - len(indices)
    filled = {name: np.pad(row, ((0, filling), *((0, 0),) * (row.ndim - 1))) for name, row in rows.items()}
    return {"image": pictures, **filled}
