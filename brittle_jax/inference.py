"""Passes of networks over images: batches in, rows out. A teacher's representations are computed once and kept."""

import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from brittle_jax.data.images import Images
from brittle_jax.data.pipeline import evaluation_reader
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.devices import gather
from brittle_jax.errors import DegenerateDataError
from brittle_jax.loop import Loop, Work
from brittle_jax.models.network import Network
from brittle_jax.rows import MOST_BYTES_IN_MEMORY, Rows, empty_rows


def pass_over(
    images: Images,
    indices: np.ndarray,
    function: Callable[..., Any],
    model: Any,
    loop: Loop,
    kind: str,
    take: Callable[[slice, Any], None],
    *,
    static: tuple[Any, ...] = (),
    labels: np.ndarray | None = None,
    targets: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """Applies a function to images, batch by batch.

    Args:
        indices: [M], the images that count, in this order.
        function: `function(*static, model, batch) -> rows`, one row per image; batches are those of
            `evaluation_reader`, with `target` if there are targets.
        kind: what the pass computes; shown meanwhile.
        take: called with a slice of the M and the rows of a batch on the host: those of the slice, then fillings.
        labels: [M], of these images.
        targets: indices of images to a further row of each in the batch.
    """
    if not len(indices):
        return
    devices = loop.devices
    size = devices.fit_batch_size(loop.batch_size, len(indices), images.shape)
    feed = _PassFeed(
        devices.evaluation(function, *static), evaluation_reader(images, indices, size, labels), indices, targets
    )

    def take_rows(rows: Any, first: int, count: int) -> None:
        del count  # always 1
        take(slice(first * size, min((first + 1) * size, len(indices))), gather(rows))

    loop.run(
        Work(
            kind=kind,
            feed=feed,
            state=devices.replicate(model),
            num_steps=math.ceil(len(indices) / size),
            num_units=len(indices),
            unit="image",
            take=take_rows,
            batch_size=size,
        )
    )


class _PassFeed:
    """Evaluates one batch at a time; the state is the model, which stays as it is."""

    most_at_once = 1

    def __init__(self, evaluate, reader, indices, targets):
        self._evaluate, self._reader, self._indices, self._targets = evaluate, reader, indices, targets

    def __call__(self, model: Any, first: int, count: int) -> tuple[Any, Any]:
        del count  # always 1
        batch = self._reader(first)
        if self._targets is not None:
            batch = {**batch, "target": self._targets(self._indices[batch["position"]])}
        return model, self._evaluate(model, batch)


def outputs(network: Network, images: Images, indices: np.ndarray, loop: Loop, kind: str) -> np.ndarray:
    """Returns the outputs [M, F] float32 of a network for images [M]; `kind` is as in `pass_over`."""
    rows = np.empty((len(indices), network.num_features(images.shape)), np.float32)

    def take(chosen: slice, batch_rows: np.ndarray) -> None:
        rows[chosen] = batch_rows[: chosen.stop - chosen.start]

    pass_over(images, indices, outputs_of_batch, network, loop, kind, take)
    return rows


def outputs_of_batch(network: Network, batch: dict[str, jax.Array]) -> jax.Array:
    """Returns a network's outputs [N, F] for a batch."""
    return network(to_unit_range(batch["image"]))


class Representations:
    """A teacher's outputs for images, each computed when it is first asked for, and kept.

    The teacher is frozen. So distillation, the detectors, brittleness along the student's path and all configurations
    that share the teacher take its outputs from here. They take 4 bytes per feature and image (half a kilobyte for 128
    features, nine for 2208): up to 128 MiB in memory, beyond that in a temporary file.

    Attributes:
        num_features: F.
    """

    def __init__(
        self,
        teacher: Network,
        images: Images,
        loop: Loop,
        folder: pathlib.Path | None = None,
        most_bytes_in_memory: int = MOST_BYTES_IN_MEMORY,
    ):
        """Computes nothing yet.

        Args:
            folder: of the temporary file; None: the system's.
            most_bytes_in_memory: beyond which there is a file.
        """
        self._teacher, self._images, self._loop = teacher, images, loop
        self.num_features = teacher.num_features(images.shape)
        self._rows = empty_rows(len(images), self.num_features, folder, most_bytes_in_memory)
        self._is_computed = np.zeros(len(images), bool)

    def compute(self, indices: np.ndarray) -> Rows:
        """Passes those of images [M] through the teacher that have not been before, and returns all rows [N, F].

        Only rows that have been asked for are filled.

        Raises:
            DegenerateDataError: if an output is not finite.
            OSError: if the temporary file cannot be written or read.
        """
        missing = np.unique(indices[~self._is_computed[indices]])

        def take(chosen: slice, rows: np.ndarray) -> None:
            valid = rows[: chosen.stop - chosen.start]
            if not np.isfinite(valid).all():
                raise DegenerateDataError(
                    "the teacher's representations are not finite numbers: lower pretrain.peak_learning_rate"
                )
            self._rows[missing[chosen]] = valid
            self._is_computed[missing[chosen]] = True

        if len(missing):
            pass_over(
                self._images, missing, outputs_of_batch, self._teacher, self._loop, "teacher's representations", take
            )
        return self._rows

    def outputs_of(self, indices: np.ndarray) -> np.ndarray:
        """Returns the outputs [M, F] float32 for images [M]; raises as `compute` does."""
        return self.compute(indices)[indices]
