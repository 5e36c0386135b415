"""From the scores of images to those of samples, and how well these separate: for parcels, by view too."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from brittle_jax.data.dataset import Dataset
from brittle_jax.evaluate import metrics

Scores = dict[str, np.ndarray]

_METRICS = ("auroc", "average_precision", "fpr_at_95_tpr")


def sample_scores(dataset: Dataset, indices: np.ndarray, image_scores: Scores, samples: np.ndarray) -> Scores:
    """Returns each sample's score: the largest of its images' (Sec. 3.2).

    Args:
        indices: [M], the images that were scored.
        image_scores: [M] each, by detector.
        samples: [S], indices of the samples; every one has an image among `indices`.

    Returns:
        [S] each, by detector.
    """

    def largest_of_each_sample(values: np.ndarray) -> np.ndarray:
        largest = np.full(len(dataset.samples), -np.inf)
        np.maximum.at(largest, dataset.sample_of_image[indices], values)
        return largest[samples]

    return {name: largest_of_each_sample(values) for name, values in image_scores.items()}


def deciding_images(dataset: Dataset, indices: np.ndarray, values: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Returns for each sample the index of the image with the largest value, which is the sample's score.

    Args:
        indices, samples: as in `sample_scores`.
        values: [M], one detector's scores of the images.
    """
    ascending = indices[np.argsort(values, kind="stable")]
    deciding = np.full(len(dataset.samples), -1)
    deciding[dataset.sample_of_image[ascending]] = ascending  # of several, the last and largest stays
    return deciding[samples]


def separations(labels: np.ndarray, scores: Scores, *, bootstrap_samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Returns every metric of every detector: `{"auroc": {"kd": ...}, "auroc_interval": {"kd": [low, high]}, ...}`.

    Where there are no anomalous samples, nothing can be separated, and all are None.
    """
    if not np.any(labels):
        return {metric: dict.fromkeys(scores) for metric in (*_METRICS, "auroc_interval")}
    by_detector = {name: metrics.separation(labels, values) for name, values in scores.items()}
    by_metric = {metric: {name: values[metric] for name, values in by_detector.items()} for metric in _METRICS}
    intervals = {
        name: metrics.auroc_interval(labels, values, num_samples=bootstrap_samples, seed=seed)
        for name, values in scores.items()
    }
    return {**by_metric, "auroc_interval": intervals}


def separations_by_kind(
    labels: np.ndarray, kinds: Sequence[str], scores: Scores, *, bootstrap_samples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Returns how well each kind of anomaly alone is told from all normal samples.

    Args:
        labels: [S], 0 normal, 1 anomalous.
        kinds: [S], the class of each sample.
        scores: [S] each, by detector.
        bootstrap_samples, seed: as in `separations`.

    Returns:
        `{"scab": {"num_test": 40, "auroc": {"kd": ...}, ...}, ...}`, with every metric of `separations`, by name;
        empty where there are fewer than two kinds, which the numbers of all anomalies then say already.
    """
    labels, kinds = np.asarray(labels), np.asarray(kinds)
    names = np.unique(kinds[labels == 1])
    if len(names) < 2:
        return {}
    by_kind = {}
    for name in names:
        judged = (labels == 0) | (kinds == name) & (labels == 1)
        of_kind = {detector: values[judged] for detector, values in scores.items()}
        separation = separations(labels[judged], of_kind, bootstrap_samples=bootstrap_samples, seed=seed)
        by_kind[str(name)] = {"num_test": int(labels[judged].sum()), **separation}
    return by_kind


def auroc_by_view(
    dataset: Dataset, indices: np.ndarray, image_scores: Scores, samples: np.ndarray, labels: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Returns the AUROC where only one view of each sample counts: `{"top": {"kd": ...}, "side": {...}}`.

    Args:
        indices, image_scores, samples: as in `sample_scores`.
        labels: [S], 0 normal, 1 anomalous.
    """
    if not np.any(labels):
        return {view_name: dict.fromkeys(image_scores) for view_name in dataset.views}
    by_view = {}
    for view, view_name in enumerate(dataset.views):
        of_view = dataset.view_of_image[indices] == view
        scores_of_view = {name: values[of_view] for name, values in image_scores.items()}
        scores = sample_scores(dataset, indices[of_view], scores_of_view, samples)
        by_view[view_name] = {name: metrics.separation(labels, values)["auroc"] for name, values in scores.items()}
    return by_view
