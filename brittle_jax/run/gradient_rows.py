"""The file of a run that holds input-gradient norms and errors of its normal training images, and test errors."""

import pathlib

import numpy as np

from brittle_jax import files
from brittle_jax.apply.brittleness import MeasuredBrittleness
from brittle_jax.evaluate.moments import covariance_of


class KeptTestErrors:
    """A student's errors on test images: of all of them or, if they are too large, of a sample.

    The sample has both labels in proportion.

    Attributes:
        images: [K], indices of the images in the data set.
        labels: [K], 0 normal, 1 anomalous.
        errors: [K, F] float32, filled by `take`.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, num_features: int, *, most_bytes: int, seed: int):
        """Draws the sample.

        Args:
            images, labels: [M], of all test images.
            num_features: F.
            most_bytes: that errors may take.
            seed: of the draw.
        """
        chosen = _in_proportion(labels, _most_rows(most_bytes, num_features), seed)
        self.images, self.labels = images[chosen], labels[chosen]
        self.errors = np.empty((len(chosen), num_features), np.float32)
        self._place_of_image = np.full(len(images), -1)
        self._place_of_image[chosen] = np.arange(len(chosen))

    def take(self, images: slice, errors: np.ndarray) -> None:
        """Takes the errors of a slice of the M images, [slice, F], and keeps those that were drawn."""
        places = self._place_of_image[images]
        self.errors[places[places >= 0]] = errors[places >= 0]


def _in_proportion(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Returns the positions of at most so many labels, in order: all of them, or a sample."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    num_anomalous = round(most * float((labels == 1).mean()))
    counts = {0: most - num_anomalous, 1: num_anomalous}
    drawn = [rng.choice(np.flatnonzero(labels == each), count, replace=False) for each, count in counts.items()]
    return np.sort(np.concatenate(drawn))


def _most_rows(most_bytes: int, num_features: int) -> int:
    return most_bytes // (4 * num_features)


def write(
    path: pathlib.Path,
    measured: MeasuredBrittleness,
    images: np.ndarray,
    *,
    most_bytes: int,
    seed: int,
    by_dimension: np.ndarray | None = None,
    of_test: KeptTestErrors | None = None,
) -> None:
    """Writes an .npz file: norms of all images, errors of all of them or, if they are too large, of a sample.

    Its arrays: `image` [M], indices of the images in the data set; `gradient_norm` [M] float32; `error` [K, F] float32
    and `error_image` [K], indices of the images that they are of; `error_mean` and `error_variance` [F] float64, over
    all M, ddof 1; `gradient_norm_by_dimension` [F] float64, if that was measured; `test_error`, `test_image` and
    `test_label`, the errors, images and labels of `KeptTestErrors`, if there are any.

    Args:
        images: [M], the images that were measured.
        most_bytes: that errors may take; beyond that K images are drawn.
        seed: of the draw.
        by_dimension: [F], what each output dimension adds to the mean norm; None: not measured.
        of_test: errors on test images; None: not measured.
    """
    optional = {} if by_dimension is None else {"gradient_norm_by_dimension": by_dimension}
    if of_test is not None:
        optional |= {"test_error": of_test.errors, "test_image": of_test.images, "test_label": of_test.labels}
    num_images, num_features = measured.errors.shape
    chosen = np.arange(num_images)
    num_kept = _most_rows(most_bytes, num_features)
    if num_kept < num_images:
        chosen = np.sort(np.random.default_rng(seed).choice(num_images, num_kept, replace=False))
    errors = measured.terms.errors
    with files.replacing(path) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            image=images,
            gradient_norm=measured.gradient_norms,
            error=measured.errors[chosen],
            error_image=images[chosen],
            error_mean=errors.mean,
            error_variance=covariance_of(errors),
            **optional,
        )
