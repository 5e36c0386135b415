"""Scores of a row's samples, and how near its student has come to the teacher."""

import numpy as np

from brittle_jax import console, results
from brittle_jax.apply import detector as detector_lib
from brittle_jax.apply.detector import Detector
from brittle_jax.data.one_class import Configuration
from brittle_jax.evaluate import samples
from brittle_jax.inference import Representations
from brittle_jax.run.row import Row

# The detector that a student would be which always gives the teacher's mean, by its coordinates.
_MEAN_PREDICTOR = {"raw": "mse", "standardised": "mahalanobis_diag", "whitened": "mahalanobis_full"}


def score(
    row: Row, detector: Detector, representations: Representations, chosen: np.ndarray
) -> tuple[samples.Scores, samples.Scores]:
    """Returns the scores of the images of some samples [S], and those of the samples; empty ones of no samples."""
    if not len(chosen):
        return {}, {}
    images = row.dataset.images_of(chosen)
    image_scores = detector_lib.score(detector, row.dataset.images, images, row.loop, representations)
    return image_scores, samples.sample_scores(row.dataset, images, image_scores, chosen)


def student_error(
    row: Row, detector: Detector, normal: np.ndarray, images: np.ndarray, image_scores: samples.Scores
) -> dict[str, float | None]:
    """Compares the student with the mean predictor, which always gives the teacher's mean, on normal test samples.

    Both are compared in the coordinates in which the student has learned. There the mean predictor is one of the other
    detectors: MSE, or in standardised or whitened coordinates a Mahalanobis distance.

    Args:
        normal: the normal samples.
        images: [M], the images that were scored, these samples' among them.
        image_scores: [M] each, by detector.

    Returns:
        The student's `loss`, the `mean_predictor_loss`, and their ratio, `error_ratio`: 1 where the student is no
        better, and None where the teacher's outputs do not vary.
    """
    is_normal = np.isin(row.dataset.sample_of_image[images], normal)
    num_features = detector.gaussian.mean.size
    loss = float(image_scores["kd"][is_normal].mean() / num_features)
    mean_predictor = _MEAN_PREDICTOR[detector.targets]
    mean_predictor_loss = float(image_scores[mean_predictor][is_normal].mean())
    if mean_predictor != "mse":  # a sum over features, where MSE is a mean
        mean_predictor_loss /= num_features
    errors = {"loss": loss, "mean_predictor_loss": mean_predictor_loss}
    return {**errors, "error_ratio": results.error_ratio(**errors)}


def warn_if_untaught(configuration: Configuration, error: dict[str, float | None]) -> None:
    """Warns of a student that is no better than the mean predictor."""
    if error["loss"] >= error["mean_predictor_loss"]:
        console.warn(
            f"{configuration.name}: the student's error on normal test images, {error['loss']:.4g}, is not below that "
            f"of always predicting the teacher's mean, {error['mean_predictor_loss']:.4g}: it has not learned the "
            "teacher yet (train longer, distill.num_epochs)"
        )
