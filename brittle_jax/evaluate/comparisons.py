"""Whether one detector, or one teacher, tells anomalies better than another on the same test samples."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
    """A difference of two AUROCs, as fractions.

    Attributes:
        value: the first less the second.
        interval: 95%, percentiles of a paired bootstrap over test samples.
        p_value: two-sided: that of the value over the bootstrap's standard deviation, as a normal deviate. The share
            of resamples beyond 0 could not be small enough for a correction for many differences.
    """

    value: float
    interval: tuple[float, float]
    p_value: float


def bootstrap_aurocs(
    labels: np.ndarray, scores: Mapping[str, np.ndarray], *, num_samples: int, seed: int
) -> dict[str, np.ndarray]:
    """Returns the AUROC of each score on the test samples, and then on resamples of them.

    All scores have the same resamples, so that they can be compared in pairs; so have all calls with the same labels
    and seed. Normal and anomalous samples are resampled apart.

    Args:
        labels: [S], 0 normal, 1 anomalous; both must occur.
        scores: [S] each, by name; higher is more anomalous.
        num_samples: B, how many resamples.

    Returns:
        [1 + B] each: the AUROC itself first.
    """
    rng = np.random.default_rng(seed)
    normal_counts, anomalous_counts = (
        _resampling_counts(int((labels == label).sum()), num_samples, rng) for label in (0, 1)
    )
    aurocs = {}
    for name, values in scores.items():
        normal, anomalous = values[labels == 0], values[labels == 1]
        order = np.argsort(normal)
        below = np.zeros((len(normal) + 1, 1 + num_samples), np.float32)  # counts of the normal samples up to each one
        np.cumsum(normal_counts[order], axis=0, out=below[1:])
        ordered = normal[order]
        left, right = (np.searchsorted(ordered, anomalous, side) for side in ("left", "right"))
        pairs = np.einsum("sb,sb->b", anomalous_counts, below[left] + below[right], dtype=float)
        aurocs[name] = pairs / (2 * len(normal) * len(anomalous))  # ties count one half
    return aurocs


def _resampling_counts(count: int, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns how often each of some samples is in each resample: [count, 1 + B], the first column all ones."""
    drawn = rng.integers(count, size=(num_samples, count))
    counts = np.ones((count, 1 + num_samples), np.float32)
    for number, chosen in enumerate(drawn, 1):
        counts[:, number] = np.bincount(chosen, minlength=count)
    return counts


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compares two AUROCs with the same resamples, [1 + B] each, as `bootstrap_aurocs` returns them."""
    differences = np.asarray(first) - np.asarray(second)
    value, deviation = float(differences[0]), float(np.std(differences[1:], ddof=1))
    if deviation == 0:
        p_value = 1.0 if value == 0 else 0.0
    else:
        p_value = math.erfc(abs(value) / deviation / math.sqrt(2))
    low, high = np.percentile(differences[1:], [2.5, 97.5])
    return Difference(value, (float(low), float(high)), p_value)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Returns p-values corrected for their number (Holm 1979), in the order given; at most 1."""
    corrected, highest = {}, 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_value))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}
