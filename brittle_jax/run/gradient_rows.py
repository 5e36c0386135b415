"""The file of a run that holds the input-gradient norm and the error of each normal training image (Eq. 2)."""

import pathlib

import numpy as np

from brittle_jax import files
from brittle_jax.apply.brittleness import MeasuredBrittleness
from brittle_jax.evaluate.moments import covariance_of


def write(
    path: pathlib.Path,
    measured: MeasuredBrittleness,
    images: np.ndarray,
    *,
    most_bytes: int,
    seed: int,
    by_dimension: np.ndarray | None = None,
) -> None:
    """Writes an .npz file: norms of all images, errors of all of them or, if they are too large, of a sample.

    Its arrays: `image` [M], indices of the images in the data set; `gradient_norm` [M] float32; `error` [K, F] float32
    and `error_image` [K], indices of the images that they are of; `error_mean` and `error_variance` [F] float64, over
    all M, ddof 1; `gradient_norm_by_dimension` [F] float64, if that was measured.

    Args:
        images: [M], the images that were measured.
        most_bytes: that errors may take; beyond that K images are drawn.
        seed: of the draw.
        by_dimension: [F], what each output dimension adds to the mean norm; None: not measured.
    """
    optional = {} if by_dimension is None else {"gradient_norm_by_dimension": by_dimension}
    num_images, num_features = measured.errors.shape
    chosen = np.arange(num_images)
    num_kept = most_bytes // (4 * num_features)
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
