"""Passes of networks over image sets of any size: padded batches in, one row an image or a running total out."""

import collections
import pathlib
from collections.abc import Iterator

import jax
import numpy as np

from brittle_jax import console
from brittle_jax.data.image_set import ImageSet
from brittle_jax.data.pipeline import evaluation_batches
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.brittleness import BrittlenessTerms, empty_terms, update_terms
from brittle_jax.evaluate.detectors import Gaussian, scores_of_outputs
from brittle_jax.evaluate.moments import Moments, merge_device_moments, moments_of
from brittle_jax.evaluate.rows import empty_rows
from brittle_jax.models.network import Network
from brittle_jax.parallel import Batch, DeviceGroup


def outputs(
    network: Network, images: ImageSet, indices: np.ndarray, batch_size: int, devices: DeviceGroup, what: str
) -> np.ndarray:
    """Returns the outputs [M, F] float32 of a network for the images; `what` they are is shown meanwhile."""
    result, stop = np.empty((len(indices), network.num_features(images.image_shape)), np.float32), 0
    for _, is_there, rows in _output_batches(network, images, indices, batch_size, devices, what):
        start, stop = stop, stop + int(is_there.sum())
        result[start:stop] = rows[is_there]
    return result


def _output_batches(
    network: Network, images: ImageSet, indices: np.ndarray, batch_size: int, devices: DeviceGroup, what: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields indices of images [N], padded in the last batch, which of them are there [N], and outputs [N, F]."""
    batch_size = devices.fit_batch_size(batch_size, len(indices), images.image_shape)
    batches = evaluation_batches(images, indices, batch_size)
    with console.track(what, len(indices)) as progress:
        for batch, rows in devices.evaluation(_outputs)(devices.replicate(network), batches):
            yield indices[batch["position"]], batch["mask"], rows
            progress.update(int(batch["mask"].sum()))


class Representations:
    """A teacher's outputs for the images of a set, each computed when it is first asked for, and kept.

    The teacher is frozen, so all epochs of distillation, all detectors, brittleness (along the student's path), and
    all configurations that share the teacher take them from here. They take 4 bytes a feature and image (128 features
    half a kilobyte, 2208 nine): up to 128 MiB in memory, more in a temporary file. Whatever asks for outputs raises as
    `compute` does.

    Attributes:
        num_features: F.
    """

    def __init__(
        self,
        teacher: Network,
        images: ImageSet,
        batch_size: int,
        devices: DeviceGroup,
        folder: pathlib.Path | None = None,
    ):
        """The file, if there is one, is in `folder`; None: where temporary files are."""
        self._teacher, self._images, self._batch_size, self._devices = teacher, images, batch_size, devices
        self.num_features = teacher.num_features(images.image_shape)
        num_images = len(images.sample_of_image)
        self._rows = empty_rows(num_images, self.num_features, folder)
        self._is_there = np.zeros(num_images, bool)

    def compute(self, indices: np.ndarray) -> None:
        """Passes those of the images [M] through the teacher that have not been before.

        Raises:
            DegenerateDataError: where an output is not finite.
            OSError: where the temporary file cannot be written or read.
        """
        missing = np.unique(indices[~self._is_there[indices]])
        if not len(missing):
            return
        what = "teacher's representations"
        batches = _output_batches(self._teacher, self._images, missing, self._batch_size, self._devices, what)
        for chosen, is_there, rows in batches:
            chosen, rows = chosen[is_there], rows[is_there]
            if not np.isfinite(rows).all():
                raise DegenerateDataError(
                    "the teacher's representations are not finite numbers: lower --config.pretrain.peak_learning_rate"
                )
            self._rows[chosen] = rows
            self._is_there[chosen] = True

    def outputs_of(self, indices: np.ndarray) -> np.ndarray:
        """Returns the outputs [M, F] float32 for images [M]."""
        self.compute(indices)
        return self._rows[indices]

    def moments(self, indices: np.ndarray) -> Moments:
        """Returns mean and full scatter of the outputs for images [M]."""
        self.compute(indices)
        return moments_of(self._rows, indices)


def score(
    student: Network,
    representations: Representations,
    gaussian: Gaussian,
    images: ImageSet,
    indices: np.ndarray,
    batch_size: int,
    devices: DeviceGroup,
) -> dict[str, np.ndarray]:
    """Returns the scores [M] of all four detectors, by name; see `detectors.anomaly_scores`.

    The teacher is not asked again: its outputs are taken from `representations`. The student's come from the program
    that the teacher's came from: one program less to compile and hold in memory.

    Raises:
        DegenerateDataError: where a score is not finite.
    """
    scores, stop = collections.defaultdict(lambda: np.empty(len(indices), np.float32)), 0
    for seen, is_there, outputs in _output_batches(student, images, indices, batch_size, devices, "scores"):
        start, stop = stop, stop + int(is_there.sum())
        # With their padding: a last batch of another size would be compiled anew.
        of_batch = scores_of_outputs(outputs, representations.outputs_of(seen), gaussian)
        for name, values in of_batch.items():
            scores[name][start:stop] = np.asarray(values)[is_there]
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise DegenerateDataError(f"scores of {name} are not finite: lower --config.distill.learning_rate")
    return dict(scores)


def measure_brittleness(
    student: Network,
    teacher: Network,
    representations: Representations,
    images: ImageSet,
    indices: np.ndarray,
    batch_size: int,
    devices: DeviceGroup,
    *,
    path: str,
) -> BrittlenessTerms:
    """Returns both terms of Equation 2 over the images.

    Where the teacher's output is a constant (path "student"), it is taken from `representations`.
    """
    nothing = empty_terms(representations.num_features)
    model = devices.replicate((student, teacher if path == "both" else None))
    batches = _batches_with_targets(representations, images, indices, batch_size, devices)
    with console.track("input gradients", len(indices)) as progress:
        for batch, terms in devices.accumulation(_add_brittleness, path)(model, nothing, batches):
            total = terms
            progress.update(int(batch["mask"].sum()))
    return BrittlenessTerms(
        gradient_norms=merge_device_moments(total.gradient_norms), errors=merge_device_moments(total.errors)
    )


def _batches_with_targets(
    representations: Representations,
    images: ImageSet,
    indices: np.ndarray,
    batch_size: int,
    devices: DeviceGroup,
) -> Iterator[Batch]:
    """Yields batches of images, with `target` [N, F], the teacher's outputs for them."""
    representations.compute(indices)
    for batch in evaluation_batches(
        images, indices, devices.fit_batch_size(batch_size, len(indices), images.image_shape)
    ):
        yield {**batch, "target": representations.outputs_of(indices[batch["position"]])}


def _outputs(network, batch):
    return network(to_unit_range(batch["image"]))


def _known_outputs(outputs, images):
    """A network, once it is given its outputs."""
    del images
    return outputs


def _add_brittleness(path, model, total, batch):
    student, teacher = model
    images = to_unit_range(batch["image"])
    if teacher is None:
        teacher = jax.tree_util.Partial(_known_outputs, batch["target"])
    return update_terms(total, student, teacher, images, batch["mask"], path=path)
