"""How well anomaly scores separate anomalous from normal test samples."""

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

from brittle_jax.errors import DegenerateDataError


def separation(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Returns AUROC, average precision, and the false-positive rate at 95% true positives, as fractions.

    Args:
        labels: [N], 0 normal, 1 anomalous (the positive class); both must occur.
        scores: [N], higher is more anomalous. AUROC below 0.5 is reported as it is.

    Raises:
        DegenerateDataError: where a class is empty.
    """
    if len(np.unique(labels)) < 2:
        raise DegenerateDataError("AUROC needs both normal and anomalous samples")
    false_positive_rate, true_positive_rate, _ = sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)
    return {
        "auroc": float(sklearn_metrics.roc_auc_score(labels, scores)),
        "average_precision": float(sklearn_metrics.average_precision_score(labels, scores)),
        "fpr_at_95_tpr": float(false_positive_rate[true_positive_rate >= 0.95].min()),
    }


def roc_band(
    labels: np.ndarray, scores: np.ndarray, *, num_samples: int, seed: int, level: float = 0.95
) -> dict[str, np.ndarray]:
    """Returns the ROC curve at 101 false-positive rates, with a bootstrap interval at each.

    Between thresholds the curve is a straight line, so that ties count one half, as in the AUROC. Normal and
    anomalous samples are resampled apart, as in `auroc_interval`.

    Args:
        labels, scores, num_samples, seed, level: as in `auroc_interval`.

    Returns:
        [101] each: `false_positive_rate`, `true_positive_rate`, `low`, `high`, as fractions.
    """
    rates = np.linspace(0, 1, 101)
    # Equal scores share a threshold; the highest comes first.
    _, thresholds = np.unique(-scores, return_inverse=True)
    normal, anomalous = thresholds[labels == 0], thresholds[labels == 1]

    def curve(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
        num_thresholds = thresholds.max() + 1
        false_positives, true_positives = (
            np.cumsum(np.bincount(each, minlength=num_thresholds)) / len(each) for each in (normal, anomalous)
        )
        # Where the line is vertical, its upper end counts: interp takes the last of equal places.
        return np.interp(rates, np.append(0, false_positives), np.append(0, true_positives))

    rng = np.random.default_rng(seed)
    resampled = [
        curve(rng.choice(normal, len(normal)), rng.choice(anomalous, len(anomalous))) for _ in range(num_samples)
    ]
    tail = 50 * (1 - level)
    low, high = np.percentile(resampled, [tail, 100 - tail], axis=0)
    return {"false_positive_rate": rates, "true_positive_rate": curve(normal, anomalous), "low": low, "high": high}


def auroc_interval(
    labels: np.ndarray, scores: np.ndarray, *, num_samples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Returns a bootstrap interval of the AUROC: percentiles over resampled test samples.

    Normal and anomalous samples are resampled apart, so that no resample lacks a class. Training variance is
    not in it.

    Args:
        labels, scores: as in `separation`.
        num_samples: how many resamples.
        level: share of the resamples inside the interval.
    """
    rng = np.random.default_rng(seed)
    # Equal scores get one rank, so that ties count one half.
    _, ranks = np.unique(scores, return_inverse=True)
    num_ranks = ranks.max() + 1
    normal, anomalous = ranks[labels == 0], ranks[labels == 1]
    areas = np.empty(num_samples)
    for sample in range(num_samples):
        normal_counts = np.bincount(rng.choice(normal, len(normal)), minlength=num_ranks)
        anomalous_counts = np.bincount(rng.choice(anomalous, len(anomalous)), minlength=num_ranks)
        below = np.cumsum(normal_counts) - 0.5 * normal_counts
        areas[sample] = anomalous_counts @ below / (len(normal) * len(anomalous))
    tail = 50 * (1 - level)
    low, high = np.percentile(areas, [tail, 100 - tail])
    return float(low), float(high)


def share(is_true: np.ndarray) -> tuple[float | None, list[float] | None]:
    """Returns how many of some samples [N] bool are true, and its 95% interval (Wilson); None of none."""
    if not len(is_true):
        return None, None
    test = stats.binomtest(int(is_true.sum()), len(is_true))
    return float(is_true.mean()), [float(edge) for edge in test.proportion_ci(method="wilson")]
