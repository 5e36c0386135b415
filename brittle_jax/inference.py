"""Passes of networks over images: batches in, rows out. A teacher's representations are computed once and kept."""

import functools
import hashlib
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from brittle_jax.data.images import Images
from brittle_jax.data.pipeline import evaluation_reader
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.devices import DeviceGroup, gather
from brittle_jax.errors import DegenerateDataError
from brittle_jax.loop import Loop, Work
from brittle_jax.models.network import Network, digest_of
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
    targets: "Representations | None" = None,
    compiles_itself: bool = False,
) -> None:
    """Applies a function to images, batch by batch.

    Args:
        indices: [M], the images that count, in this order.
        function: `function(*static, model, batch) -> rows`, one row per image; batches are those of
            `evaluation_reader`, with `target` if there are targets.
        kind: what the pass computes; shown meanwhile.
        take: called with a slice of the M and the rows of a batch on the host: those of the slice, then fillings.
        labels: [M], of these images.
        targets: whose rows are in the batch, too.
        compiles_itself: the function calls programs of its own, and every device does all of its work. Otherwise it is
            compiled here, and devices share each batch.
    """
    if not len(indices):
        return
    devices = loop.devices
    size = devices.fit_batch_size(loop.batch_size, len(indices), images.shape)
    evaluate = functools.partial(_on_every_device, devices, function, static)
    if not compiles_itself:
        evaluate = devices.evaluation(function, *static)
    feed = _PassFeed(evaluate, evaluation_reader(images, indices, size, labels), indices, targets)

    def take_rows(rows: Any, first: int, count: int) -> None:
        del count  # always 1
        take(slice(first * size, min((first + 1) * size, len(indices))), gather(rows))

    def depends_on() -> dict[str, Any]:
        return {
            "model": digest_of(model),
            "images": hashlib.sha256(np.ascontiguousarray(indices, np.int64)).hexdigest(),
            "targets": None if targets is None else targets.teacher_sha256,
            "batch": [size, devices.size],
        }

    loop.run(
        Work(
            kind=kind,
            feed=feed,
            state=devices.replicate(model),
            num_steps=math.ceil(len(indices) / size),
            num_units=len(indices),
            unit="image",
            take=take_rows,
            depends_on=depends_on,
            size_setting="evaluate.batch_size",
            batch_size=size,
        )
    )


def _on_every_device(
    devices: DeviceGroup, function: Callable[..., Any], static: tuple[Any, ...], model: Any, batch: Any
) -> Any:
    return jax.tree.map(lambda rows: rows[None], function(*static, model, devices.replicate(batch)))


class _PassFeed:
    """Evaluates one batch at a time; the state is the model, which stays as it is."""

    most_at_once = 1

    def __init__(self, evaluate, reader, indices, targets):
        self._evaluate, self._reader, self._indices, self._targets = evaluate, reader, indices, targets

    def __call__(self, model: Any, first: int, count: int) -> tuple[Any, Any]:
        del count  # always 1
        batch = self._reader(first)
        if self._targets is not None:
            batch = {**batch, "target": self._targets.outputs_of(self._indices[batch["position"]])}
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

    An output depends, by rounding, on the images that share its batch. So images belong to groups, and a group is
    always computed as a whole: what was asked for before makes no difference.

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
        groups: Sequence[np.ndarray] = (),
    ):
        """Computes nothing yet.

        Args:
            folder: of the temporary file; None: the system's.
            most_bytes_in_memory: beyond which there is a file.
            groups: indices of images, in the order in which a whole run asks for them; an image belongs to the first
                that has it. Others that are asked for become a group then.
        """
        self._teacher, self._images, self._loop = teacher, images, loop
        self.num_features = teacher.num_features(images.shape)
        self._rows = empty_rows(len(images), self.num_features, folder, most_bytes_in_memory)
        self._group_of_image = np.full(len(images), -1)
        self._is_computed: list[bool] = []
        for group in groups:
            self._add_group(group)

    @functools.cached_property
    def teacher_sha256(self) -> str:
        """The SHA-256 of the teacher's weights, in hexadecimal."""
        return digest_of(self._teacher.variables)

    def compute(self, indices: np.ndarray) -> Rows:
        """Passes images [M], and those of their groups, through the teacher if that was not done before.

        Returns:
            All rows [N, F], of which those are filled.

        Raises:
            DegenerateDataError: if an output is not finite.
            OSError: if the temporary file cannot be written or read.
        """
        self._add_group(indices)
        for group in np.unique(self._group_of_image[indices]).tolist():
            if not self._is_computed[group]:
                self._compute_group(np.flatnonzero(self._group_of_image == group))
                self._is_computed[group] = True
        return self._rows

    def outputs_of(self, indices: np.ndarray) -> np.ndarray:
        """Returns the outputs [M, F] float32 for images [M]; raises as `compute` does."""
        return self.compute(indices)[indices]

    def _add_group(self, indices: np.ndarray) -> None:
        new = indices[self._group_of_image[indices] < 0]
        if len(new):
            self._group_of_image[new] = len(self._is_computed)
            self._is_computed.append(False)

    def _compute_group(self, indices: np.ndarray) -> None:
        def take(chosen: slice, rows: np.ndarray) -> None:
            valid = rows[: chosen.stop - chosen.start]
            if not np.isfinite(valid).all():
                raise DegenerateDataError(
                    "the teacher's representations are not finite numbers: lower pretrain.peak_learning_rate"
                )
            self._rows[indices[chosen]] = valid

        pass_over(self._images, indices, outputs_of_batch, self._teacher, self._loop, "teacher's representations", take)
