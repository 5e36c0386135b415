"""Scores of a row's samples, and how near its student has come to the teacher."""

from collections.abc import Callable
from typing import Any

import numpy as np

from brittle_jax import console, results
from brittle_jax.apply import detector as detector_lib
from brittle_jax.apply.detector import Detector
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration
from brittle_jax.evaluate import conformal, samples
from brittle_jax.evaluate.calibration import Calibration, is_grey, joined_groups
from brittle_jax.inference import Representations
from brittle_jax.run.row import Row

FALSE_ALARM_RATE = 0.05  # of the threshold that results.json has
# The detector that a student would be which always gives the teacher's mean, by its coordinates.
_MEAN_PREDICTOR = {"raw": "mse", "standardised": "mahalanobis_diag", "whitened": "mahalanobis_full"}


def score(
    row: Row,
    detector: Detector,
    representations: Representations,
    chosen: np.ndarray,
    take_errors: Callable[[slice, np.ndarray], None] | None = None,
) -> tuple[samples.Scores, samples.Scores]:
    """Returns the scores of the images of some samples [S], and those of the samples; empty ones of no samples.

    Args:
        take_errors: as in `detector.score`.
    """
    if not len(chosen):
        return {}, {}
    images = row.dataset.images_of(chosen)
    image_scores = detector_lib.score(detector, row.dataset.images, images, row.loop, representations, take_errors)
    return image_scores, samples.sample_scores(row.dataset, images, image_scores, chosen)


def calibrate(row: Row, detector: Detector, representations: Representations, chosen: np.ndarray) -> Calibration | None:
    """Returns some samples as calibration samples of a detector; None if there are none."""
    if not len(chosen):
        return None
    dataset, samples_of = row.dataset, row.dataset.samples
    _, scores = score(row, detector, representations, chosen)
    properties = None if dataset.files is None else _properties_of_files(dataset, chosen)
    groups = joined_groups(samples_of.groups[chosen].tolist(), samples_of.digests[chosen].tolist())
    return Calibration(samples_of.ids[chosen].tolist(), scores, groups, properties)


def _properties_of_files(dataset: Dataset, chosen: np.ndarray) -> np.ndarray:
    """Returns what `Calibration.properties` has of the files of some samples."""
    has_colour = np.zeros((len(dataset.samples), len(dataset.views)), bool)
    for image in dataset.images_of(chosen).tolist():
        where = dataset.sample_of_image[image], dataset.view_of_image[image]
        has_colour[where] |= not is_grey(dataset.images.read(image)[None])
    columns = [dataset.files[chosen, :, :3], ~has_colour[chosen, :, None]]
    return np.concatenate(columns, axis=-1).astype(int).reshape(-1, 4)


def calibration_in_numbers(calibration: Calibration, scores: samples.Scores, labels: np.ndarray) -> dict[str, Any]:
    """Returns what calibration samples say about the test samples, ready for JSON.

    Args:
        scores: [S] each, of the test samples, by detector.
        labels: [S], 0 normal, 1 anomalous.

    Returns:
        `num_samples`, `num_groups`, which count; `false_alarm_rate`, which is asked for; `num_needed` for it; `bound`:
        the rate is at most that, with confidence 95%; `thresholds` by detector, `flagged_normal` and
        `flagged_anomalous`, the shares of test samples above them. What there are too few samples for is None.
    """
    num_groups, needed = calibration.num_groups, conformal.num_needed(FALSE_ALARM_RATE)
    thresholds = flagged = dict.fromkeys(scores)
    shares = {"flagged_normal": flagged, "flagged_anomalous": flagged}
    bound = None
    if num_groups >= needed:
        bound = conformal.rate_bound(num_groups, FALSE_ALARM_RATE)
        thresholds = {name: conformal.threshold(calibration.scores_of(name), FALSE_ALARM_RATE) for name in scores}
        for share, label in (("flagged_normal", 0), ("flagged_anomalous", 1)):
            judged = labels == label
            if judged.any():
                shares[share] = {name: float((scores[name][judged] > thresholds[name]).mean()) for name in scores}
    return {
        "num_samples": len(calibration),
        "num_groups": num_groups,
        "false_alarm_rate": FALSE_ALARM_RATE,
        "num_needed": needed,
        "bound": bound,
        "thresholds": thresholds,
        **shares,
    }


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
            "teacher yet, so kd and brittleness say little (train longer, distill.num_epochs)"
        )
